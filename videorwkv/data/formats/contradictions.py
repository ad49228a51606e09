"""What the files on disk, or its own rows, say against the reading of a list."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.formats.tree import split_in_name
from videorwkv.errors import ManifestError, VideoRWKVError
from videorwkv.utils.workers import one_by_one
from videorwkv.video.segment import Segment
from videorwkv.video.source import open_video

# Clips of a list that are looked at, and seconds for one.
LOOKED_AT = 5
TIMEOUT = 30.0

_NUMBER_AT_END = re.compile(r"(.*\S)\s+\d+")
_SPLIT_FILE = re.compile(r"(.+?)[-_ ]?(?:test[-_ ]?)?split[-_ ]?\d+", re.I)
# The end of a clip's name in HMDB51: body, camera, people, direction, quality.
_HMDB = re.compile(r"_[hluf]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_(?:goo|med|bad)_\d+\.\w+$")


class Line(NamedTuple):
    """A row of a list: path, label and number of frames as written there, None without one, and
    which part of the clip it is. Several labels are written as in `Row.label`."""

    path: str
    label: str
    number: int
    frames: int | None = None
    segment: Segment | None = None


def check_paths(
    file: Path, lines: Sequence[Line], base: Path, exists: Callable[[str], bool]
) -> None:
    """`ManifestError` if paths end in a number that does not belong to them: `clip 0 4`, where a
    clip is called `clip`."""
    for line in lines[:: len(lines) // 50 + 1]:
        match = _NUMBER_AT_END.fullmatch(line.path)
        if match is None or exists(os.path.join(base, line.path)):
            continue
        if exists(os.path.join(base, match[1])):
            raise ManifestError(
                f"{file}:{line.number}: {line.path!r} is not on disk, and {match[1]!r} is: there "
                "are more numbers behind the clip than a label. Which are they? Give --layout "
                "segments (`folder start n_frames label`), labels (`path label label`) or "
                "frames_labels (`folder n_frames label label`)."
            )


def check_frames(
    file: Path, lines: Sequence[Line], base: Path, exists: Callable[[str], bool]
) -> None:
    """Whether `n_frames` of a list is what it seems, by the frames of some of its clips.

    `exists` is asked about every clip of a list, so it must not ask the disk about each.

    Raises:
        ManifestError: most have fewer than half or more than twice as many frames.
    """
    empty = next((line for line in lines if line.frames == 0), None)
    rows = [line for line in lines if exists(os.path.join(base, line.path.rstrip("/")))]
    some = rows[:: len(rows) // LOOKED_AT + 1]
    wrong = []
    known = 0
    with closing(
        one_by_one(count_frames, [str(base / x.path) for x in some], timeout=TIMEOUT)
    ) as counts:
        for line, count in zip(some, counts, strict=True):
            if isinstance(count, int) and line.frames is not None:
                known += 1
                if not count / 2 <= line.frames <= 2 * count:
                    wrong.append((line, f"that clip has {count} frames"))
    if empty is not None and not known:
        wrong.append((empty, "no clip has 0 frames"))
    if len(wrong) > known / 2:
        line, why = wrong[0]
        raise ManifestError(
            f"{file}:{line.number}: {line.path} {line.frames} {line.label}: read as `folder "
            f"n_frames label`, but {why}. --layout labels says that these are two labels, "
            "--layout frames that they are the number of frames and the label."
        )


def count_frames(path: str) -> int | None:
    """Frames of a clip; None if it can't be read."""
    try:
        with open_video(path) as video:
            return len(video.times())
    except (VideoRWKVError, OSError):
        return None


def check_split_file(file: Path, lines: Sequence[Line]) -> None:
    """`ManifestError` on a list like those of HMDB51's splits, where 0, 1 and 2 are no labels but
    stand for unused, training and test."""
    if not {line.label for line in lines} <= {"0", "1", "2"}:
        return
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for line in lines:
        labels[os.path.dirname(line.path)].add(line.label)
    if len(labels) > 1 and all(len(found) == 1 for found in labels.values()):
        return  # a folder for each class
    match = _SPLIT_FILE.fullmatch(file.stem)
    # `train_split1` is no class of that data set, though clips may lie in `train`.
    name = match[1].lower() if match and not split_in_name(match[1]) else ""
    named = sum(name in line.path.lower() for line in lines) if name else 0
    coded = sum(_HMDB.search(line.path) is not None for line in lines)
    if max(named, coded) > len(lines) / 2:
        raise ManifestError(
            f"{file}: a file of splits as those of HMDB51, in which 0, 1 and 2 stand for unused, "
            "training and test clips and not for classes. Give the data set's folder: "
            "hmdb51:ROOT. Of another data set, write a CSV file with the header path,label,split."
        )
