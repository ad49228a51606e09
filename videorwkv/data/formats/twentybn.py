"""What Jester and Something-Something have in common: lists of numbered clips, in a few layouts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.flips import flip_table
from videorwkv.data.formats.tree import Tree, video_stem
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row
from videorwkv.data.tables import require_first
from videorwkv.errors import ManifestError, did_you_mean


class Source(NamedTuple):
    """What sets one of these data sets apart.

    Args:
        name: of its reader.
        title: what messages call it.
        layouts: name for `--layout` -> what messages call the layout.
        looked_for: the lists that a message names where there are none.
        pairs: labels that swap under horizontal flip.
        folder: where clips are expected if none is on disk.
        clip_folders: what the folder of clips is usually called, lower case.
        suffix: of the owners' clips; empty where they are folders of frames. A clip that is there
            both ways, as frames and as a video, is read in this form.
    """

    name: str
    title: str
    layouts: Mapping[str, str]
    looked_for: str
    pairs: Sequence[tuple[str, str]]
    folder: str
    clip_folders: Collection[str]
    suffix: str = ""


class Listed(NamedTuple):
    """A clip as a list names it; `where` is for messages: file:line, or file and item."""

    clip_id: str
    label: str | None
    split: str
    line: int
    where: str


class Lists(NamedTuple):
    """The annotation files of one layout in one folder.

    Args:
        layout: its name for `--layout`.
        folder: where they lie.
        files: role (`train`, `validation`, `test`, `labels`, `answers`) -> file.
    """

    layout: str
    folder: Path
    files: dict[str, Path]


class Place(NamedTuple):
    """A folder with clips: id -> path; `others` are of the kind that serves where no place has the
    preferred one, frames or video."""

    folder: Path
    clips: dict[str, str]
    others: dict[str, str]

    @property
    def ids(self) -> set[str]:
        return {*self.clips, *self.others}


def find_files(tree: Tree, folders: Iterable[Path], pattern: re.Pattern[str]) -> Iterator[Lists]:
    """Folders with lists whose names match `pattern`; its group 1 is the role."""
    for folder in folders:
        files: dict[str, Path] = {}
        for name in tree.entries(folder).files:
            match = pattern.fullmatch(name)
            if match is not None:
                role = match.group(1).lower()
                role = {"test-answers": "answers"}.get(role, SPLIT_NAMES.get(role, role))
                files.setdefault(role, folder / name)
        if files.keys() & {"train", "validation", "test"}:
            yield Lists("", folder, files)


def choose(
    source: Source, tree: Tree, found: Sequence[Lists], layout: str | None
) -> tuple[Lists, list[str]]:
    """The lists to read, and notes about what else could have been meant.

    Raises:
        ManifestError: there are none, or none of that layout.
    """
    fitting = [lists for lists in found if layout in (None, lists.layout)]
    if not fitting:
        others = [f"{source.layouts[lists.layout]} in {lists.folder}" for lists in found]
        raise ManifestError(
            f"{tree.root}: no {source.title} lists"
            + (f" in the {source.layouts[layout]} layout" if layout else "")
            + f". Looked for {source.looked_for}. Found: {'; '.join(others) or tree.glance()}."
        )
    notes = [
        f"the {source.layouts[other.layout]} lists in {other.folder} are not used"
        + (f"; --layout {other.layout} takes them" if other.layout != fitting[0].layout else "")
        for other in found
        if other is not fitting[0]
    ]
    return fitting[0], notes


def read_splits(
    lists: Lists,
    read_list: Callable[[Path, str], Iterable[Listed]],
    read_answers: Callable[[Path], Iterable[Listed]],
) -> tuple[list[Listed], list[str]]:
    """The clips of all lists, and notes on the lists that are not there."""
    listed: list[Listed] = []
    notes = []
    for split in ("train", "validation", "test"):
        if split in lists.files:
            listed += read_list(lists.files[split], split)
        else:
            notes.append(f"there is no {split} list")
    if "answers" in lists.files:
        listed = _with_answers(listed, read_answers(lists.files["answers"]))
    return listed, notes


def _with_answers(listed: Sequence[Listed], answers: Iterable[Listed]) -> list[Listed]:
    """The test clips with the labels of `test-answers.csv`, which serves as list without another.

    Raises:
        ManifestError: an answer to a clip that is in no test list, or two to the same.
    """
    tests = {clip.clip_id for clip in listed if clip.split == "test"}
    found: dict[str, Listed] = {}
    seen: dict[str, str] = {}
    for answer in answers:
        name = f"clip {answer.clip_id}"
        if tests and answer.clip_id not in tests:
            raise ManifestError(f"{answer.where}: {name} is not in the test list.")
        require_first(seen, answer.clip_id, answer.where, name)
        found[answer.clip_id] = answer
    if not tests:
        return [*listed, *found.values()]
    return [found.get(clip.clip_id, clip) if clip.split == "test" else clip for clip in listed]


def assemble(
    source: Source,
    tree: Tree,
    lists: Lists,
    listed: Sequence[Listed],
    *,
    labels: Sequence[str],
    notes: Iterable[str],
    by_split: bool = False,
    official: Mapping[str, int] | None = None,
) -> Manifest:
    """Lists, and the clips that are found -> manifest.

    Args:
        source: the data set.
        tree: its folder.
        lists: where `listed` comes from.
        listed: what the lists name.
        labels: names of all classes.
        notes: how the lists were read.
        by_split: clips that are not on disk are expected in a folder for each split.
        official: label -> the owners' number.

    Raises:
        ManifestError: a label that is not among `labels`, or a clip that is listed twice.
    """
    _check_labels(listed, labels, str(lists.files.get("labels")))
    places = _find_clips(source, tree, {clip.clip_id for clip in listed})
    where = ", ".join(tree.name(place.folder) for place in places) or "no folder found"
    title = f"{source.title}, {source.layouts[lists.layout]} layout"
    folder = places[0].folder if places else tree.root / source.folder
    rows: list[Row] = []
    missing: list[Row] = []
    clips_of: dict[str, dict[str, str]] = {}
    prefixes: dict[str, str] = {}
    for split in {clip.split for clip in listed}:
        clips_of[split] = {}
        wanted = tree.root / split.capitalize() if by_split else folder
        prefixes[split] = f"{wanted}{os.sep}"
        serving = [
            place
            for place in reversed(places)
            if SPLIT_NAMES.get(place.folder.name.lower(), split) == split
        ]
        for place in serving:
            clips_of[split].update(place.others)
        for place in serving:
            clips_of[split].update(place.clips)
    for clip in listed:
        path = clips_of[clip.split].get(clip.clip_id)
        if path is not None:
            rows.append(Row(path, clip.label, clip.split, clip.line))
        else:
            path = f"{prefixes[clip.split]}{clip.clip_id}{source.suffix}"
            missing.append(Row(path, clip.label, clip.split, clip.line))
    idle = len({clip_id for place in places for clip_id in place.ids}) - len(rows)
    flips, flip_notes = flip_table(source.pairs, labels)
    read = f"{title}: lists in {tree.name(lists.folder)}, clips in {where}"
    notes = [read, *notes, *flip_notes]
    unlabelled = sum(clip.label is None for clip in listed)
    if unlabelled:
        notes.append(f"test clips without a label: {unlabelled:,}; predict --submission names them")
    if idle:
        notes.append(f"clips on disk that are in no list: {idle:,}")
    return Manifest(
        name=source.name,
        rows=tuple(rows),
        labels=tuple(sorted(labels)),
        flips=flips,
        root=str(tree.root),
        notes=tuple(notes),
        missing=tuple(missing),
        official=official,
    )


def _check_labels(listed: Iterable[Listed], labels: Collection[str], source: str) -> None:
    """`ManifestError` on a label that is not in the list of labels, and on a clip listed twice."""
    known = set(labels)
    seen: dict[str, str] = {}
    for clip in listed:
        if clip.label is not None and clip.label not in known:
            raise ManifestError(
                f"{clip.where}: unknown label {clip.label!r}; it is not in {source}. "
                f"{did_you_mean(clip.label, labels)}"
            )
        require_first(seen, clip.clip_id, clip.where, f"clip {clip.clip_id}")


def _find_clips(source: Source, tree: Tree, ids: Collection[str]) -> list[Place]:
    """Folders that hold clips called by an id of `ids`: a folder of frames, or a video file.

    Where no folder with a usual name holds one, another folder of the root serves: the one with the
    most.
    """
    usual = tree.below(source.clip_folders)
    places = [_numbered(tree, folder, not source.suffix) for folder in usual]
    found = [place for place in places if not place.ids.isdisjoint(ids)]
    if not found:
        others = [tree.root / name for name in tree.entries(tree.root).folders]
        places = [
            _numbered(tree, folder, not source.suffix) for folder in others if folder not in usual
        ]
        found = sorted(places, key=lambda place: -len(place.ids & set(ids)))[:1]
    return [place for place in found if not place.ids.isdisjoint(ids)]


def _numbered(tree: Tree, folder: Path, prefer_frames: bool) -> Place:
    entries = tree.entries(folder)
    prefix = f"{folder}{os.sep}"
    frames = {name: prefix + name for name in entries.folders if name.isdecimal()}
    videos = {
        stem: prefix + name
        for name in entries.files
        if (stem := video_stem(name)) is not None and stem.isdecimal()
    }
    return Place(folder, *((frames, videos) if prefer_frames else (videos, frames)))
