"""Jester: 27 hand gestures; 118,562 / 14,787 / 14,743 clips as folders of JPEG frames.

20bn        ROOT/jester-v1-{labels,train,validation,test}.csv    id;label, no header; test: id
            ROOT/20bn-jester-v1/<id>/00001.jpg
qualcomm    ROOT/labels/{labels,train,validation,test,test-answers}.csv    the same, no header
            ROOT/20bn-jester-v1/<id>/00001.jpg
kaggle      ROOT/{Train,Validation,Test}.csv    header video_id,label,frames,label_id,shape,format
            ROOT/{Train,Validation,Test}/<id>/00001.jpg

Lists may also lie in labels/ or annotations/, clips in the root or in videos/, frames/ and the
like. Delimiter and header of every list are sniffed. A test list has labels or has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from videorwkv.data.flips import JESTER_PAIRS
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
from videorwkv.data.tables import read_fields, read_names
from videorwkv.errors import ManifestError

LAYOUTS = {"20bn": "20BN", "qualcomm": "Qualcomm", "kaggle": "Kaggle mirror"}
_SOURCE = Source(
    name="jester",
    title="Jester",
    layouts=LAYOUTS,
    looked_for="jester-v1-train.csv (20bn), train.csv with id;label (qualcomm) and Train.csv with "
    "the header video_id,label,... (kaggle) in it and in its folders labels and annotations",
    pairs=JESTER_PAIRS,
    folder="20bn-jester-v1",
    clip_folders=frozenset(
        {"20bn-jester-v1", "20bn_jester_v1", "jester-v1", "jester", "videos", "frames",
         "rawframes", "data", "train", "validation", "val", "test"}
    ),
)  # fmt: skip

_NAMED = re.compile(r"(?:20bn-)?jester-v1-(train|validation|test|labels|test-answers)\.csv", re.I)
_PLAIN = re.compile(r"(train|val|validation|test|labels|test-answers)\.csv", re.I)
_ID_COLUMNS = ("video_id", "id")
# A plain `train.csv` with numbers could be anybody's: these words tell that it is Jester's.
_TYPICAL = {name for pair in JESTER_PAIRS for name in pair} | {
    *("Thumb Up", "Thumb Down", "Stop Sign", "Drumming Fingers", "Shaking Hand", "No gesture"),
    *("Doing other things", "Rolling Hand Forward", "Rolling Hand Backward"),
}


def read(root: Path, layout: str | None = None) -> Manifest:
    """Jester below `root`. Clips that are listed and not on disk end in `missing`.

    Raises:
        ManifestError: no lists, or a list that can't be understood; the message names the line.
    """
    tree = Tree(root)
    lists, notes = choose(_SOURCE, tree, _find(tree), layout)
    labels_file = lists.files.get("labels")
    listed, absent = read_splits(lists, _read_list, lambda path: _read_list(path, "test"))
    notes += absent
    if labels_file is not None:
        labels = read_names(labels_file)
    else:
        labels = list(dict.fromkeys(clip.label for clip in listed if clip.label is not None))
        if lists.layout != "kaggle":
            notes.append("there is no list of labels: the classes are those that the lists name")
    return assemble(
        _SOURCE,
        tree,
        lists,
        listed,
        labels=labels,
        notes=notes,
        by_split=lists.layout == "kaggle",
    )


def recognises(root: Path) -> bool:
    """Whether a folder holds Jester's lists beyond doubt."""
    for lists in _find(Tree(root)):
        if lists.layout == "20bn":
            return True
        if "labels" in lists.files and _TYPICAL & set(_first_fields(lists.files["labels"], 40)):
            return True
        for split in lists.files.keys() & {"train", "validation"}:
            if _TYPICAL & set(_first_fields(lists.files[split], 100)):
                return True
    return False


def _first_fields(path: Path, lines: int) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line, _ in zip(file, range(lines), strict=False):
            yield from (field.strip().strip('"') for field in re.split("[;,\t]", line))


def _find(tree: Tree) -> list[Lists]:
    folders = tree.below(ANNOTATION_FOLDERS, depth=1)
    found = [lists._replace(layout="20bn") for lists in find_files(tree, folders, _NAMED)]
    for lists in find_files(tree, folders, _PLAIN):
        split = next(s for s in ("train", "validation", "test") if s in lists.files)
        head = {field.lower() for field in _first_fields(lists.files[split], 1)}
        found.append(lists._replace(layout="kaggle" if _is_header(head) else "qualcomm"))
    return found


def _is_header(fields: set[str]) -> bool:
    return not fields.isdisjoint(_ID_COLUMNS)


def _read_list(path: Path, split: str) -> Iterator[Listed]:
    id_column, label_column, width = 0, 1, 0
    for number, (line, fields) in enumerate(read_fields(path)):
        where = f"{path}:{line}"
        if number == 0 and _is_header({field.lower() for field in fields}):
            header = [field.lower() for field in fields]
            id_column = next(header.index(name) for name in _ID_COLUMNS if name in header)
            label_column = header.index("label") if "label" in header else len(header)
            width = len(header)
            if split != "test" and "label" not in header:
                raise ManifestError(f"{where}: no column 'label' in the header.")
            continue
        if len(fields) != width if width else len(fields) > 2:
            raise ManifestError(
                f"{where}: {len(fields)} fields; wanted {width or 'id;label'}"
                f"{', as the header has' if width else ''}."
            )
        clip_id = fields[id_column]
        if not clip_id.isdecimal():
            raise ManifestError(f"{where}: {clip_id!r} is not a clip's number; wanted id;label.")
        label = fields[label_column] if label_column < len(fields) else ""
        if not label and split != "test":
            raise ManifestError(f"{where}: clip {clip_id} has no label; only test clips may.")
        yield Listed(clip_id, label or None, split, line, where)
