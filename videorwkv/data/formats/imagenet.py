"""Pictures as clips of one frame: a folder a class, as ImageNet is laid out.

    splits      <root>/{train,val}/n01440764/n01440764_10026.JPEG
    classes     <root>/n01440764/n01440764_10026.JPEG
    kaggle      <root>/ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG
                <root>/ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG
                <root>/LOC_val_solution.csv        ILSVRC2012_val_00000001,n01751748 111 108 ...

The labels are the names of the folders. A horizontal flip keeps each of them.
"""

from __future__ import annotations

import os
from pathlib import Path

from videorwkv.data.formats.rows import check_spelling
from videorwkv.data.formats.tree import Tree
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row
from videorwkv.data.tables import read_csv
from videorwkv.errors import ManifestError
from videorwkv.utils.words import counted
from videorwkv.video.base import IMAGE_SUFFIXES

LAYOUTS = {
    "splits": "{train,val,test}/<class>/picture.JPEG",
    "classes": "<class>/picture.JPEG",
    "kaggle": "ILSVRC/Data/CLS-LOC/{train,val}/... with LOC_val_solution.csv",
}
_KAGGLE = ("ILSVRC", "Data", "CLS-LOC")
_SOLUTION = "LOC_val_solution.csv"


def read(root: Path, layout: str | None = None) -> Manifest:
    """The pictures below `root`; those that a list names and that are not there are missing.

    Raises:
        UsageError: the list of the layout `kaggle` is not there.
        ManifestError: no picture in a folder of a class, a list that can't be understood, or a
            folder that can't be listed.
    """
    tree = Tree(root)
    layout = layout or _recognise(tree, root)
    rows: list[Row] = []
    missing: list[Row] = []
    notes = [f"layout {layout}: {LAYOUTS[layout]}"]
    skipped: list[str] = []
    if layout == "classes":
        _read_classes(tree, root, "", rows, skipped)
    else:
        place = root.joinpath(*_KAGGLE) if layout == "kaggle" else root
        for name in tree.entries(place).folders:
            split = SPLIT_NAMES.get(name.lower())
            if split is None:
                skipped.append(name)
            elif layout == "kaggle" and split == "validation":
                _read_solution(tree, root, place / name, rows, missing)
            elif not (layout == "kaggle" and split == "test"):  # whose labels nobody gives
                _read_classes(tree, place / name, split, rows, skipped)
    if not rows:
        raise ManifestError(
            f"{root}: no picture in a folder of its class; wanted {LAYOUTS[layout]}. It has "
            f"{tree.glance()}."
        )
    labels = tuple(sorted({row.label for row in (*rows, *missing) if row.label is not None}))
    check_spelling({row.label or "": os.path.dirname(row.path) for row in rows}.items())
    if skipped:
        shown = ", ".join(skipped[:3]) + ", ..." * (len(skipped) > 3)
        notes.append(f"{counted(len(skipped), 'entry', 'entries')} passed over: {shown}")
    return Manifest(
        name="imagenet",
        rows=tuple(rows),
        labels=labels,
        flips={label: label for label in labels},
        root=str(root),
        notes=tuple(notes),
        missing=tuple(missing),
    )


def _recognise(tree: Tree, root: Path) -> str:
    if root.joinpath(*_KAGGLE).is_dir():
        return "kaggle"
    folders = tree.entries(root).folders
    splits = [name for name in folders if name.lower() in SPLIT_NAMES]
    # A class may be called `train` beside `car`.
    return "splits" if splits and len(splits) == len(folders) else "classes"


def _read_classes(
    tree: Tree, folder: Path, split: str, rows: list[Row], skipped: list[str]
) -> None:
    for label in tree.entries(folder).folders:
        entries = tree.entries(folder / label)
        for name in entries.files:
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                rows.append(Row(os.path.join(folder, label, name), label, split))
            else:
                skipped.append(f"{label}/{name}")
        skipped += [f"{label}/{name}/" for name in entries.folders]


def _read_solution(
    tree: Tree, root: Path, folder: Path, rows: list[Row], missing: list[Row]
) -> None:
    """The validation pictures, which lie in one folder; a list has their classes."""
    path = root / _SOLUTION
    files = {os.path.splitext(name)[0]: name for name in tree.entries(folder).files}
    for line, fields in read_csv(path, required=("ImageId", "PredictionString")):
        name = files.get(fields["ImageId"])
        label = fields["PredictionString"].partition(" ")[0]
        if not label:
            raise ManifestError(f"{path}:{line}: no class beside {fields['ImageId']}.")
        wanted = os.path.join(folder, name or f"{fields['ImageId']}.JPEG")
        (rows if name else missing).append(Row(wanted, label, "validation", line))
