"""Which files in a folder are the frames of one clip, by their names.

A folder may hold more than one picture of each moment: optical flow or masks beside the frames, or
the frames of two cameras. They are told by their numbers, which occur twice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videorwkv.utils.words import counted

# Words of names: what a camera saw, and what was computed from it or seen otherwise.
_PICTURE = frozenset({"img", "image", "images", "frame", "frames", "rgb", "color", "colour"})
_OTHER = frozenset(
    {"flow", "flowx", "flowy", "optflow", "depth", "disp", "disparity", "mask", "masks", "seg",
     "segmentation", "gt", "groundtruth", "annotation", "label", "labels", "ir", "infrared",
     "thermal", "normal", "normals", "edge", "edges", "canny", "diff", "heatmap", "pose",
     "skeleton", "keypoints", "alpha", "matte", "thumb", "thumbnail", "preview", "saliency",
     "pred", "prediction"}
)  # fmt: skip
# Their number is that of a camera, and not of a frame.
_CAMERA = re.compile(r"((?:cam|camera|view|kinect|sensor|device|angle)[-_ ]?\d+)", re.I)


class Series(NamedTuple):
    """The frames of a clip.

    Args:
        files: they, in the order in which they were given.
        left_out: what else was found, such as `flow_x_# (16 files)`; empty where there is nothing.
        clash: several series of which none is known to be the frames; `files` are all of them then.
    """

    files: list[Path]
    left_out: str = ""
    clash: str = ""


class _Name(NamedTuple):
    """A name in small letters with `#` for its numbers, and the last of these; None without one."""

    pattern: str
    number: int | None


def choose_series(files: Sequence[Path]) -> Series:
    """The frames among the pictures of a folder.

    Pictures with the same numbers are several series. Names such as `img` and `rgb`, or mere
    numbers, are frames; `flow`, `mask`, `depth` and the like are none, beside others. Without a
    number twice, all files are one series.
    """
    groups: defaultdict[str, dict[Path, int | None]] = defaultdict(dict)
    for file in files:
        pattern, number = _read(file)
        groups[pattern][file] = number
    if len(groups) == 1:
        return Series(list(files))
    numbered = {p for p, group in groups.items() if "#" in p and len(group) > 1}
    kept = set(groups)
    if any(not _words(p) & _OTHER for p in numbered):
        kept -= {p for p in groups if _words(p) & _OTHER}
    if numbered & kept:
        # A cover or a background has no number.
        kept -= {p for p in groups if "#" not in p}
    clashing = _clashing({p: groups[p] for p in kept & numbered})
    if clashing:
        frames = {p for p in clashing if _words(p) & _PICTURE} or {
            p for p in clashing if not _words(p)
        }
        if len(frames) != 1:
            return Series(list(files), clash=_describe(clashing, groups))
        kept -= clashing - frames
    chosen = [file for file in files if any(file in groups[p] for p in kept)]
    return Series(chosen, _describe(set(groups) - kept, groups))


def _clashing(groups: dict[str, dict[Path, int | None]]) -> set[str]:
    """The patterns of which two have half of the numbers in common, or more."""
    numbers = {pattern: set(group.values()) for pattern, group in groups.items()}
    return {
        one
        for one in numbers
        for other in numbers
        if one != other
        and 2 * len(numbers[one] & numbers[other]) >= min(len(numbers[one]), len(numbers[other]))
    }


def _read(file: Path) -> _Name:
    parts = _CAMERA.split(file.stem.casefold())
    # Every second part is a camera with its number.
    pattern = "".join(
        part if place % 2 else re.sub(r"\d+", "#", part) for place, part in enumerate(parts)
    )
    numbers = re.findall(r"\d+", "".join(parts[::2]))
    suffix = file.suffix.lower().replace(".jpeg", ".jpg")
    return _Name(f"{pattern}{suffix}", int(numbers[-1]) if numbers else None)


def _words(pattern: str) -> set[str]:
    return {word for word in re.split(r"[\W\d_]+", pattern.rpartition(".")[0]) if word}


def _describe(patterns: set[str], groups: dict[str, dict[Path, int | None]]) -> str:
    shown = sorted(patterns)[:4]
    more = ", ..." * (len(patterns) > 4)
    return ", ".join(f"{p} ({counted(len(groups[p]), 'file')})" for p in shown) + more
