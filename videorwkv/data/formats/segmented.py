"""What data sets of long videos have in common: annotated segments, and videos that lie somewhere.

A video is a file or a folder of frames that is called as the annotations call it, in any folder
below the one with the annotations, or below the one above that.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.formats.rows import check_spelling
from videorwkv.data.formats.tree import Tree, split_in_name, video_stem
from videorwkv.data.manifest import Manifest, Row, join_labels, split_labels
from videorwkv.data.tables import read_csv, read_fields
from videorwkv.errors import ManifestError, UsageError, VideoRWKVError
from videorwkv.video.segment import Segment

# Folders below each other that are looked into.
DEPTH = 5


class Piece(NamedTuple):
    """An annotated segment.

    Args:
        video: what the annotations call the video.
        start, end: seconds; `end` may be infinite: up to the end of the video.
        label: its class; None if unknown.
        split: as `Row.split`.
        where: file and line, or file and key, for messages.
        line: of the file; 0 where there is none.
        group: as `Row.group`.
        frames: number of the first frame, from 0, and of the one behind the last, where the
            annotations say so; they are taken for folders of frames.
        names: what the video may be called on disk; empty: as `video`.
    """

    video: str
    start: float
    end: float
    label: str | None
    split: str
    where: str
    line: int = 0
    group: str = ""
    frames: tuple[int, int] | None = None
    names: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a video lies: its path, and whether that is a folder of frames."""

    path: str
    is_folder: bool


def find_videos(root: Path, names: Collection[str]) -> dict[str, Place]:
    """Files and folders below `root`, or below the folder above it, that are called so.

    What lies nearest is taken. Folders with such a name are frames, and are not looked into.
    """
    wanted = set(names)
    found = _find_below(root, wanted)
    if not found and root.resolve().parent != root.resolve():
        found = _find_below(root.parent, wanted, without=root)
    return found


def _find_below(root: Path, wanted: set[str], without: Path | None = None) -> dict[str, Place]:
    tree = Tree(root)
    found: dict[str, Place] = {}
    level = [root]
    for _ in range(DEPTH):
        below = []
        for folder in level:
            if folder == without:
                continue
            try:
                entries = tree.entries(folder)
            except ManifestError:
                if folder == root:
                    raise
                continue  # one that may not be listed
            for name in entries.files:
                stem = video_stem(name)
                if stem in wanted:
                    found.setdefault(stem, Place(os.path.join(folder, name), False))
            for name in entries.folders:
                if name in wanted:
                    found.setdefault(name, Place(os.path.join(folder, name), True))
                else:
                    below.append(folder / name)
        level = below
    return found


def assemble(
    name: str,
    root: Path,
    pieces: Sequence[Piece],
    *,
    notes: Iterable[str] = (),
    lengths: Mapping[str, float] | None = None,
    place_of: Callable[[Piece, Mapping[str, Place]], tuple[str, Segment | None] | None]
    | None = None,
    is_multilabel: bool = False,
) -> Manifest:
    """Annotated segments and the videos on disk -> manifest.

    Segments of videos that are not on disk end in `missing`. Of segments that are annotated twice
    the first is taken, which a note says.

    Args:
        name: of the data set.
        root: folder of the annotations.
        pieces: the segments.
        notes: how the annotations were read.
        lengths: video -> seconds, by the annotations; segments that end behind them are cut.
        place_of: a segment and the files that were found -> where it lies; None if it is nowhere.
            Without it, the file or folder with one of its names.
        is_multilabel: a clip may be of several classes, whose names are in its label as in
            `Row.label`; segments that are annotated twice are put together.

    Raises:
        ManifestError: there is no segment, or labels that differ in their spelling alone.
    """
    if not pieces:
        raise ManifestError(f"{root}: there is no annotated segment in it.")
    first: dict[str, str] = {}
    for piece in pieces:
        for label in _labels(piece.label, is_multilabel):
            first.setdefault(label, piece.where)
    check_spelling(first.items())
    pieces, cut = _cut(pieces, lengths or {})
    found = find_videos(root, {n for piece in pieces for n in piece.names or (piece.video,)})
    rows: dict[str, Row] = {}
    missing: dict[str, Row] = {}
    same = unlike = 0
    for piece in pieces:
        placed = (place_of or _place)(piece, found)
        path, segment = placed or (str(root / piece.video), _segment(piece, is_folder=False))
        row = Row(path, piece.label, piece.split, piece.line, piece.group, segment)
        kept = (rows if placed else missing).setdefault(row.name, row)
        if kept is row:
            continue
        if is_multilabel and kept.label is not None and row.label is not None:
            both = join_labels((*split_labels(kept.label), *split_labels(row.label)))
            (rows if placed else missing)[row.name] = kept._replace(label=both)
        elif kept.label == row.label:
            same += 1
        else:
            unlike += 1
    several = is_multilabel and any(
        len(split_labels(row.label or "")) != 1 for row in rows.values()
    )
    told = list(notes)
    folders = Counter(os.path.dirname(row.path) for row in rows.values())
    if folders:
        told.append(f"videos in {folders.most_common(1)[0][0]}" + ", ..." * (len(folders) > 1))
    if cut:
        told.append(f"segments cut at the length that the annotations give the video: {cut:,}")
    if same:
        told.append(f"segments that are annotated again, with the same class: {same:,}, left out")
    if unlike:
        told.append(
            f"segments that are annotated again, with another class: {unlike:,}, left out: the "
            "first class is taken"
        )
    return Manifest(
        name=name,
        rows=tuple(rows.values()),
        labels=tuple(sorted(first)),
        root=str(root),
        notes=tuple(told),
        missing=tuple(missing.values()),
        multilabel=several,
    )


def _labels(label: str | None, is_multilabel: bool) -> tuple[str, ...]:
    if label is None:
        return ()
    return split_labels(label) if is_multilabel else (label,)


def _cut(pieces: Sequence[Piece], lengths: Mapping[str, float]) -> tuple[list[Piece], int]:
    """Segments that end at their video's end, if not before; and how many were longer."""
    found, count = [], 0
    for piece in pieces:
        length = lengths.get(piece.video, math.inf)
        if piece.start < length < piece.end < math.inf:
            piece, count = piece._replace(end=length), count + 1
        found.append(piece)
    return found, count


def _place(piece: Piece, found: Mapping[str, Place]) -> tuple[str, Segment | None] | None:
    for name in piece.names or (piece.video,):
        if name in found:
            place = found[name]
            return place.path, _segment(piece, is_folder=place.is_folder)
    return None


def _segment(piece: Piece, *, is_folder: bool) -> Segment | None:
    if piece.frames is not None and is_folder:
        return Segment(*piece.frames, in_frames=True)
    if piece.start == 0 and piece.end == math.inf:
        return None
    return Segment(piece.start, piece.end)


def check_times(start: object, end: object, where: str) -> tuple[float, float]:
    """Beginning and end of a segment in seconds.

    Raises:
        ManifestError: they are no numbers, negative, or the end is not behind the beginning.
    """
    values = []
    for value in (start, end):
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise ManifestError(f"{where}: a segment can't begin or end at {value!r}; wanted "
                                "seconds, 0 or more.")  # fmt: skip
        values.append(number)
    if values[1] <= values[0]:
        raise ManifestError(
            f"{where}: the segment ends at {end}, which is not behind its start, {start}."
        )
    return values[0], values[1]


def lists_in(place: Path, recognises: Callable[[Path], bool], wanted: str) -> list[Path]:
    """The annotation files that are meant: the one that was given, or those in a folder or in its
    folder of annotations.

    Raises:
        UsageError: no such file.
        ManifestError: none is there; the message says what was `wanted`.
    """
    if not place.is_dir():
        if not place.is_file():
            raise UsageError(f"{place}: no such file.")
        return [place]
    tree = Tree(place)
    for folder in tree.below({"annotations", "annotation", "labels", "lists"}, depth=1):
        found = [folder / n for n in tree.entries(folder).files if recognises(folder / n)]
        if found:
            return found
    raise ManifestError(f"{place}: {wanted} is not in it. Found: {tree.glance()}.")


def columns_of(path: Path) -> set[str]:
    """Names of the columns of a CSV file; empty where it is none that can be read."""
    if path.suffix.lower() != ".csv":
        return set()
    try:
        return {*next(read_fields(path, delimiters=",;\t"), (0, []))[1]}
    except VideoRWKVError:
        return set()


def rows_of(
    files: Iterable[Path], required: tuple[str, ...], words: Collection[str]
) -> Iterator[tuple[str, int, str, dict[str, str]]]:
    """Split, line, place for messages and fields of each row of CSV files, whose first `required`
    column names the video; `words` as of `split_of`.

    Raises:
        ManifestError: a column is missing, or a row names no video.
    """
    for file in files:
        split = split_of(file, words)
        for line, fields in read_csv(file, required=required):
            where = f"{file}:{line}"
            if not fields[required[0]]:
                raise ManifestError(f"{where}: the {required[0]} is empty.")
            yield split, line, where, fields


def split_of(path: Path, words: Collection[str]) -> str:
    """The split that a file is named after, without the data set's own `words`."""
    parts = path.stem.lower().replace("-", "_").replace(".", "_").split("_")
    return split_in_name("_".join(part for part in parts if part not in words))
