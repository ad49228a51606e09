"""WLASL: signs of American Sign Language, a word each, in one JSON file.

ROOT/WLASL_v0.3.json

    [{"gloss": "book", "instances": [{"video_id": "69241", "split": "train", "signer_id": 118,
        "frame_start": 1, "frame_end": -1, "fps": 25, "url": ..., "bbox": ...}, ...]}, ...]

Frames count from 1, the last one included, in a video decoded at `fps` (25); -1 is the end of the
video. So they are taken as seconds. A clip is found as <video_id>.mp4, or as the YouTube video that
its address names, <11 letters>.mp4. The official preparation cuts the former at these frames
already: files that are as long as their segment are taken whole, as a look at some of them tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from videorwkv.data.formats.activitynet import load_json
from videorwkv.data.formats.segmented import (
    Piece,
    Place,
    assemble,
    find_videos,
    lists_in,
)
from videorwkv.data.manifest import SPLIT_NAMES, Manifest
from videorwkv.errors import ManifestError, VideoRWKVError
from videorwkv.utils.workers import one_by_one
from videorwkv.video.segment import Segment
from videorwkv.video.source import open_video

LAYOUTS = {"raw": "videos that are not cut", "cut": "videos that are cut to the sign"}
# Videos that are looked at, and seconds for one.
LOOKED_AT = 8
TIMEOUT = 30.0
_YOUTUBE = re.compile(r"(?:youtu\.be/|v=|embed/)([\w-]{11})", re.A)


def read(root: Path, layout: str | None = None) -> Manifest:
    """The signs of a file of WLASL, or of the one in a folder.

    Raises:
        ManifestError: no such file, or an entry that can't be understood; the message names its
            key.
    """
    files = lists_in(root, recognises, "WLASL_v0.3.json, a list of glosses with instances,")
    if len(files) > 1:
        raise ManifestError(
            f"{root}: several such files: {', '.join(file.name for file in files)}. Name one: "
            "wlasl:FILE."
        )
    (file,) = files
    glosses = load_json(file)
    if not isinstance(glosses, list):
        raise ManifestError(f"{file}: wanted a list of glosses with instances.")
    pieces = [
        _piece(instance, gloss, f"{file}: {gloss}.instances[{number}]")
        for place, about in enumerate(glosses)
        for gloss, instances in [_gloss(about, f"{file}: [{place}]")]
        for number, instance in enumerate(instances)
    ]
    folder = root if root.is_dir() else root.parent
    found = find_videos(folder, {name for piece in pieces for name in piece.names})
    is_cut = layout == "cut" if layout else _are_cut(pieces, found)
    notes = [f"WLASL: {file.name}"]
    if any(piece.start > 0 or piece.end < math.inf for piece in pieces):
        how = "as --layout says" if layout else "by the length of some; --layout says otherwise"
        kind = LAYOUTS["cut" if is_cut else "raw"]
        notes.append(f"files called by their video_id are {kind}, {how}")

    def place_of(piece: Piece, found: Mapping[str, Place]) -> tuple[str, Segment | None] | None:
        for name in piece.names:
            if name in found:
                own = is_cut and name == piece.video
                whole = own or (piece.start == 0 and piece.end == math.inf)
                return found[name].path, None if whole else Segment(piece.start, piece.end)
        return None

    return assemble("wlasl", folder, pieces, notes=notes, place_of=place_of)


def recognises(path: Path) -> bool:
    """Whether a file is such a list."""
    if path.suffix.lower() != ".json":
        return False
    try:
        found = load_json(path)
    except ManifestError:
        return False
    first = found[0] if isinstance(found, list) and found else None
    return isinstance(first, dict) and {"gloss", "instances"} <= {*first}


def _gloss(about: Any, where: str) -> tuple[str, list[Any]]:
    is_one = isinstance(about, dict) and isinstance(about.get("instances"), list)
    if not is_one or not isinstance(about.get("gloss"), str):
        raise ManifestError(f"{where}: wanted a gloss and its instances.")
    return about["gloss"].strip(), about["instances"]


def _piece(instance: Any, gloss: str, where: str) -> Piece:
    if not isinstance(instance, dict) or not instance.get("video_id"):
        raise ManifestError(f"{where}: it has no video_id.")
    video = str(instance["video_id"])
    first, last = instance.get("frame_start", 1), instance.get("frame_end", -1)
    rate = instance.get("fps") or 25
    numbers = (first, last, rate)
    if any(isinstance(n, bool) or not isinstance(n, int) for n in numbers) or rate < 1:
        raise ManifestError(f"{where}: frame_start, frame_end and fps must be whole numbers.")
    if first < 0 or (last != -1 and last < max(1, first)):
        raise ManifestError(
            f"{where}: frame_start {first} and frame_end {last} are no segment; frames count from "
            "1, and -1 is the end of the video."
        )
    split = str(instance.get("split", "")).lower()
    match = _YOUTUBE.search(str(instance.get("url", "")))
    signer = instance.get("signer_id")
    return Piece(
        video,
        max(0, first - 1) / rate,
        math.inf if last == -1 else last / rate,
        gloss,
        SPLIT_NAMES.get(split, split),
        where,
        group="" if signer is None else str(signer),
        names=(video, match[1]) if match else (video,),
    )


def _are_cut(pieces: Sequence[Piece], found: Mapping[str, Place]) -> bool:
    """Whether most of some files are as long as their segments alone, and not as the way to their
    ends."""
    known = [p for p in pieces if p.start > 0 and p.end < math.inf and p.video in found]
    some = known[:: len(known) // LOOKED_AT + 1]
    votes = []
    paths = [found[piece.video].path for piece in some]
    with closing(one_by_one(_seconds, paths, timeout=TIMEOUT)) as lengths:
        for piece, length in zip(some, lengths, strict=True):
            if isinstance(length, float):
                own = piece.end - piece.start
                votes.append(abs(length - own) < abs(length - piece.end) and length < piece.end)
    return 2 * sum(votes) > len(votes)


def _seconds(path: str) -> float | None:
    """Length of a video; None if it can't be read."""
    try:
        with open_video(path, frame_rate=25) as video:
            times = video.times()
    except (VideoRWKVError, OSError):
        return None
    return float(times[-1]) * len(times) / max(1, len(times) - 1)
