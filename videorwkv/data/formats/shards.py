"""Shards: tars of WebDataset, on this disk or at an address.

    shards/train-000000.tar        000000.mp4  000000.cls  000000.json
           train-000001.tar        000001.00001.jpg  000001.00002.jpg ...  000001.json
           val-000000.tar
           shards.json             the index, where `data prepare --shards` has written them

The split is a word in a shard's name, or the folder that it lies in (`train/000000.tar`). A clip is
a video, or pictures; see `videorwkv/data/shards/members.py`. Its label is text in `.cls`, mostly a
number, or the entry `label` (or `class`) of `.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from videorwkv.data.formats.label_names import count_labels, read_label_names
from videorwkv.data.formats.rows import check_labels
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row
from videorwkv.data.shards import Shard, Shards
from videorwkv.data.shards.index import (
    INDEX,
    Index,
    index_values,
    look_through,
    read_index,
    split_of,
)
from videorwkv.data.shards.store import ShardStore
from videorwkv.errors import DataError, DecodeError, ManifestError, UsageError
from videorwkv.utils.files import atomic, decimal
from videorwkv.utils.remote import check_address, describe_address, is_address, read_address
from videorwkv.utils.values import sealed
from videorwkv.utils.words import counted

# Shards of one data set, braces written out.
MOST_SHARDS = 1_000_000


def read(place: Path | str, label_names: Path | None = None) -> Manifest:
    """The clips of a folder of tars, of one tar, or of all that `train-{000000..000012}.tar` names.

    Order is that of the shards' names, and in each that of its clips; with an index on this disk,
    that of the data set that they were made from. What a shard that is cut short has lost is
    missing, and a note says which shard that is.

    Raises:
        UsageError: no such file or folder; or a package that reads the address is not installed.
        ManifestError: no tar, a clip without a label that is not of a `test` split, or labels that
            can't be understood.
        DataError: the server can't be reached.
    """
    where = str(place)
    if is_address(where):
        check_address(where)
        index, sign = _read_remote(where)
        store = ShardStore.of(sign)
    else:
        index, store = _read_local(where), None
    rows: list[Row] = []
    missing: list[Row] = []
    places: dict[str, int] = {}
    found: dict[str, tuple[int, int, int]] = {}
    notes = [_how_read(index.shards, remote=store is not None)]
    for number, shard in enumerate(index.shards):
        lost = 0
        for clip in shard.clips:
            path = f"{shard.place}/{clip.name}"
            if clip.label is None and shard.split != "test":
                raise ManifestError(
                    f"{shard.place}, {clip.name}: no label; wanted text in a .cls, or an entry "
                    "'label' in a .json. Only clips of a test split may lack it."
                )
            if path in found:
                raise ManifestError(f"{path}: two clips have this name.")
            found[path] = number, clip.start, clip.stop
            places[path] = clip.place
            row = Row(path, clip.label, shard.split, 0, clip.group)
            if store is None and clip.stop > shard.present:
                missing.append(row)
                lost += 1
            else:
                rows.append(row)
        if lost or shard.problem:
            problem = shard.problem or f"cut short after {shard.present:,} of {shard.size:,} bytes"
            notes.append(f"{shard.place}: {problem}; {counted(lost, 'clip')} lost")
    if store is None:  # else the clips of a shard come one after the other
        rows.sort(key=lambda row: places[row.path])
    splits = Counter(shard.split for shard in index.shards)
    if splits[""] and len(splits) > 1:
        odd = next(shard.place for shard in index.shards if not shard.split)
        raise ManifestError(
            f"{odd}: its name tells no split, and those of other shards do. Write train, "
            "validation or test into the name of each."
        )
    labelled = [(row.label, row.path) for row in rows if row.label is not None]
    labels = {*index.labels, *(row.label for row in (*rows, *missing) if row.label is not None)}
    if label_names is None:
        check_labels(labelled)
    else:
        names, more = count_labels(read_label_names(label_names), labelled, Path(where))
        labels = set(names.names)
        rows, missing = (
            [row._replace(label=row.label and names.name(row.label, row.path)) for row in part]
            for part in (rows, missing)
        )
        notes += more
    root = where if is_address(where) or os.path.isdir(where) else os.path.dirname(where)
    return Manifest(
        name=index.kind,
        rows=tuple(rows),
        labels=tuple(sorted(labels)),
        flips=index.flips,
        root=root.partition("{")[0],
        notes=tuple(notes),
        missing=tuple(missing),
        shards=Shards(
            places=tuple(shard.place for shard in index.shards), found=found, store=store
        ),
    )


def _how_read(shards: Sequence[Shard], *, remote: bool) -> str:
    size = decimal(sum(shard.size for shard in shards))
    how = f"read from {counted(len(shards), 'shard')} of {size}"
    if not remote:
        return how
    return (
        f"{how} at an address: each is fetched whole, and in training the clips of a few at a time "
        "are mixed"
    )


# -- on this disk ------------------------------------------------------------------------------


def recognises(folder: Path) -> bool:
    """Whether a folder holds shards: their index, or tars that begin with a clip and its label."""
    if (folder / INDEX).is_file():
        return True
    tars = _tars(folder)
    if not tars:
        return False
    try:
        shard = look_through(tars[0], str(tars[0]), "", most=8)
    except ManifestError:
        return False
    return any(clip.label is not None for clip in shard.clips)


def _read_local(where: str) -> Index:
    if "{" in where:
        files = [Path(name) for name in expand_braces(where)]
    elif os.path.isdir(where):
        index = Path(where) / INDEX
        if index.is_file():
            return _indexed(index)
        files = _tars(Path(where))
        if not files:
            raise ManifestError(f"{where}: no shard in it; wanted NAME-000000.tar and the like.")
    else:
        files = [Path(where)]
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file.")
    shards = [look_through(file, str(file), _split(str(file))) for file in files]
    return Index(tuple(shards), "shards", (), None)


def _indexed(file: Path) -> Index:
    """What the index says, beside what is there."""
    index = read_index(file.read_bytes(), str(file.parent), str(file))
    known = {shard.place for shard in index.shards}
    for tar in _tars(file.parent):
        if str(tar) not in known:
            raise ManifestError(
                f"{tar}: not in {file.name}, the index beside it. Delete {file} to look through "
                "the shards themselves."
            )
    shards = []
    for shard in index.shards:
        try:
            present = os.path.getsize(shard.place)
        except OSError:
            present = 0
        if present > shard.size:
            raise ManifestError(
                f"{shard.place}: {present:,} bytes, {shard.size:,} in {file.name}: it has changed. "
                f"Delete {file} to look through the shards themselves."
            )
        problem = "" if present else "no such file"
        shards.append(replace(shard, present=present, problem=problem))
    return index._replace(shards=tuple(shards))


def _tars(folder: Path) -> list[Path]:
    """The tars in a folder, or in folders of splits below it."""
    found = sorted(folder.glob("*.tar"))
    below = (part for part in sorted(folder.iterdir()) if part.name.lower() in SPLIT_NAMES)
    return found or [tar for part in below if part.is_dir() for tar in sorted(part.glob("*.tar"))]


def _split(place: str) -> str:
    folder = os.path.basename(os.path.dirname(place)).lower()
    return split_of(os.path.basename(place)) or SPLIT_NAMES.get(folder, "")


# -- at an address -----------------------------------------------------------------------------


def _read_remote(where: str) -> tuple[Index, str]:
    """What is there, and what changes when it does."""
    if not where.endswith(".tar"):
        address = f"{where.rstrip('/')}/{INDEX}"
        try:
            content = read_address(address)
        except DecodeError as error:
            raise UsageError(
                f"{where}: shards without an index there ({INDEX}). Name them, as in "
                f"{where.rstrip('/')}/train-{{000000..000012}}.tar; or make the index with "
                "`videorwkv data prepare DATA --shards DIR` before they are uploaded."
            ) from error
        index = read_index(content, where, address)
        return index, f"{where} {hashlib.sha256(content).hexdigest()}"
    shards, signs = [], []
    for place in expand_braces(where):
        try:
            size, sign = describe_address(place)
        except DecodeError as error:
            raise UsageError(str(error)) from error
        signs.append(f"{place} {sign}")
        shards.append(_look_through_remote(place, f"{place} {sign}", size))
    return Index(tuple(shards), "shards", (), None), "\n".join(signs)


def _look_through_remote(place: str, sign: str, size: int | None) -> Shard:
    """The clips of a shard, which is fetched for it once; what was found is kept."""
    store = ShardStore.of(sign)
    known = Path(store.folder).with_suffix(".json")
    try:
        return replace(read_index(known.read_bytes(), "", str(known)).shards[0], place=place)
    except (OSError, ManifestError):
        pass  # not looked through yet, or the note is damaged
    shard = look_through(store.path(place), place, _split(place))
    store.remove(place)
    if shard.problem:
        return shard  # a better copy may be there next time
    labels = tuple(sorted({clip.label for clip in shard.clips if clip.label is not None}))
    values: dict[str, Any] = index_values(Index((shard,), "shards", labels, None))
    try:
        with atomic(known) as file:
            file.write(json.dumps(sealed(values)).encode())
    except OSError as error:
        raise DataError(f"{known}: can't be written ({error.strerror or error}).") from error
    return shard


def expand_braces(text: str) -> Iterator[str]:
    """`a-{08..10}.tar` -> a-08.tar, a-09.tar, a-10.tar; `{a,b}` names both; in order.

    Raises:
        UsageError: braces that mean nothing, or a million files and more.
    """
    found = re.search(r"\{([^{}]*)\}", text)
    if found is None:
        if "{" in text or "}" in text:
            raise UsageError(f"{text}: wanted braces such as {{000000..000012}} or {{a,b}}.")
        yield text
        return
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if numbers is None and "," not in found[1]:
        raise UsageError(f"{text}: wanted braces such as {{000000..000012}} or {{a,b}}.")
    if numbers is None:
        parts = found[1].split(",")
    else:
        first, last = int(numbers[1]), int(numbers[2])
        if not first <= last < first + MOST_SHARDS:
            raise UsageError(
                f"{text}: from {first} to {last} are no shards, or more than a million."
            )
        parts = [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]
    for part in parts:
        yield from expand_braces(text[: found.start()] + part + text[found.end() :])
