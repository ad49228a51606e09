"""Annotation files as people have them: text, lists of names, tables with and without a header.

Every error names file and line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from videorwkv.errors import ManifestError, UsageError

DELIMITERS = ";,\t"


def read_text(path: str | Path) -> str:
    """The text of a file, without the byte order mark that spreadsheets put in front.

    Raises:
        UsageError: no such file.
        ManifestError: it is not UTF-8; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8."
        ) from error


def split_lines(text: str) -> list[str]:
    """Lines as editors number them: `str.splitlines` would cut at U+2028 and form feeds, too."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_names(path: str | Path) -> list[str]:
    """One name a line, in order; empty lines are allowed at the end alone.

    Raises:
        ManifestError: an empty line between names, a name that is listed twice, or no name.
    """
    lines = [line.strip() for line in split_lines(read_text(path))]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ManifestError(f"{path}: no names in it; wanted one name per line.")
    seen: dict[str, str] = {}
    for line, name in enumerate(lines, start=1):
        where = f"{path}:{line}"
        if not name:
            raise ManifestError(f"{where}: an empty line between names.")
        require_first(seen, name, where, repr(name))
    return lines


def require_first(seen: dict[str, str], key: str, where: str, name: str) -> None:
    """`ManifestError` if another place has listed `key`, which the message calls `name`; `seen`
    collects key -> the file and line that lists it."""
    other = seen.setdefault(key, where)
    if other != where:
        raise ManifestError(f"{where}: {name} is already in {other}.")


def sniff_delimiter(text: str, delimiters: str = DELIMITERS) -> str:
    """The first of `delimiters` that the first line with anything in it holds; else the first."""
    first = next((line for line in split_lines(text) if line.strip()), "")
    return next((delimiter for delimiter in delimiters if delimiter in first), delimiters[0])


def read_fields(
    path: str | Path, *, delimiters: str = DELIMITERS
) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table: (line, fields without outer blanks); empty rows are skipped.

    The delimiter is sniffed (see `sniff_delimiter`).

    Raises:
        UsageError: no such file.
        ManifestError: not UTF-8 text, or quotes that are never closed.
    """
    text = read_text(path)
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=sniff_delimiter(text, delimiters)
    )
    begun = 1
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                yield reader.line_num, stripped
            begun = reader.line_num + 1
    except csv.Error as error:
        raise ManifestError(f"{path}:{begun}: not CSV ({error}).") from error


# What others call these columns; a message names them.
SYNONYMS = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "video", "video_path",
             "clip", "clip_path", "name", "video_name", "video_file"),
    "label": ("class", "category", "target", "action", "class_name", "label_name", "label_id",
              "class_id", "y", "verb"),
}  # fmt: skip


# What a column of numbers is called in a list of names.
NUMBERS = frozenset({"id", "idx", "index", "number", "label_id", "class_id"})


def read_csv(
    path: str | Path, *, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with a header: (line, column -> text without outer blanks).

    Args:
        path: the file.
        required, optional: columns whose names may have capitals in the file.

    Raises:
        UsageError: no such file.
        ManifestError: not UTF-8 text, a column is missing or is there twice, or a row has another
            number of fields.
    """
    rows = read_fields(path, delimiters=",;\t")
    usual = {*required, *optional}
    header = [name.lower() if name.lower() in usual else name for name in next(rows, (1, []))[1]]
    missing = [name for name in required if name not in header]
    if missing:
        raise ManifestError(
            f"{path}:1: no column {', '.join(map(repr, missing))} in the header "
            f"{','.join(header)!r}; the first line must be {','.join(required)!r}."
            + _rename(header, missing)
        )
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise ManifestError(
            f"{path}:1: column {', '.join(map(repr, doubled))} is twice in the header "
            f"{','.join(header)!r}; rename or remove one."
        )
    for line, fields in rows:
        if len(fields) != len(header):
            raise ManifestError(
                f"{path}:{line}: {len(fields)} fields, but the header has {len(header)}; a field "
                "with a comma needs double quotes around it."
            )
        yield line, dict(zip(header, fields, strict=True))


def _rename(header: Sequence[str], missing: Sequence[str]) -> str:
    if "path" in missing and len(header) == 2 and NUMBERS & {name.lower() for name in header}:
        return (
            " Does it name the labels by number? Give it beside the list of the clips, with "
            "--label-names."
        )
    pairs = [
        f"{name!r} to {wanted!r}"
        for wanted in missing
        for name in header
        if name.lower() in SYNONYMS.get(wanted, ())
    ]
    return f" Is it another name for it? Rename {', '.join(pairs)}." if pairs else ""
