"""Lists with several numbers behind a clip: `clip 64 3`, `clip 0 24 3`, `clip 0 4`, `clip 64 0 4`.

Numbers of frames, the first frame of a segment, and labels look alike. The clips on disk tell: how
many frames they have, and whether a clip is listed once or with another beginning each time.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.formats.contradictions import LOOKED_AT, TIMEOUT, Line, count_frames
from videorwkv.data.manifest import join_labels
from videorwkv.errors import ManifestError
from videorwkv.utils.workers import one_by_one
from videorwkv.video.base import VIDEO_SUFFIXES
from videorwkv.video.segment import Segment

LAYOUTS = {
    "segments": "`folder start n_frames label`",
    "labels": "`path label label ...`",
    "frames_labels": "`folder n_frames label label ...`",
}
# How far a number of frames may be from that of a clip, of which it is so a part.
NEAR = 0.1
_SUFFIXES = "|".join(re.escape(suffix) for suffix in VIDEO_SUFFIXES)
_VIDEO = re.compile(rf"(.+(?:{_SUFFIXES}))((?:\s+\d+)+)", re.I)
_NUMBER = re.compile(r"(.*\S)\s+(\d+)")


class Tail(NamedTuple):
    """A row: the clip, the numbers behind it, the line, and whether the clip is on disk."""

    path: str
    numbers: tuple[int, ...]
    line: int
    is_there: bool


def read_numbers(
    file: Path,
    texts: Sequence[tuple[int, str]],
    base: Path,
    exists: Callable[[str], bool],
    layout: str | None,
) -> tuple[str, list[Line]] | None:
    """The layout and the rows of a list with several numbers behind most clips; None if it is none,
    or a list of `folder n_frames label`.

    Args:
        file: the list, for messages.
        texts: its lines, with their numbers.
        base: where paths start.
        exists: asked about each clip.
        layout: one of `LAYOUTS`; None finds out.

    Raises:
        ManifestError: it can't be told which numbers are what, or a row has too few.
    """
    tails = [_tail(line, text, base, exists) for line, text in texts]
    if layout is None:
        layout = _choose(file, tails, base)
    return None if layout is None else (layout, [_line(file, tail, layout) for tail in tails])


def _tail(line: int, text: str, base: Path, exists: Callable[[str], bool]) -> Tail:
    def is_there(path: str) -> bool:
        return exists(os.path.join(base, path.rstrip("/")))

    if match := _VIDEO.fullmatch(text):
        numbers = tuple(int(number) for number in match[2].split())
        return Tail(match[1], numbers, line, is_there(match[1]))
    path = text
    found: list[int] = []
    # A folder may be called `clip 1`: it is the longest name that is on disk.
    while match := _NUMBER.fullmatch(path):
        path = match[1]
        found.insert(0, int(match[2]))
        if is_there(path):
            return Tail(path, tuple(found), line, True)
    return Tail(path, tuple(found), line, False)


def _choose(file: Path, tails: Sequence[Tail], base: Path) -> str | None:
    present = [tail for tail in tails if tail.is_there]
    lengths = Counter(len(tail.numbers) for tail in present or tails)
    if max(lengths, default=0) < 2 or (not present and set(lengths) != {2}):
        return None
    are_videos = all(_VIDEO.fullmatch(f"{tail.path} 0") for tail in present)
    several = len(lengths) > 1
    if several and min(lengths) == 1:
        return "labels"
    counts = _count(present, base)
    begins = [tail.numbers[0] for tail, count in counts]
    if not several and 2 in lengths:
        if not are_videos:
            return None  # `folder n_frames label`, which is checked
        wrong = sum(not c / 2 <= n <= 2 * c for n, (_, c) in zip(begins, counts, strict=True))
        return "labels" if 2 * wrong > len(counts) else None
    is_number = bool(counts) and all(
        abs(n - c) <= NEAR * c for n, (_, c) in zip(begins, counts, strict=True)
    )
    if is_number:
        return "frames_labels"
    if several or 3 not in lengths:
        return "labels"
    starts: defaultdict[str, set[int]] = defaultdict(set)
    for tail in present:
        starts[tail.path].add(tail.numbers[0])
    fits = all(t.numbers[1] > 0 and sum(t.numbers[:2]) <= c for t, c in counts)
    if not fits:
        return "labels"
    # Lists of several labels give each folder its number of frames, which would have been found.
    if not are_videos or any(len(found) > 1 for found in starts.values()):
        return "segments"
    first = present[0]
    raise ManifestError(
        f"{file}:{first.line}: {first.path} with the numbers "
        f"{' '.join(map(str, first.numbers))}: which of them are frames and which labels? Give "
        "--layout segments (`folder start n_frames label`), --layout labels (`path label label "
        "label`) or --layout frames_labels (`folder n_frames label label`)."
    )


def _count(present: Sequence[Tail], base: Path) -> list[tuple[Tail, int]]:
    """Frames of some clips."""
    some = list({tail.path: tail for tail in present}.values())
    some = some[:: len(some) // LOOKED_AT + 1]
    paths = [os.path.join(base, tail.path) for tail in some]
    with closing(one_by_one(count_frames, paths, timeout=TIMEOUT)) as counts:
        return [(tail, n) for tail, n in zip(some, counts, strict=True) if isinstance(n, int)]


def _line(file: Path, tail: Tail, layout: str) -> Line:
    where = f"{file}:{tail.line}"
    numbers = tail.numbers
    least = {"segments": 3, "frames_labels": 2}.get(layout, 1)
    if len(numbers) < least:
        raise ManifestError(
            f"{where}: {tail.path} has {len(numbers)} numbers behind it; wanted {LAYOUTS[layout]}."
        )
    if layout == "segments":
        start, count, *labels = numbers
        if count < 1:
            raise ManifestError(f"{where}: a segment of {count} frames; at least 1 is wanted.")
        segment = Segment(start, start + count, in_frames=True)
        return Line(tail.path, join_labels(map(str, labels)), tail.line, None, segment)
    labels = list(numbers[1:] if layout == "frames_labels" else numbers)
    frames = numbers[0] if layout == "frames_labels" else None
    return Line(tail.path, join_labels(map(str, labels)), tail.line, frames)
