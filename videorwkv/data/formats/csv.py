"""A CSV file with header `path,label[,split]`; names with commas are quoted as CSV quotes them.

    path,label,split
    clips/a.mp4,waving,train
    "clips/b, second take.mp4",standing up,validation

    path,label,start,end                  segments of a file, in seconds or as 1:02:03.5
    match.mp4,serve,12.5,14
    match.mp4,return,14,15.2

    path,label,start_frame,end_frame      in frames, counted from 0, the last one not included
    match.mp4,serve,300,336

A row without a segment is the whole file. A semicolon or a tab may take the place of the comma.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from videorwkv.data.formats.columns import KNOWN, NO_SPLIT, read_columns, refused
from videorwkv.data.formats.label_names import count_labels, read_label_names
from videorwkv.data.formats.rows import check_label, check_labels, clip_path, on_disk, require_once
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row, make_manifest
from videorwkv.data.segments import COLUMNS, read_segment, require_pairs
from videorwkv.data.tables import read_csv
from videorwkv.errors import ManifestError, UsageError
from videorwkv.utils.remote import check_address, is_address


def read(root: Path, label_names: Path | None = None) -> Manifest:
    """The rows of the file; relative paths start at its folder, and addresses (`https://...`,
    `s3://...`) stay as they are.

    A column that names a person or a session is the rows' `group`; the notes name columns that are
    not used. Only a `test` row may lack its label. Labels that are numbers get their names from
    `label_names`, see `read_label_names`. Files are not looked for: the list is the user's own, so
    one that is not there is a bad clip, and wrong in evaluation.

    Raises:
        ManifestError: names file and line: no path, no label or several, no split in a file that
            has them, a clip that is listed twice, half a segment or one that is none, or a column
            that would change what is trained.
    """
    rows: list[Row] = []
    is_there = on_disk()
    seen: dict[str, tuple[str, str]] = {}
    notes: list[str] = []
    group = ""
    # Of every column the names of splits in it; "" is anything else.
    values: defaultdict[str, set[str]] = defaultdict(set)
    for line, fields in read_csv(root, required=("path", "label"), optional=("split", *COLUMNS)):
        where = f"{root}:{line}"
        if not rows:
            group, notes = _columns(root, list(fields))
            require_pairs(list(fields), f"{root}:1")
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
        check_label(fields["label"], where)
        path = fields["path"]
        if is_address(path):
            _require_readable(path, where)
        else:
            path = str(Path(clip_path(path, root.parent, where, is_there)))
        segment = read_segment(fields, where)
        row = Row(
            path, fields["label"] or None, split, line, fields[group] if group else "", segment
        )
        what = repr(fields["path"]) + (f", {segment.described}," if segment else "")
        require_once(seen, row.name, row.label or "", where, what)
        rows.append(row)
        for name, value in fields.items():
            values[name].add(value.lower() if value.lower() in SPLIT_NAMES else "")
    if not rows:
        raise ManifestError(f"{root}: no row below the header.")
    for name, found in values.items():
        if "split" not in values and name not in KNOWN and "" not in found and len(found) > 1:
            raise refused(name, f"{root}:1", NO_SPLIT)
    labelled = [row for row in rows if row.label is not None]
    if label_names is None:
        check_labels([(row.label or "", f"{root}:{row.line}") for row in labelled])
        return make_manifest("csv", rows, root=root.parent, notes=notes)
    names = read_label_names(label_names)
    names, counted = count_labels(names, [(row.label or "", row.path) for row in labelled], root)
    named = [
        row._replace(label=row.label and names.name(row.label, f"{root}:{row.line}"))
        for row in rows
    ]
    manifest = make_manifest("csv", named, root=root.parent, notes=[*notes, *counted])
    return manifest.with_labels(names.names)


def _require_readable(address: str, where: str) -> None:
    try:
        check_address(address)
    except UsageError as error:
        raise ManifestError(f"{where}: {error}") from error


def _columns(root: Path, header: list[str]) -> tuple[str, list[str]]:
    """The column with groups, and a note on those that are not used."""
    group, unused = read_columns(header, f"{root}:1")
    if group and "split" in header:  # which decides
        group, unused = "", tuple(name for name in header if name not in KNOWN)
    if not unused:
        return group, []
    names = ", ".join(map(repr, unused))
    return group, [f"not used: {'column' if len(unused) == 1 else 'columns'} {names}"]
