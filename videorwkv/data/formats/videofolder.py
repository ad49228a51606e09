"""VideoFolder of Hugging Face datasets: clips beside a `metadata.csv` or `metadata.jsonl`.

    root/metadata.csv                     file_name,label            root/train/metadata.jsonl
    root/clips/a.mp4                      clips/a.mp4,waving         root/train/a.mp4
    root/clips/b.mp4                      clips/b.mp4,standing up    root/test/metadata.jsonl ...

    {"file_name": "a.mp4", "label": "waving"}      a line of metadata.jsonl

The split is a column `split`, else the folder `train`, `validation` or `test` that the metadata or
the clip lies in. Segments are columns `start` and `end`, as in CSV files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from videorwkv.data.formats.rows import on_disk, with_slashes
from videorwkv.data.formats.table import Table, label_rows, read_table
from videorwkv.data.formats.tree import Tree
from videorwkv.data.manifest import SPLIT_NAMES, Manifest
from videorwkv.data.segments import COLUMNS
from videorwkv.data.tables import SYNONYMS, read_csv, read_text, split_lines
from videorwkv.errors import ManifestError
from videorwkv.utils.remote import is_address
from videorwkv.utils.values import brief, open_regular, parse_json

NAMES = ("metadata.csv", "metadata.jsonl")
# Called differently in many data sets.
_LABELS = ("label", *SYNONYMS["label"])


def recognises(root: Path) -> bool:
    """Whether a folder, or a folder of a split in it, has such a file, and it names files."""
    return any(_names_files(file) for file in _files(root))


def read(root: Path, label_names: Path | None = None) -> Manifest:
    """The clips that the metadata list; those that are not on disk are in `missing`.

    Raises:
        ManifestError: no metadata, or file and line of what can't be understood: no file or one
            outside of the folder, no label, a split for some rows only.
    """
    files = _files(root)
    if not files:
        raise ManifestError(
            f"{root}: no {' or '.join(NAMES)} in it, or in train, validation or test below it."
        )
    tables = {file: _read_file(file) for file in files}
    manifest = label_rows("videofolder", root, tables, label_names)
    rows = [(row, file) for file, table in tables.items() for row in table.rows]
    if len({bool(row.split) for row, _ in rows}) > 1:
        row, file = next((row, file) for row, file in rows if not row.split)
        raise ManifestError(
            f"{file}:{row.line}: no split, though other rows have one. Name it in a column split, "
            "or put the clip into a folder train, validation or test."
        )
    is_there = on_disk()
    found = [is_there(row.path) for row in manifest.rows]
    return replace(
        manifest,
        rows=tuple(row for row, there in zip(manifest.rows, found, strict=True) if there),
        missing=tuple(row for row, there in zip(manifest.rows, found, strict=True) if not there),
    )


def _names_files(file: Path) -> bool:
    """A `metadata.csv` may also be something of the user's own, beside folders of classes."""
    try:
        with open_regular(file) as opened:
            return b"file_name" in opened.readline(1 << 16)
    except OSError:
        return True  # reading it says why


def _files(root: Path) -> list[Path]:
    tree = Tree(root)
    folders = tree.below(SPLIT_NAMES, depth=1)
    found = [
        [folder / name for name in NAMES if name in tree.entries(folder).files]
        for folder in folders
    ]
    for files in found:
        if len(files) > 1:
            raise ManifestError(
                f"{files[0].parent}: both {files[0].name} and {files[1].name}; leave one."
            )
    if found[0] and any(found[1:]):
        other = next(files for files in found[1:] if files)[0]
        raise ManifestError(
            f"{root}: metadata in {found[0][0].name} and in {other.relative_to(root)}; leave those "
            "of the folder, or those of the splits."
        )
    return [file for files in found for file in files]


def _read_file(file: Path) -> Table:
    rows = list(_from_csv(file)) if file.suffix == ".csv" else _from_jsonl(file)
    if not rows:
        raise ManifestError(f"{file}: no row in it.")
    base = SPLIT_NAMES.get(file.parent.name.lower(), "")
    header = list(rows[0][1])
    name, label = _columns(header, f"{file}:1", unlabelled=base == "test" or "split" in header)
    records = []
    for line, fields in rows:
        _require_inside(fields[name], file.parent, f"{file}:{line}")
        others = {key: text for key, text in fields.items() if key not in (name, label)}
        records.append((line, {"path": fields[name], "label": fields.get(label, ""), **others}))
    if "split" not in header:
        _add_splits(file, base, records)
    table = read_table(file, records)
    told = [f"labels are those of the column {label!r}"] if label not in ("", "label") else []
    return table._replace(notes=[*told, *table.notes])


def _add_splits(file: Path, base: str, records: list[tuple[int, dict[str, str]]]) -> None:
    """Give all rows the split that their folders name, or none of them."""
    splits = [base or _split_of(fields["path"]) for _, fields in records]
    if not any(splits):
        return
    for (line, fields), split in zip(records, splits, strict=True):
        if not split:
            raise ManifestError(
                f"{file}:{line}: no split, as {fields['path']!r} lies in none of the folders "
                "train, validation and test, in which others lie. Move it, or add a column split."
            )
        fields["split"] = split


def _split_of(path: str) -> str:
    """Of `train/a.mp4` and `data/train/a.mp4`: the first folder that is called like one."""
    names = with_slashes(path).split("/")[:-1]
    return next((SPLIT_NAMES[n.lower()] for n in names if n.lower() in SPLIT_NAMES), "")


def _from_csv(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    return read_csv(file, required=(), optional=("file_name", "label", "split", *COLUMNS))


def _from_jsonl(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows with the keys of all of them; what one lacks is empty."""
    objects: list[tuple[int, dict[str, Any]]] = []
    for line, text in enumerate(split_lines(read_text(file)), start=1):
        if not text.strip():
            continue
        try:
            value = parse_json(text)
        except ValueError as error:
            raise ManifestError(f"{file}:{line}: no JSON ({error}).") from error
        if not isinstance(value, dict):
            raise ManifestError(
                f"{file}:{line}: got {brief(value)}; an object is wanted, "
                '{"file_name": "a.mp4", "label": "waving"}.'
            )
        objects.append((line, value))
    keys = dict.fromkeys(key for _, value in objects for key in value)
    return [
        (line, {key: _text(value.get(key), key, f"{file}:{line}") for key in keys})
        for line, value in objects
    ]


def _text(value: object, key: str, where: str) -> str:
    """A value of JSON as a table would have it."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        if key.endswith("file_name") or key in ("split", *_LABELS, *COLUMNS):
            raise ManifestError(f"{where}: {key} is {brief(value)}; one text or number is wanted.")
        return "..."  # of a column that is not used
    return str(value).strip()


def _columns(header: list[str], where: str, *, unlabelled: bool) -> tuple[str, str]:
    """The columns with files and with labels; the latter is empty where labels may be missing."""
    if "path" in header:
        raise ManifestError(
            f"{where}: the column 'path' is of another format: {NAMES[0]} has file_name. Rename "
            "it, or call the file otherwise to read it as a CSV file with path,label."
        )
    files = [name for name in header if name.endswith("_file_name")]
    if "file_name" in header:
        files = ["file_name"]
    labels = [name for name in header if name.lower() in _LABELS]
    if "label" in header:
        labels = ["label"]
    for what, found, missing in (("file_name", files, True), ("label", labels, not unlabelled)):
        if len(found) > 1:
            raise ManifestError(
                f"{where}: {', '.join(map(repr, found))} may all be {what!r}; rename one to it."
            )
        if not found and missing:
            raise ManifestError(
                f"{where}: no column {what!r}; there are {', '.join(map(repr, header))}."
            )
    return files[0], labels[0] if labels else ""


def _require_inside(path: str, folder: Path, where: str) -> None:
    """`ManifestError` unless a clip lies below its metadata, which may be a stranger's."""
    text = with_slashes(path)
    if is_address(path) or not path:
        what = "is an address" if path else "is empty"
        raise ManifestError(f"{where}: file_name {path!r} {what}; the name of a file is wanted.")
    absolute = os.path.isabs(text) or PureWindowsPath(path).drive
    if absolute or os.path.normpath(text).split(os.sep)[0] == os.pardir:
        raise ManifestError(
            f"{where}: file_name {path!r} lies outside of {folder}; a file below it is wanted."
        )
