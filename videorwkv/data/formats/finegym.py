"""FineGym: gymnastics, events in long videos and elements in the events.

gym99       ROOT/finegym_annotation_info_v1.1.json, gym99_{train,val}_element*.txt
gym288      ROOT/finegym_annotation_info_v1.1.json, gym288_{train,val}_element*.txt
event       ROOT/finegym_annotation_info_v1.1.json alone: its events are the clips

    {"<id>": {"E_002184_002237": {"event": 1, "timestamps": [[2184.2, 2237.1]],
        "segments": {"A_0035_0036": {"stages": 1, "timestamps": [[35.2, 36.0]]}, ...}}, ...}}

    <id>_E_002184_002237_A_0035_0036 12                     gym99_train_element_v1.1.txt
    Clabel: 12; set: 22; Glabel: 80; (FX) switch leap ...   gym99_categories.txt

Times of an element count from the beginning of its event; one of several stages goes from the first
to the last. Files may lie in annotations/. A clip is found as a segment of the video <id>.mp4, as
one of the event <id>_E_002184_002237.mp4, or as a file of its own,
<id>_E_002184_002237_A_0035_0036.mp4; each may be a folder of frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from videorwkv.data.formats.activitynet import load_json, peek_json
from videorwkv.data.formats.segmented import Piece, Place, assemble, check_times, lists_in
from videorwkv.data.manifest import Manifest
from videorwkv.data.tables import read_text, split_lines
from videorwkv.errors import ManifestError
from videorwkv.video.segment import Segment

LAYOUTS = {"gym99": "Gym99", "gym288": "Gym288", "event": "event"}
# The numbers of the events.
EVENTS = {1: "vault", 2: "floor exercise", 3: "balance beam", 4: "uneven bars"}
_EVENT = re.compile(r"E_\d+_\d+")
_ELEMENT = re.compile(r"(.+)_(E_\d+_\d+)_(A_\d+_\d+)")
_CATEGORY = re.compile(r"Clabel:\s*(\d+)\s*;(?:.*?;)??\s*(?:Glabel:\s*\d+\s*;)\s*(.+)", re.I)
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


class Span(NamedTuple):
    """Seconds in the video, and of what it is a part: the event's beginning in it."""

    start: float
    end: float
    origin: float


def read(root: Path, layout: str | None = None) -> Manifest:
    """The elements or the events of a file of FineGym.

    Raises:
        ManifestError: no such file, a line or an entry that can't be understood, or an element that
            is in a list and not in the annotations.
    """
    wanted = "finegym_annotation_info_v1.1.json"
    files = [f for f in lists_in(root, recognises, wanted) if recognises(f)]
    if len(files) != 1:
        names = ", ".join(file.name for file in files)
        raise ManifestError(f"{root}: wanted one file such as {wanted}; found {names or 'none'}.")
    (file,) = files
    spans = dict(_spans(file, load_json(file)))
    folder = root if root.is_dir() else root.parent
    kinds = (layout,) if layout else ("gym99", "gym288")
    lists: dict[str, Path] = {}
    kind = "event"
    for kind in (k for k in kinds if k != "event"):
        lists = {
            split: path
            for word, split in _SPLITS.items()
            for path in sorted(file.parent.glob(f"{kind}_{word}_element*.txt"))
        }
        if lists:
            break
    else:
        kind = "event"
    if layout not in (None, kind):
        raise ManifestError(f"{file.parent}: there is no {layout}_train_element*.txt in it.")
    if kind == "event":
        pieces = list(_events(file, load_json(file), spans))
        notes = [f"FineGym, events as clips: {file.name}"]
    else:
        categories = _categories(file.parent / f"{kind}_categories.txt")
        pieces = [
            piece
            for split, path in lists.items()
            for piece in _elements(path, split, spans, categories)
        ]
        listed = ", ".join(path.name for path in lists.values())
        notes = [f"FineGym, {LAYOUTS[kind]}: {file.name}, {listed}"]
        if not categories:
            notes.append(f"{kind}_categories.txt is not beside them: classes are numbers")

    def place_of(piece: Piece, found: Mapping[str, Place]) -> tuple[str, Segment | None] | None:
        span = spans[piece.video]
        video, event, _ = _parts(piece.video)
        if piece.video in found:  # a file of its own
            return found[piece.video].path, None
        for name, origin in ((f"{video}_{event}", span.origin), (video, 0.0)):
            if name in found:
                return found[name].path, Segment(span.start - origin, span.end - origin)
        return None

    return assemble("finegym", folder, pieces, notes=notes, place_of=place_of)


def recognises(path: Path) -> bool:
    """Whether a file has such annotations: videos with events."""
    if path.suffix.lower() != ".json":
        return False
    videos = peek_json(path)
    events = next((v for v in videos.values() if v), None)
    return isinstance(events, dict) and any(_EVENT.fullmatch(str(name)) for name in events)


def _parts(name: str) -> tuple[str, str, str]:
    """Video, event, element; the last one is empty for an event."""
    if match := _ELEMENT.fullmatch(name):
        return match[1], match[2], match[3]
    video, _, event = name.rpartition("_E_")
    return video, f"E_{event}", ""


def _spans(file: Path, videos: Any) -> Iterator[tuple[str, Span]]:
    """Name of each event and each element, and where it lies in the video."""
    for video, events in _object(videos, str(file)).items():
        for event, about in _object(events, f"{file}: {video}").items():
            name = f"{video}_{event}"
            start, end = _times(about, f"{file}: {video}.{event}")
            yield name, Span(start, end, start)
            inside = _object(about.get("segments"), f"{file}: {video}.{event}.segments")
            for element, inner in inside.items():
                first, last = _times(inner, f"{file}: {video}.{event}.{element}")
                yield f"{name}_{element}", Span(start + first, start + last, start)


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ManifestError(f"{where}: wanted an object.")
    return value or {}


def _times(about: Any, where: str) -> tuple[float, float]:
    stages = about.get("timestamps") if isinstance(about, dict) else None
    is_list = isinstance(stages, list) and all(isinstance(s, list) and len(s) == 2 for s in stages)
    if not stages or not is_list:
        raise ManifestError(f"{where}: wanted timestamps, [[start, end], ...].")
    return check_times(stages[0][0], stages[-1][1], where)


def _events(file: Path, videos: Any, spans: Mapping[str, Span]) -> Iterator[Piece]:
    for video, events in videos.items():
        for event, about in (events or {}).items():
            name, number = f"{video}_{event}", about.get("event")
            if number not in EVENTS:
                raise ManifestError(f"{file}: {video}.{event}: event {number!r}; wanted 1 to 4.")
            span = spans[name]
            yield Piece(
                name, span.start, span.end, EVENTS[number], "", f"{file}: {video}.{event}",
                group=video, names=(name, video),
            )  # fmt: skip


def _elements(
    path: Path, split: str, spans: Mapping[str, Span], names: Mapping[int, str]
) -> Iterator[Piece]:
    for line, text in enumerate(split_lines(read_text(path)), start=1):
        if not text.strip():
            continue
        where = f"{path}:{line}"
        name, _, number = text.strip().rpartition(" ")
        name = name.strip()
        if not _ELEMENT.fullmatch(name) or not number.isdecimal():
            raise ManifestError(f"{where}: {text[:80]!r}: wanted `<id>_E_..._A_... label`.")
        if name not in spans:
            raise ManifestError(f"{where}: {name} is not in the annotations.")
        if names and int(number) not in names:
            raise ManifestError(f"{where}: label {number} is not in the list of categories.")
        label = names[int(number)] if names else number
        video, event, _ = _parts(name)
        span = spans[name]
        yield Piece(
            name, span.start, span.end, label, split, where, line, video,
            names=(name, f"{video}_{event}", video),
        )  # fmt: skip


def _categories(path: Path) -> dict[int, str]:
    """Number of a class -> its name; empty without such a file."""
    if not path.is_file():
        return {}
    names: dict[int, str] = {}
    for line, text in enumerate(split_lines(read_text(path)), start=1):
        if not text.strip():
            continue
        match = _CATEGORY.fullmatch(text.strip())
        if match is None:
            raise ManifestError(f"{path}:{line}: wanted `Clabel: 0; set: 11; Glabel: 1; name`.")
        name = match[2].strip()
        names[int(match[1])] = f"{name} ({match[1]})" if name in names.values() else name
    return names
