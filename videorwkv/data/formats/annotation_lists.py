"""Annotation lists of MMAction2, TSM, VideoMAE and others: one clip a line and no header.

space       some folder/clip 1.mp4 3
comma       some folder/clip 1.mp4,standing up      also with ; or a tab
frames      some folder/clip_1 64 3                 folder of frames, their number, label
class       standing up/clip 1.mp4                  the folder is the label (UCF101's test lists)
segments    some folder/clip_1 24 12 3              of its frames, from 0, those from 24 to 35
labels      some folder/clip 1.mp4 3 5 7            several labels; also 3,5,7 or names: run|jump
frames_labels   some folder/clip_1 64 3 5           the number of frames, then several labels

A label is a name or a number; numbers become names by a file, see `read_label_names`. Paths start
at the list's folder, at the one above it or at one of the usual ones beside it (videos, frames, one
named after the list's split, ...): wherever most of the list's are found. If in none of these, in
another folder beside the list or its folder, where one alone has most (UCF-101 beside
ucfTrainTestlist).
What is not found ends in `missing`, as such lists come from other people's copies. The number of
frames is compared with that of some clips and not used: frames are counted on disk. A first line of
column names is skipped.

A list named after a split (train.txt, kinetics_val_list.txt) is that split; a folder with such
lists is all of them.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from videorwkv.data.formats import number_lists
from videorwkv.data.formats.columns import read_columns
from videorwkv.data.formats.contradictions import Line, check_frames, check_paths, check_split_file
from videorwkv.data.formats.label_names import count_labels, read_label_names
from videorwkv.data.formats.rows import (
    SEVERAL,
    check_labels,
    clip_path,
    on_disk,
    one_or_several,
    require_once,
    with_slashes,
)
from videorwkv.data.formats.tree import Tree, is_video, split_in_name
from videorwkv.data.manifest import SEPARATOR, Manifest, Row, join_labels, split_labels
from videorwkv.data.segments import COLUMNS
from videorwkv.data.tables import SYNONYMS, read_text, split_lines
from videorwkv.errors import ManifestError
from videorwkv.video.base import VIDEO_SUFFIXES

LAYOUTS = {
    "space": "`path label`",
    "comma": "`path,label`",
    "semicolon": "`path;label`",
    "tab": "`path<tab>label`",
    "frames": "`folder n_frames label`",
    "class": "`class/clip.mp4`",
    **number_lists.LAYOUTS,
}
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list", ".csv", ".tsv"})
_CLIP_FOLDERS = ("videos", "video", "clips", "frames", "rawframes", "data", "train", "val", "test")

# More folders beside a list than this are clips, and no places of clips.
MOST_BESIDE = 200

_FRAMES = re.compile(r"(.*\S)\s+(\d+)\s+(\d+)")
_SUFFIXES = "|".join(re.escape(suffix) for suffix in VIDEO_SUFFIXES)
_VIDEO = re.compile(rf"(.+(?:{_SUFFIXES}))\s+(\S.*)", re.I)


def read(root: Path, layout: str | None = None, label_names: Path | None = None) -> Manifest:
    """The clips of a list, or of a folder's lists.

    Raises:
        ManifestError: a line that is not a row of the layout, a path that is listed twice, a number
            without a name; the message names file and line.
    """
    files = _lists_in(root) if root.is_dir() else [root]
    folder = root if root.is_dir() else root.parent
    names = None if label_names is None else read_label_names(label_names)
    found: list[tuple[Path, list[Line], Path]] = []
    notes = []
    is_there = on_disk()
    for file in files:
        split = split_in_name(file.stem)
        chosen, lines, skipped, base = _read_lines(file, layout, folder, is_there)
        check_split_file(file, lines)
        found.append((file, lines, base))
        notes.append(
            f"{file.name}: a list of {LAYOUTS[chosen]}" + (f", {split} by its name" * bool(split))
        )
        notes += skipped
    parts = [
        (label, line, f"{file}:{line.number}")
        for file, lines, _ in found
        for line in lines
        for label in split_labels(line.label)
    ]
    several = any(SEPARATOR in line.label for _, lines, _ in found for line in lines)
    if several:
        notes.append(SEVERAL)
    labels = [(label, where) for label, _, where in parts]
    if names is None:
        check_labels(labels)
        if all(label.isdecimal() for label, _ in labels):
            notes.append(
                "labels are numbers; --label-names FILE gives them names, one per line or with the "
                "number before each"
            )
    else:
        paths = [(label, line.path) for label, line, _ in parts]
        names, counted = count_labels(names, paths, root)
        notes += counted
    bases: list[Path] = []
    rows: list[Row] = []
    missing: list[Row] = []
    seen: dict[str, tuple[str, str]] = {}
    for file, lines, base in found:
        split = split_in_name(file.stem)
        if base != folder and base not in bases:
            notes.append(f"paths start at {base}")
        bases.append(base)
        check_paths(file, lines, base, is_there)
        if layout is None and lines[0].frames is not None:
            check_frames(file, lines, base, is_there)
        for line in lines:
            where = f"{file}:{line.number}"
            path = clip_path(line.path.rstrip("/"), base, where, is_there)
            label = line.label
            if names is not None:
                label = join_labels(names.name(part, where) for part in split_labels(label))
            row = Row(path, label, split, line.number, segment=line.segment)
            what = repr(line.path) + (f", {line.segment.described}," if line.segment else "")
            require_once(seen, row.name, line.label, where, what)
            (rows if is_there(row.path) else missing).append(row)
    known = {label for row in (*rows, *missing) for label in split_labels(row.label or "")}
    return Manifest(
        name="list",
        rows=tuple(rows),
        labels=tuple(sorted(known)) if names is None else names.names,
        # `.` and not nothing: rows are named relative to it, however the list was named.
        root=os.path.commonpath(bases) or ".",
        notes=tuple(notes),
        missing=tuple(missing),
        multilabel=several,
    )


def recognises(path: Path) -> bool:
    """Whether a file is such a list: no header, and a path in front."""
    if path.suffix.lower() != ".csv":
        return path.suffix.lower() in LIST_SUFFIXES
    first = next((line.strip() for line in split_lines(read_text(path)) if line.strip()), "")
    layout = _sniff([first])
    line = _PARSERS[layout](first) if layout else None
    if line is None:
        return False
    return is_video(line[0]) or "/" in line[0] or (path.parent / line[0]).exists()


def _lists_in(folder: Path) -> list[Path]:
    entries = Tree(folder).entries(folder)
    lists = [
        folder / name
        for name in entries.files
        if Path(name).suffix.lower() in LIST_SUFFIXES and split_in_name(Path(name).stem)
    ]
    splits = [split_in_name(path.stem) for path in lists]
    if not lists or len(set(splits)) < len(splits):
        raise ManifestError(
            f"{folder}: wanted one list for each split, named after it (train.txt, val.txt); "
            f"found {', '.join(path.name for path in lists) or Tree(folder).glance()}. Name one: "
            "list:FILE."
        )
    return lists


def _delimited(delimiter: str) -> Callable[[str], tuple[str, str] | None]:
    after_video = re.compile(rf"(.+(?:{_SUFFIXES}))\s*{delimiter}(.*)", re.I)

    def parse(text: str) -> tuple[str, str] | None:
        if '"' in text:
            fields = next(csv.reader([text], delimiter=delimiter), [])
            path, label = fields if len(fields) == 2 else ("", "")
        elif match := after_video.fullmatch(text):
            path, label = match.groups()  # several, if the delimiter is in the label
        else:
            path, _, label = text.rpartition(delimiter)
        path, label = path.strip(), label.strip()
        if not path or not label or _VIDEO.match(label) or is_video(label):
            return None
        # Else the delimiter may be a part of the path: `left, slowly/a.mp4 3`.
        is_label = "/" not in label or '"' in text or is_video(path)
        return (path, label) if is_label else None

    return parse


def _spaced(text: str) -> tuple[str, str] | None:
    match = _VIDEO.fullmatch(text)
    if match is not None:
        return match.group(1), match.group(2)
    path, _, label = text.rpartition(" ")
    if not path.strip() or "/" in label or is_video(label):
        return None
    return path.strip(), label


def _with_frames(text: str) -> tuple[str, str] | None:
    match = _FRAMES.fullmatch(text)
    # `clip.mp4 0 4 7` has more numbers than these two.
    if match is None or _VIDEO.fullmatch(match.group(1)):
        return None
    return match.group(1), match.group(3)


def _by_folder(text: str) -> tuple[str, str] | None:
    folder = os.path.basename(os.path.dirname(text))
    return (text, folder) if folder not in ("", ".", "..") and is_video(text) else None


_PARSERS: dict[str, Callable[[str], tuple[str, str] | None]] = {
    "tab": _delimited("\t"),
    "frames": _with_frames,
    "comma": _delimited(","),
    "semicolon": _delimited(";"),
    "space": _spaced,
    "class": _by_folder,
}


def _sniff(lines: Sequence[str]) -> str | None:
    """The layout of most lines; a bad one among many must not change it."""
    counts = {
        name: sum(parse(line) is not None for line in lines) for name, parse in _PARSERS.items()
    }
    for name, count in counts.items():
        if count >= 0.8 * len(lines):
            return name
    return max(counts, key=lambda name: counts[name]) if any(counts.values()) else None


def _read_lines(
    path: Path, layout: str | None, folder: Path, exists: Callable[[str], bool]
) -> tuple[str, list[Line], list[str], Path]:
    """The layout, the rows, notes on what was skipped, and where paths start."""
    texts = [
        (number, line.strip())
        for number, line in enumerate(split_lines(read_text(path)), start=1)
        if line.strip()
    ]
    notes = []
    if texts and _is_header(texts[0][1], f"{path}:{texts[0][0]}"):
        notes.append(f"{path.name}: its first line is a header: {texts.pop(0)[1]}")
    if not texts:
        raise ManifestError(f"{path}: the list is empty.")
    split = split_in_name(path.stem)
    chosen = layout or _sniff([text for _, text in texts[:500]])
    if chosen in (*number_lists.LAYOUTS, "space", "frames") and layout not in ("space", "frames"):
        # Where a list has many numbers, the first word is enough to find a place by.
        names = [re.sub(r"(?:\s+\d+)+$", "", text) for _, text in texts]
        base = _base(folder, names, split)
        found = number_lists.read_numbers(path, texts, base, exists, layout)
        if found is not None:
            return *found, notes, base
    if chosen is None:
        raise ManifestError(
            f"{path}:{texts[0][0]}: {texts[0][1][:80]!r} is not a row of a list; wanted "
            f"{', '.join(LAYOUTS.values())}."
        )
    parse = _PARSERS[chosen]
    lines = []
    for number, text in texts:
        parsed = parse(text)
        if parsed is None:
            raise ManifestError(
                f"{path}:{number}: {text[:80]!r} is not {LAYOUTS[chosen]}. --layout names another: "
                f"{', '.join(LAYOUTS)}."
            )
        clip, label = parsed
        label = one_or_several(label, f"{path}:{number}")
        count = _FRAMES.fullmatch(text) if chosen == "frames" else None
        lines.append(Line(clip, label, number, int(count[2]) if count else None))
    return chosen, lines, notes, _base(folder, [line.path for line in lines], split)


def _is_header(text: str, where: str) -> bool:
    """Whether a line has column names: the first is that of a path, another that of a label."""
    words = [word.strip("\"' ") for word in re.split(r"[\s,;]+", text)]
    lower = [word.lower() for word in words]
    is_header = lower[0] in ("path", *SYNONYMS["path"]) and not {
        "label",
        *SYNONYMS["label"],
    }.isdisjoint(lower[1:])
    if is_header and {*COLUMNS} & {*lower}:
        raise ManifestError(
            f"{where}: columns of segments are read from a CSV file, with its fields parted by "
            "commas, semicolons or tabs and path,label,start,end in its first line."
        )
    if is_header:
        read_columns([word for word in words if word.lower() not in SYNONYMS["path"]], where)
    return is_header


def _base(folder: Path, paths: Sequence[str], split: str) -> Path:
    """Where relative paths start: the place where most of a sample are found.

    Two splits may use the same names below folders of their own. Of equally good places the first
    is taken: the list's own folder, then the usual ones and those named after the list's split,
    last those named after another split. If no clip is in any of them, whatever other folder there
    is beside the list or its own folder, if one alone has most of the clips.
    """
    sample = [with_slashes(path) for path in paths[:: max(1, len(paths) // 50)]]
    places: list[Path] = []
    beside: list[Path] = []
    for place in (folder, folder.parent):
        own: list[str] = []
        # The folder above may be closed to others; what is below may be read all the same.
        with contextlib.suppress(ManifestError):
            names = Tree(place).entries(place).folders
            beside += [place / name for name in names]
            own = [name for name in names if split and split_in_name(name) == split]
        places += [place / name for name in ("", *own, *_CLIP_FOLDERS)]
    if split:
        places.sort(key=lambda place: place != folder and _is_of_another(place.name, split))

    def found(place: Path) -> int:
        return sum(os.path.exists(place / path) for path in sample)

    best = max((place for place in places if place.is_dir()), key=found)
    if not found(best) and len(beside) <= MOST_BESIDE:
        # Most of them: `1.mp4` lies in many folders that are none of the list's.
        others = [
            place for place in beside if place not in places and 2 * found(place) > len(sample)
        ]
        best = others[0] if len(others) == 1 else best
    return best


def _is_of_another(name: str, split: str) -> bool:
    return split_in_name(name) not in ("", split)
