"""A CSV file with header `path,label[,split]`; names with commas are quoted as CSV quotes them."""

from __future__ import annotations

from pathlib import Path

from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row, make_manifest, read_csv
from videorwkv.errors import ManifestError


def read(root: Path) -> Manifest:
    """The rows of the file; relative paths start at its folder. Other columns are ignored.

    Only a `test` row may lack its label. Files are not opened here: what is missing shows when it
    is read, as a bad clip.

    Raises:
        ManifestError: names file and line: no path, no label, no split in a file that has them, or
            a path that stands twice.
    """
    rows: list[Row] = []
    seen: dict[str, int] = {}
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
        if path in seen:
            raise ManifestError(f"{where}: {fields['path']!r} stands in line {seen[path]} already.")
        seen[path] = line
        rows.append(Row(path, fields["label"] or None, split, line))
    if not rows:
        raise ManifestError(f"{root}: no row below the header.")
    return make_manifest("csv", rows, root=root.parent)
