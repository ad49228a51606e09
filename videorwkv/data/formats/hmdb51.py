"""HMDB51: 6,766 clips of 51 actions, with three official splits of 70 and 30 clips a class.

split1      ROOT/testTrainMulti_7030_splits/<class>_test_split1.txt      (the default)
split2      ... _test_split2.txt                         split3      ... _test_split3.txt
            ROOT/<class>/<clip>.avi

    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1      1: train, 2: test, 0: in neither

The lists may lie in any folder of ROOT, and the folders of the classes in another one; clips may be
folders of frames without the suffix.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from videorwkv.data.formats.rows import on_disk
from videorwkv.data.formats.tree import Tree
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.tables import read_text, split_lines
from videorwkv.errors import ManifestError

LAYOUTS = {"split1": "official split 1", "split2": "official split 2", "split3": "official split 3"}
SPLITS = {"1": "train", "2": "test", "0": ""}
_LIST = re.compile(r"(.+)_test_split([123])\.txt", re.I)
# What was cut into clips; then body, camera, people, direction, quality and the number.
_SOURCE = re.compile(r"(.*)_[hluf]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_(?:goo|med|bad)_\d+")


def read(root: Path, layout: str | None = None) -> Manifest:
    """The clips of an official split, in `train` and `test`. Those that are not on disk end in
    `missing`.

    Raises:
        ManifestError: the lists or the folders of the classes are not there, or a row can't be
            understood.
    """
    kind = layout or "split1"
    tree = Tree(root)
    folders = [root, *(root / name for name in tree.entries(root).folders)]
    lists: dict[str, Path] = {}
    for folder in folders:
        for name in tree.entries(folder).files:
            match = _LIST.fullmatch(name)
            if match is not None and match[2] == kind[-1]:
                lists.setdefault(match[1], folder / name)
    if not lists:
        raise ManifestError(
            f"{root}: no <class>_test_split{kind[-1]}.txt in it, nor in its folders. Found: "
            f"{tree.glance()}."
        )
    base = max(folders, key=lambda folder: len({*tree.entries(folder).folders} & {*lists}))
    if not {*tree.entries(base).folders} & {*lists}:
        raise ManifestError(
            f"{root}: no folder of a class ({next(iter(lists))}, ...) in it, nor in its folders."
        )
    is_there = on_disk()
    rows: list[Row] = []
    missing: list[Row] = []
    unused = 0
    for label, path in sorted(lists.items()):
        for line, text in enumerate(split_lines(read_text(path)), start=1):
            if not text.strip():
                continue
            name, _, code = text.strip().rpartition(" ")
            if not name or code not in SPLITS:
                raise ManifestError(f"{path}:{line}: {text[:80]!r}: wanted `clip.avi 1` (0, 1, 2).")
            split = SPLITS[code]
            unused += not split
            clip = os.path.join(base, label, name.strip())
            frames = os.path.splitext(clip)[0]
            found = clip if is_there(clip) or not is_there(frames) else frames
            source = _SOURCE.fullmatch(Path(frames).name)
            row = Row(found, label, split, line, f"{label}/{source[1]}" if source else "")
            if split:
                (rows if is_there(found) else missing).append(row)
    notes = [f"HMDB51, {LAYOUTS[kind]}: lists in {next(iter(lists.values())).parent}"]
    if unused:
        notes.append(f"clips that are in neither part of this split: {unused:,}")
    return Manifest(
        name="hmdb51",
        rows=tuple(rows),
        labels=tuple(sorted(lists)),
        root=str(base),
        notes=tuple(notes),
        missing=tuple(missing),
    )
