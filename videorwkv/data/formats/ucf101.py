"""UCF101: 13,320 clips of 101 actions, with three official splits.

split1      ROOT/ucfTrainTestlist/{trainlist01,testlist01,classInd}.txt      (the default)
split2      ... trainlist02.txt, testlist02.txt          split3      ... 03
            ROOT/UCF-101/<class>/v_<class>_g01_c01.avi

    1 ApplyEyeMakeup                                  classInd.txt: labels count from 1
    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1     trainlist01.txt
    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi       testlist01.txt

The lists may lie in ROOT, in its folders, or beside the clips. Clips with one number behind the `g`
are cut from one recording; official splits keep them together.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from videorwkv.data.formats import annotation_lists
from videorwkv.data.formats.tree import Tree
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ManifestError

LAYOUTS = {"split1": "official split 1", "split2": "official split 2", "split3": "official split 3"}
CLASSES = "classInd.txt"
_GROUP = re.compile(r"v_(.+_g\d+)_c\d+")


def read(root: Path, layout: str | None = None) -> Manifest:
    """The clips of an official split, in `train` and `test`. Those that are not on disk end in
    `missing`.

    Raises:
        ManifestError: the lists are not there, or a row can't be understood, or its number is not
            that of its folder.
    """
    kind = layout or "split1"
    number = kind[-1]
    names = {"train": f"trainlist0{number}.txt", "test": f"testlist0{number}.txt"}
    folder = _folder_with(root, names["train"])
    parts = {}
    for split, name in names.items():
        if not (folder / name).is_file():
            raise ManifestError(f"{folder}: {name} is not there, and {names['train']} is.")
        classes = folder / CLASSES if split == "train" else None
        if classes is not None and not classes.is_file():
            raise ManifestError(f"{folder}: {CLASSES}, which names the classes, is not there.")
        parts[split] = annotation_lists.read(folder / name, label_names=classes)

    def rows(split: str, of: tuple[Row, ...]) -> list[Row]:
        return [row._replace(split=split, group=_group(row.path)) for row in of]

    train, test = parts["train"], parts["test"]
    unknown = sorted({row.label or "" for row in test.rows} - set(train.labels))
    if unknown:
        raise ManifestError(f"{folder / names['test']}: class {unknown[0]!r} is not in {CLASSES}.")
    return replace(
        train,
        name="ucf101",
        rows=tuple(row for split, part in parts.items() for row in rows(split, part.rows)),
        missing=tuple(row for split, part in parts.items() for row in rows(split, part.missing)),
        notes=(f"UCF101, {LAYOUTS[kind]}: {', '.join(names.values())} in {folder}",),
    )


def _folder_with(root: Path, name: str) -> Path:
    tree = Tree(root)
    for folder in (root, *(root / inner for inner in tree.entries(root).folders)):
        if (folder / name).is_file():
            return folder
    raise ManifestError(f"{root}: {name} is not in it. Found: {tree.glance()}.")


def _group(path: str) -> str:
    match = _GROUP.search(Path(path).name)
    return match[1] if match else ""
