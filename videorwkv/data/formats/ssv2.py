"""Something-Something V2: 174 templates; 168,913 / 24,777 / 27,157 clips as VP9 in WebM.

20bn        ROOT/something-something-v2-{labels,train,validation,test}.json
            ROOT/20bn-something-something-v2/<id>.webm
qualcomm    ROOT/labels/{labels,train,validation,test}.json, test-answers.csv    id;template
            ROOT/20bn-something-something-v2/<id>.webm

    train, validation    [{"id": "78687", "template": "Holding [something]", ...}, ...]
    test                 [{"id": "1420"}, ...]
    labels               {"Holding something": "16", ...}

The class is the template without brackets; its official number is kept for submission files.
Lists may also lie in the root, in labels/ or annotations/, clips in videos/ and the like. Folders
of frames are read where there is no video: the videos keep the native 12 frames a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from videorwkv.data.flips import SSV2_PAIRS
from videorwkv.data.formats.tree import ANNOTATION_FOLDERS, Tree
from videorwkv.data.formats.twentybn import (
    Listed,
    Lists,
    Source,
    assemble,
    choose,
    find_files,
    read_splits,
)
from videorwkv.data.manifest import Manifest
from videorwkv.data.tables import read_fields, read_text
from videorwkv.errors import ManifestError, did_you_mean

LAYOUTS = {"20bn": "20BN", "qualcomm": "Qualcomm"}
_SOURCE = Source(
    name="ssv2",
    title="Something-Something V2",
    layouts=LAYOUTS,
    looked_for="something-something-v2-{labels,train,validation,test}.json (20bn) and "
    "{labels,train,validation,test}.json (qualcomm) in it and in its folders labels and "
    "annotations; labels and one of the others are needed",
    pairs=SSV2_PAIRS,
    folder="20bn-something-something-v2",
    clip_folders=frozenset(
        {"20bn-something-something-v2", "something-something-v2", "something-something", "ssv2",
         "sthv2", "videos", "video", "webm", "frames", "rawframes", "data"}
    ),
    suffix=".webm",
)  # fmt: skip

_ROLES = "(train|val|validation|test|labels|test-answers)"
_NAMED = re.compile(rf"(?:20bn-)?something-something-v2-{_ROLES}\.(?:json|csv)", re.I)
_PLAIN = re.compile(rf"{_ROLES}\.(?:json|csv)", re.I)


def read(root: Path, layout: str | None = None) -> Manifest:
    """Something-Something V2 below `root`. Listed clips that are not on disk end in `missing`.

    Raises:
        ManifestError: no lists, or a list that can't be understood; the message names the item.
    """
    tree = Tree(root)
    lists, notes = choose(_SOURCE, tree, _find(tree), layout)
    official = read_labels(lists.files["labels"])
    read_list = partial(_read_list, official=official, labels=lists.files["labels"])
    listed, absent = read_splits(lists, read_list, _read_answers)
    notes += absent
    return assemble(
        _SOURCE,
        tree,
        lists,
        listed,
        labels=list(official),
        notes=notes,
        official=official,
    )


def recognises(root: Path) -> bool:
    """Whether a folder holds the lists of Something-Something beyond doubt."""
    for lists in _find(Tree(root)):
        if lists.layout == "20bn":
            return True
        with lists.files["labels"].open(encoding="utf-8", errors="replace") as file:
            if "something" in file.read(4000):
                return True
    return False


def read_labels(path: Path) -> dict[str, int]:
    """`labels.json`: template without brackets -> official number, which is text there.

    Raises:
        ManifestError: another form, or a number that is given to two labels.
    """
    values = _read_json(path)
    if not isinstance(values, dict) or not values:
        raise ManifestError(f'{path}: wanted an object such as {{"Closing something": "5", ...}}.')
    numbers: dict[int, str] = {}
    for label, number in values.items():
        if not str(number).isdecimal():
            raise ManifestError(f"{path}: label {label!r}: {number!r} is not a number.")
        other = numbers.setdefault(int(number), label)
        if other != label:
            raise ManifestError(f"{path}: number {number} is that of {other!r} and {label!r}.")
    return {label: number for number, label in numbers.items()}


def template_label(template: str) -> str:
    """`Closing [something]` -> `Closing something`, as `labels.json` has it."""
    return template.replace("[", "").replace("]", "")


def _find(tree: Tree) -> list[Lists]:
    folders = tree.below(ANNOTATION_FOLDERS, depth=1)
    return [
        lists._replace(layout=layout)
        for layout, pattern in (("20bn", _NAMED), ("qualcomm", _PLAIN))
        for lists in find_files(tree, folders, pattern)
        if "labels" in lists.files and lists.files["labels"].suffix.lower() == ".json"
    ]


def _read_list(
    path: Path, split: str, official: Mapping[str, int], labels: Path
) -> Iterator[Listed]:
    items = _read_json(path)
    if not isinstance(items, list):
        raise ManifestError(f'{path}: wanted a list such as [{{"id": "1420"}}, ...].')
    for number, item in enumerate(items, start=1):
        where = f"{path}: item {number}"
        if not isinstance(item, dict) or not str(item.get("id", "")).isdecimal():
            raise ManifestError(f'{where}: no "id" that is a number: {json.dumps(item)[:80]}.')
        clip_id, template = str(item["id"]), item.get("template")
        where = f"{where} (id {clip_id})"
        if template is None and split == "test":
            yield Listed(clip_id, None, split, 0, where)
            continue
        if not isinstance(template, str):
            raise ManifestError(f'{where}: no "template"; only test clips may lack it.')
        label = template_label(template)
        if label not in official:
            raise ManifestError(
                f"{where}: template {template!r} is not in {labels}. "
                f"{did_you_mean(label, official)}"
            )
        yield Listed(clip_id, label, split, 0, where)


def _read_answers(path: Path) -> Iterator[Listed]:
    for line, fields in read_fields(path, delimiters=";"):
        where = f"{path}:{line}"
        if len(fields) != 2 or not fields[0].isdecimal() or not fields[1]:
            raise ManifestError(f"{where}: {';'.join(fields)!r}; wanted id;template.")
        yield Listed(fields[0], template_label(fields[1]), "test", line, where)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{error.lineno}: not JSON ({error.msg}).") from error
