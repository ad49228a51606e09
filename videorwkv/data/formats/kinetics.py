"""Kinetics-400: 400 classes, about 240,000 / 20,000 / 39,000 clips of ten seconds.

cvdf        ROOT/k400/{train,val,test}/<id>_<start>_<end>.mp4
            ROOT/k400/replacement/replacement_for_corrupted_k400/<id>_<start>_<end>.mp4
            ROOT/k400/{train,val,test}.csv, or in k400/annotations/
classes     ROOT/{train,val}/<class>/<id>_<start>_<end>.mp4
flat        ROOT/<id>_<start>_<end>.mp4

    label,youtube_id,time_start,time_end,split[,is_cc]      label may be missing in test rows

The folder k400 may be missing or be called kinetics400 or videos; splits may be called train_256,
val_256 and the like; lists kinetics-400_train.csv. <start> and <end> are seconds with six digits.
An id has 11 characters, may begin with `-` and hold `_`. `<id>.mp4` and `<class>_<id>.mp4` are
found, too. Names of class folders are compared without `_` and ()'". Where a split has no CSV its
class folders say what its clips are.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.flips import flip_table
from videorwkv.data.formats.tree import ANNOTATION_FOLDERS, Tree, split_in_name, video_stem
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row
from videorwkv.data.tables import read_csv, require_first
from videorwkv.errors import ManifestError, did_you_mean
from videorwkv.utils.words import counted

LAYOUTS = {"cvdf": "CVDF", "classes": "class-folder", "flat": "flat"}

_OWN_FOLDERS = frozenset({"k400", "kinetics", "kinetics400", "kinetics-400", "kinetics_400"})
_CLIP_FOLDERS = _OWN_FOLDERS | {"videos", "video", "clips", "compress", "data"}
_LIST = re.compile(
    r"(?:tiny[-_])?(?:(?:kinetics[-_]?(?:400)?|k400)[-_])?"
    r"(train|val|valid|validate|validation|test)\.csv",
    re.I,
)
_COLUMNS = ("youtube_id", "time_start", "time_end")
_ID = re.compile(r"[\w-]{11}", re.A)
_NAME = re.compile(r"([\w-]{11})_(\d+)_(\d+)", re.A)
_CLASS_AND_ID = re.compile(r".+_([\w-]{11})", re.A)


class Segment(NamedTuple):
    """A clip as a CSV names it; `stem` is its file's name without suffix."""

    stem: str
    youtube_id: str
    label: str | None
    split: str
    line: int


class File(NamedTuple):
    """A clip on disk.

    Args:
        path: of the file or the folder of frames.
        stem: as `Segment.stem`; the id alone where the name gives no times; empty if it gives
            neither.
        kind: the layout that puts a clip at such a place.
        split: of the folder it lies in; empty without one.
        label: name of its class folder; empty without one.
    """

    path: str
    stem: str
    kind: str
    split: str
    label: str


def read(root: Path, layout: str | None = None) -> Manifest:
    """Kinetics-400 below `root`. Clips that are listed and not on disk end in `missing`.

    Raises:
        ManifestError: neither a CSV nor class folders, or a CSV that can't be understood.
    """
    tree = Tree(root)
    lists, notes = _find_lists(tree)
    seen: dict[str, str] = {}
    segments = [s for path, split in lists.items() for s in _read_list(path, split, seen)]
    labels = _Labels({segment.label for segment in segments if segment.label is not None})
    files = list(_find_clips(tree, labels))
    if layout is not None:
        files = [file for file in files if file.kind in (layout, "replacement")]
    if not segments and not any(file.label for file in files):
        raise ManifestError(_nothing(tree, layout))
    used, missing = _match(segments, files, root)
    listed_splits = {segment.split for segment in segments}
    matched = {row.path for row in used}
    # Beside a CSV, a clip in a class folder without a split is one that no CSV names.
    loose = [
        file
        for file in files
        if file.label
        and file.split not in listed_splits
        and file.path not in matched
        and (file.split or not segments)
    ]
    rows = [
        *used,
        *(Row(file.path, labels.of_folder(file), file.split) for file in loose),
    ]
    taken = {row.path for row in rows}
    kinds = Counter(file.kind for file in files if file.path in taken)
    replaced = kinds.pop("replacement", 0)
    found = layout or (kinds.most_common(1)[0][0] if kinds else "cvdf")
    where = ", ".join(dict.fromkeys(tree.name(path.parent) for path in lists)) or "no CSV"
    notes = [
        f"Kinetics-400, {LAYOUTS[found]} layout: lists in {where}",
        *notes,
        "no class depends on left and right: a flipped clip keeps its label",
    ]
    if len(labels.names) > 400:
        notes.append(f"{len(labels.names)} classes: this is another Kinetics, read the same way")
    if replaced:
        notes.append(f"clips taken from the folder of replacements: {replaced:,}")
    if not labels.listed:
        notes.append("no CSV names the classes: they are the names of the folders")
    elif loose:
        splits = ", ".join(sorted({file.split or "no split" for file in loose}))
        notes.append(f"{splits}: no CSV lists it, so its folders name the classes")
    stems = {file.stem for file in files if file.path in taken}
    idle = sum(file.path not in taken and file.stem not in stems for file in files)
    if idle:
        notes.append(f"clips on disk that are in no CSV: {idle:,}")
    validation = sum(row.split == "validation" for row in rows)
    if validation:
        notes.append(
            f"validation: {counted(validation, 'clip')}; sets of 19,761, 19,796 and 19,881 are all "
            "in use, so print this number beside a result"
        )
    return Manifest(
        name="kinetics400",
        rows=tuple(rows),
        labels=tuple(sorted(labels.names)),
        flips=flip_table((), labels.names)[0],
        root=str(root),
        notes=tuple(notes),
        missing=tuple(missing),
    )


def recognises(root: Path) -> bool:
    """Whether a folder holds CSV files with YouTube ids."""
    return bool(_find_lists(Tree(root))[0])


def youtube_id(path: str) -> str:
    """The id in the name of a clip; the whole stem where there is none."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return _stem(stem)[:11] or stem


def _find_lists(tree: Tree) -> tuple[dict[Path, str], list[str]]:
    """CSV -> split, one for each split."""
    lists: dict[Path, str] = {}
    notes = []
    for folder in tree.below(_OWN_FOLDERS | ANNOTATION_FOLDERS):
        for name in tree.entries(folder).files:
            match = _LIST.fullmatch(name)
            if match is None or not _has_ids(folder / name):
                continue
            split = SPLIT_NAMES[match.group(1).lower()]
            if split in lists.values():
                notes.append(f"{folder / name} is not used: another CSV lists that split")
            else:
                lists[folder / name] = split
    return lists, notes


def _has_ids(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return "youtube_id" in file.readline()


def _read_list(path: Path, split: str, seen: dict[str, str]) -> Iterator[Segment]:
    """The rows of a CSV; `seen` collects clip -> file:line over all of them."""
    for line, fields in read_csv(path, required=_COLUMNS):
        where = f"{path}:{line}"
        clip_id, label = fields["youtube_id"], fields.get("label", "")
        if not _ID.fullmatch(clip_id):
            raise ManifestError(
                f"{where}: {clip_id!r} is not a YouTube id (11 letters, digits, - or _). "
                "Spreadsheets spoil those that begin with -; take the CSV as it was downloaded."
            )
        named = fields.get("split", "").lower()
        if named and SPLIT_NAMES.get(named) != split:
            raise ManifestError(f"{where}: its split is {named!r} in the list of {split}.")
        if not label and split != "test":
            raise ManifestError(f"{where}: clip {clip_id} has no label; only test clips may.")
        try:
            start, end = int(float(fields["time_start"])), int(float(fields["time_end"]))
        except (ValueError, OverflowError):
            raise ManifestError(
                f"{where}: time_start {fields['time_start']!r} and time_end {fields['time_end']!r} "
                "must be seconds."
            ) from None
        stem = f"{clip_id}_{start:06d}_{end:06d}"
        require_first(seen, stem, where, f"clip {stem}")
        yield Segment(stem, clip_id, label or None, split, line)


class _Labels:
    """Names of the classes, and which one a folder means.

    Args:
        names: those of the CSV files; without one they are collected from the folders.
    """

    def __init__(self, names: set[str]) -> None:
        self.listed = bool(names)
        self._known = {_plain(name): name for name in names}

    @property
    def names(self) -> list[str]:
        return list(self._known.values())

    def __contains__(self, folder: str) -> bool:
        return not self.listed or _plain(folder) in self._known

    def add(self, folder: str) -> None:
        """Take a folder's name as a class where no CSV names the classes."""
        name = " ".join(folder.replace("_", " ").split())
        # Of two ways to write it, the one that keeps brackets and the like.
        if len(name) > len(self._known.get(_plain(folder), "")):
            self._known[_plain(folder)] = name

    def of_folder(self, file: File) -> str:
        """The class of a clip in a class folder."""
        if _plain(file.label) not in self._known:
            raise ManifestError(
                f"{os.path.dirname(file.path)}: unknown class folder {file.label!r}. "
                f"{did_you_mean(file.label.replace('_', ' '), self.names)}"
            )
        return self._known[_plain(file.label)]


def _plain(name: str) -> str:
    return " ".join(re.sub("[()'\"]", "", name.replace("_", " ")).lower().split())


def _find_clips(tree: Tree, labels: _Labels) -> Iterator[File]:
    for base in tree.below(_CLIP_FOLDERS):
        names = tree.entries(base).folders
        has_splits = any(split_in_name(name) for name in names)
        for name in names:
            folder, split = base / name, split_in_name(name)
            if name.lower().startswith("replacement"):
                inner = [folder, *(folder / n for n in tree.entries(folder).folders)]
                yield from (f for part in inner for f in _clips_in(tree, part, "replacement"))
            elif split:
                yield from _split_folder(tree, folder, split, labels)
            elif not has_splits and name.lower() not in _CLIP_FOLDERS and name in labels:
                yield from _class_folder(tree, folder, "", labels)
        yield from _clips_in(tree, base, "flat")


def _split_folder(tree: Tree, folder: Path, split: str, labels: _Labels) -> Iterator[File]:
    yield from _clips_in(tree, folder, "cvdf", split)
    for name in tree.entries(folder).folders:
        if not _NAME.fullmatch(name):
            yield from _class_folder(tree, folder / name, split, labels)


def _class_folder(tree: Tree, folder: Path, split: str, labels: _Labels) -> Iterator[File]:
    files = list(_clips_in(tree, folder, "classes", split, folder.name))
    if not labels.listed:
        # Nothing but their names says that these are clips of Kinetics: shorter ones are too vague.
        files = [file for file in files if _NAME.fullmatch(file.stem)]
        if files:
            labels.add(folder.name)
    yield from files


def _clips_in(
    tree: Tree, folder: Path, kind: str, split: str = "", label: str = ""
) -> Iterator[File]:
    entries = tree.entries(folder)
    prefix = f"{folder}{os.sep}"
    for name in entries.files:
        stem = video_stem(name)
        if stem is not None:
            yield File(prefix + name, _stem(stem), kind, split, label)
    for name in entries.folders:
        if _NAME.fullmatch(name):
            yield File(prefix + name, _stem(name), kind, split, label)


def _stem(name: str) -> str:
    """What a clip's name says of it: id and times, or the id, or nothing."""
    match = _NAME.fullmatch(name)
    if match is not None:
        return f"{match.group(1)}_{int(match.group(2)):06d}_{int(match.group(3)):06d}"
    if _ID.fullmatch(name):
        return name
    match = _CLASS_AND_ID.fullmatch(name)
    return match.group(1) if match is not None else ""


def _match(
    segments: Sequence[Segment], files: Sequence[File], root: Path
) -> tuple[list[Row], list[Row]]:
    """The listed clips that are on disk, and those that are not."""
    replacements: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {split: {} for split in ("train", "validation", "test", "")}
    for file in files:
        place = replacements if file.kind == "replacement" else found[file.split]
        if file.stem:
            place.setdefault(file.stem, file.path)
    loose = found[""]
    folders = _folders(files)
    rows: list[Row] = []
    missing: list[Row] = []
    for segment in segments:
        stem, name, own = segment.stem, segment.youtube_id, found[segment.split]
        # One clip of a video is not the other: a name with other times is no match.
        path = (
            replacements.get(stem)
            or own.get(stem)
            or loose.get(stem)
            or replacements.get(name)
            or own.get(name)
            or loose.get(name)
        )
        if path is not None:
            rows.append(Row(path, segment.label, segment.split, segment.line))
        else:
            folder = folders.get(segment.split, str(root / segment.split))
            path = f"{folder}{os.sep}{segment.stem}.mp4"
            missing.append(Row(path, segment.label, segment.split, segment.line))
    return rows, missing


def _folders(files: Sequence[File]) -> Mapping[str, str]:
    """Split -> the folder where its clips are expected."""
    return {file.split: os.path.dirname(file.path) for file in files if file.kind == "cvdf"}


def _nothing(tree: Tree, layout: str | None) -> str:
    return (
        f"{tree.root}: no Kinetics-400 in it"
        + (f" in the {LAYOUTS[layout]} layout" if layout else "")
        + ". Looked for train.csv, val.csv, validate.csv or test.csv (also kinetics-400_train.csv) "
        "with a column youtube_id, in it and in k400 and annotations, and for class folders with "
        "clips called <id>_<start>_<end>.mp4, in it and in train, val and test. Found: "
        f"{tree.glance()}."
    )
