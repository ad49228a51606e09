"""A CSV file with header `path,label[,split]`; names with commas are quoted as CSV quotes them.

    path,label,split
    clips/a.mp4,waving,train
    "clips/b, second take.mp4",standing up,validation

A semicolon or a tab may take the place of the comma.
"""

from __future__ import annotations

from pathlib import Path

from videorwkv.data.formats.annotation_lists import name_label
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row, make_manifest
from videorwkv.data.tables import read_csv, read_names, require_first
from videorwkv.errors import ManifestError


def read(root: Path, label_names: Path | None = None) -> Manifest:
    """The rows of the file; relative paths start at its folder. Other columns are ignored.

    Only a `test` row may lack its label. Labels that are numbers get the names of `label_names`,
    the first for 0. Files are not looked for: the list is the user's own, so one that is not there
    is a bad clip, and wrong in evaluation.

    Raises:
        ManifestError: names file and line: no path, no label, no split in a file that has them, or
            a path that is listed twice.
    """
    rows: list[Row] = []
    seen: dict[str, str] = {}
    names = None if label_names is None else read_names(label_names)
    for line, fields in read_csv(root, required=("path", "label")):
        where = f"{root}:{line}"
        if not fields["path"]:
            raise ManifestError(f"{where}: the path is empty.")
        split = SPLIT_NAMES.get(fields.get("split", "").lower(), fields.get("split", ""))
        if "split" in fields and not split:
            raise ManifestError(
                f"{where}: the split is empty; write train, validation or test, or leave the "
                "column out."
            )
        if not fields["label"] and split != "test":
            raise ManifestError(f"{where}: the label is empty; only test rows may lack it.")
        path = str(root.parent / fields["path"])
        require_first(seen, path, where, repr(fields["path"]))
        label = fields["label"] or None
        if names is not None and label is not None:
            label = name_label(label, names, where)
        rows.append(Row(path, label, split, line))
    if not rows:
        raise ManifestError(f"{root}: no row below the header.")
    manifest = make_manifest("csv", rows, root=root.parent)
    return manifest if names is None else manifest.with_labels(sorted(names))
