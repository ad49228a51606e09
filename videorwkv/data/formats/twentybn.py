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
from videorwkv.errors import ManifestError, did_you_mean


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
    found: Sequence[Lists], layout: str | None, titles: Mapping[str, str]
) -> tuple[Lists | None, list[str]]:
    """The lists to read, and notes about what else could have been meant."""
    fitting = [lists for lists in found if layout in (None, lists.layout)]
    if not fitting:
        return None, []
    notes = [
        f"the {titles[other.layout]} lists in {other.folder} are not used"
        + (f"; --layout {other.layout} takes them" if other.layout != fitting[0].layout else "")
        for other in found
        if other is not fitting[0]
    ]
    return fitting[0], notes


def check_labels(listed: Iterable[Listed], labels: Collection[str], source: str) -> None:
    """`ManifestError` on a label that stands in no list of labels, and on a clip named twice."""
    known = set(labels)
    seen: dict[str, Listed] = {}
    for clip in listed:
        if clip.label is not None and clip.label not in known:
            raise ManifestError(
                f"{clip.where}: unknown label {clip.label!r}; {source} lacks it. "
                f"{did_you_mean(clip.label, labels)}"
            )
        other = seen.setdefault(clip.clip_id, clip)
        if other is not clip:
            raise ManifestError(
                f"{clip.where}: clip {clip.clip_id} stands in {other.where} already."
            )


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
    for answer in answers:
        if tests and answer.clip_id not in tests:
            raise ManifestError(f"{answer.where}: clip {answer.clip_id} stands in no test list.")
        other = found.setdefault(answer.clip_id, answer)
        if other is not answer:
            raise ManifestError(
                f"{answer.where}: clip {answer.clip_id} stands in {other.where} already."
            )
    if not tests:
        return [*listed, *found.values()]
    return [found.get(clip.clip_id, clip) if clip.split == "test" else clip for clip in listed]


def find_clips(
    tree: Tree, ids: Collection[str], names: Collection[str], *, prefer_frames: bool
) -> list[Place]:
    """Folders that hold clips called by an id of `ids`: a folder of frames, or a video file.

    Args:
        tree: where to look.
        ids: those that are listed.
        names: what the folder of clips is usually called, lower case. Where none of them holds a
            clip, another folder of the root serves: the one with the most.
        prefer_frames: of a clip that is there both ways, take the frames; else the video.
    """
    usual = tree.below(names)
    places = [_numbered(tree, folder, prefer_frames) for folder in usual]
    found = [place for place in places if not place.ids.isdisjoint(ids)]
    if not found:
        others = [tree.root / name for name in tree.entries(tree.root).folders]
        places = [
            _numbered(tree, folder, prefer_frames) for folder in others if folder not in usual
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


def assemble(
    name: str,
    tree: Tree,
    listed: Sequence[Listed],
    places: Sequence[Place],
    *,
    labels: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    wanted: Callable[[str], Path],
    notes: Iterable[str],
    suffix: str = "",
    official: Mapping[str, int] | None = None,
) -> Manifest:
    """Lists and clips -> manifest.

    Args:
        name: the data set's.
        tree: its folder.
        listed: what the lists name.
        places: where clips were found; one called as a split serves that split alone.
        labels: names of all classes.
        pairs: labels that are each other's mirror image.
        wanted: split -> folder where a clip that is not on disk is expected.
        notes: how the lists were read.
        suffix: of such a clip.
        official: label -> the owners' number.
    """
    rows: list[Row] = []
    missing: list[Row] = []
    clips_of: dict[str, dict[str, str]] = {}
    prefixes: dict[str, str] = {}
    for split in {clip.split for clip in listed}:
        clips_of[split] = {}
        prefixes[split] = f"{wanted(split)}{os.sep}"
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
            path = f"{prefixes[clip.split]}{clip.clip_id}{suffix}"
            missing.append(Row(path, clip.label, clip.split, clip.line))
    idle = len({clip_id for place in places for clip_id in place.ids}) - len(rows)
    flips, flip_notes = flip_table(pairs, labels)
    notes = [*notes, *flip_notes]
    unlabelled = sum(clip.label is None for clip in listed)
    if unlabelled:
        notes.append(f"test clips without a label: {unlabelled:,}; predict --submission names them")
    if idle:
        notes.append(f"clips on disk that no list names: {idle:,}")
    return Manifest(
        name=name,
        rows=tuple(rows),
        labels=tuple(sorted(labels)),
        flips=flips,
        root=str(tree.root),
        notes=tuple(notes),
        missing=tuple(missing),
        official=official,
    )
