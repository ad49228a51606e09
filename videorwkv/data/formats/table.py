"""Rows of a table with the columns path, label, split, start and end, whatever file it is in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.formats.columns import KNOWN, NO_SPLIT, read_columns, refused
from videorwkv.data.formats.label_names import count_labels, read_label_names
from videorwkv.data.formats.rows import (
    SEVERAL,
    check_labels,
    clip_path,
    on_disk,
    one_or_several,
    require_once,
)
from videorwkv.data.manifest import (
    SEPARATOR,
    SPLIT_NAMES,
    Manifest,
    Row,
    join_labels,
    make_manifest,
    split_labels,
)
from videorwkv.data.segments import read_segment, require_pairs
from videorwkv.errors import ManifestError, UsageError, did_you_mean
from videorwkv.utils.remote import check_address, is_address


class Table(NamedTuple):
    """What a table says: its rows, notes on the columns that are not used, and whether a clip may
    have several labels."""

    rows: list[Row]
    notes: list[str]
    several: bool = False


def read_table(
    file: Path,
    records: Iterable[tuple[int, Mapping[str, str]]],
    group_column: str | None = None,
) -> Table:
    """The rows of one file; relative paths start at its folder.

    A column that names a person or a session is the rows' `group`. Only a `test` row may lack its
    label.

    Args:
        file: the file, for messages.
        records: (line, column -> text) of each row, all with the same columns; `path` and `label`
            among them.
        group_column: the column that is the rows' group; None finds one.

    Raises:
        ManifestError: names file and line; see `csv.read`.
    """
    rows: list[Row] = []
    is_there = on_disk()
    seen: dict[str, tuple[str, str]] = {}
    notes: list[str] = []
    several, group = False, ""
    # Of every column the names of splits in it; "" is anything else.
    values: defaultdict[str, set[str]] = defaultdict(set)
    for line, fields in records:
        where = f"{file}:{line}"
        if not rows:
            group, notes = _columns(file, list(fields), group_column)
            require_pairs(list(fields), f"{file}:1")
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
        # Alone it says that the clip is of none of the classes, where others are of several; after
        # a label, that the clip is of this one alone.
        text, is_none = fields["label"], fields["label"] == SEPARATOR
        if text.count(SEPARATOR) == 1:
            text = text.removesuffix(SEPARATOR).rstrip()
        label = one_or_several(text, where)
        several = several or SEPARATOR in label or text != fields["label"]
        path = fields["path"]
        if is_address(path):
            _require_readable(path, where)
        else:
            path = str(Path(clip_path(path, file.parent, where, is_there)))
        segment = read_segment(fields, where)
        row = Row(
            path,
            label if label or is_none else None,
            split,
            line,
            fields[group] if group else "",
            segment,
        )
        what = repr(fields["path"]) + (f", {segment.described}," if segment else "")
        require_once(seen, row.name, row.label or "", where, what)
        rows.append(row)
        for name, value in fields.items():
            values[name].add(value.lower() if value.lower() in SPLIT_NAMES else "")
    if not rows:
        raise ManifestError(f"{file}: no row below the header.")
    for name, found in values.items():
        if "split" not in values and name not in KNOWN and "" not in found and len(found) > 1:
            raise refused(name, f"{file}:1", NO_SPLIT)
    return Table(rows, notes, several)


def label_rows(
    kind: str, place: Path, tables: Mapping[Path, Table], label_names: Path | None
) -> Manifest:
    """The rows of all tables as a data set, after a look at its labels.

    Args:
        kind: of the data set.
        place: the folder that its paths start at.
        tables: file -> what it says.
        label_names: the names of labels that are numbers, see `read_label_names`.

    Raises:
        ManifestError: labels that are not what they seem, or a number without a name.
    """
    rows = [(row, f"{file}:{row.line}") for file, table in tables.items() for row in table.rows]
    notes = [note for table in tables.values() for note in table.notes]
    parts = [(row, label, at) for row, at in rows for label in split_labels(row.label or "")]
    several = any(table.several for table in tables.values())
    notes += [SEVERAL] * several
    if label_names is None:
        check_labels([(label, where) for _, label, where in parts])
        own = [row for row, _ in rows]
        return make_manifest(kind, own, root=place, notes=notes, multilabel=several)
    names = read_label_names(label_names)
    file = next(iter(tables))
    names, counted = count_labels(names, [(label, row.path) for row, label, _ in parts], file)

    def named(row: Row, where: str) -> Row:
        labels = split_labels(row.label or "")
        if row.label is None:
            return row
        return row._replace(label=join_labels(names.name(x, where) for x in labels))

    own = [named(row, where) for row, where in rows]
    notes += counted
    manifest = make_manifest(kind, own, root=place, notes=notes, multilabel=several)
    return manifest.with_labels(names.names)


def _require_readable(address: str, where: str) -> None:
    try:
        check_address(address)
    except UsageError as error:
        raise ManifestError(f"{where}: {error}") from error


def _columns(file: Path, header: list[str], wanted: str | None) -> tuple[str, list[str]]:
    """The column with groups, and a note on those that are not used."""
    group, unused = read_columns([name for name in header if name != wanted], f"{file}:1")
    if wanted is not None:
        if wanted not in header or wanted in KNOWN:
            others = [name for name in header if name not in KNOWN]
            raise ManifestError(
                f"{file}:1: no column {wanted!r} for groups. {did_you_mean(wanted, others)}"
            )
        if "split" in header:
            raise ManifestError(
                f"{file}:1: --group-column {wanted}: the column split says which clips are held "
                "out. Leave out one of them."
            )
        unused = tuple(name for name in (*unused, group) if name)
        group = wanted
    if group and "split" in header:  # which decides
        group, unused = "", tuple(name for name in header if name not in KNOWN)
    if not unused:
        return group, []
    names = ", ".join(map(repr, unused))
    return group, [f"not used: {'column' if len(unused) == 1 else 'columns'} {names}"]
