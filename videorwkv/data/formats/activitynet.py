"""ActivityNet, and THUMOS and HACS in its form: segments of long videos in one JSON file.

ROOT/activity_net.v1-3.min.json

    {"version": ..., "database": {"<id>": {"subset": "training", "duration": 82.73,
        "annotations": [{"segment": [6.19, 70.48], "label": "Polishing shoes"}, ...]}, ...}}

The file may have any name. Videos are called v_<id>.mp4 or <id>.mp4, or are folders of frames with
these names. Videos of the subset `testing` have no annotations, and are no clips.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from videorwkv.data.formats.segmented import Piece, assemble, check_times, lists_in
from videorwkv.data.manifest import SPLIT_NAMES, Manifest
from videorwkv.data.tables import read_text
from videorwkv.errors import ManifestError

LAYOUTS: dict[str, str] = {}


def read(root: Path) -> Manifest:
    """The segments of a file of ActivityNet, or of the one in a folder.

    Raises:
        ManifestError: no such file, or an entry that can't be understood; the message names its
            key.
    """
    wanted = 'a JSON file with {"database": ...}'
    files = lists_in(root, recognises, wanted)
    if len(files) > 1:
        raise ManifestError(
            f"{root}: several files of annotations: {', '.join(file.name for file in files)}. Name "
            "one: activitynet:FILE."
        )
    (file,) = files
    database = load_json(file).get("database")
    if not isinstance(database, dict):
        raise ManifestError(f"{file}: wanted {wanted}.")
    pieces: list[Piece] = []
    lengths: dict[str, float] = {}
    bare = 0
    for video, about in database.items():
        where = f"{file}: database.{video}"
        if not isinstance(about, dict) or not isinstance(about.get("annotations", []), list):
            raise ManifestError(f"{where}: wanted an object with a list of annotations.")
        subset = str(about.get("subset", "")).lower()
        split = SPLIT_NAMES.get(subset, subset)
        if about.get("duration") is not None:
            lengths[video] = check_times(0, about["duration"], f"{where}.duration")[1]
        annotations = about.get("annotations", [])
        bare += not annotations
        for number, one in enumerate(annotations):
            place = f"{where}.annotations[{number}]"
            segment = one.get("segment") if isinstance(one, dict) else None
            if not isinstance(segment, list) or len(segment) != 2:
                raise ManifestError(f"{place}: wanted a segment of two numbers.")
            label = one.get("label")
            if not isinstance(label, str) or not label.strip():
                raise ManifestError(f"{place}: it has no label.")
            start, end = check_times(segment[0], segment[1], place)
            pieces.append(
                Piece(video, start, end, label.strip(), split, place, names=(f"v_{video}", video))
            )
    notes = [f"ActivityNet's form: {file.name}"]
    if bare:
        notes.append(f"videos without annotations, which are no clips: {bare:,}")
    folder = root if root.is_dir() else root.parent
    return assemble("activitynet", folder, pieces, notes=notes, lengths=lengths)


def recognises(path: Path) -> bool:
    """Whether a file is in this form."""
    return path.suffix.lower() == ".json" and isinstance(peek_json(path).get("database"), dict)


def load_json(path: Path) -> Any:
    """What a JSON file holds; `ManifestError` names the line if it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{error.lineno}: not JSON ({error.msg}).") from error
    except RecursionError as error:
        raise ManifestError(f"{path}: not read: it is nested too deeply.") from error


def peek_json(path: Path) -> dict[str, Any]:
    """What a file holds that may be anything; empty where it is no object."""
    try:
        found = load_json(path)
    except ManifestError:
        return {}
    return found if isinstance(found, dict) else {}
