"""The names of numbered labels, in the forms in which data sets bring them.

    left                     one name a line: the first is that of 0, or of 1 if the labels say so
    1 ApplyEyeMakeup         a number beside each name (UCF101's classInd.txt), before or after it,
    left,0                   with blanks, a tab, a comma, a semicolon or a colon between them
    id,name                  ... below a header, which may name further columns
    item { name: "left"      a label map of TensorFlow (.pbtxt)
           id: 1 }
    {"0": "left"}            JSON: number -> name, name -> number, a list of names or of objects;
                             also inside id2label, label2id, names, labels, classes, categories

Where numbers stand beside the names, they decide and not the order of the lines.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videorwkv.data.tables import read_text, require_first, split_lines
from videorwkv.errors import ManifestError, did_you_mean

# A column or a key with one of these names holds the numbers, or the names.
_NUMBER_WORDS = frozenset(
    {"id", "idx", "index", "number", "no", "nr", "num", "classid", "classindex", "classidx",
     "labelid", "labelindex", "labelidx", "labelnumber", "classnumber", "categoryid", "actionid"}
)  # fmt: skip
_NAME_WORDS = frozenset(
    {"name", "names", "label", "labels", "class", "classes", "classname", "labelname", "category",
     "categoryname", "action", "actionname", "title"}
)  # fmt: skip
# Alone in the first line of a text, these are its header; `action` and the like may be a class.
_SURE_HEADERS = frozenset({"names", "label", "labels", "classes", "classname", "labelname"})
_HOLDERS = ("id2label", "label2id", "names", "labels", "classes", "categories")

# pandas writes whole numbers in a column with gaps as 1.0.
_INTEGER = re.compile(r"([+-]?\d+)(?:\.0+)?")
_NUMBER_FIRST = re.compile(r"(\d+)(?:\s*[.:)=|,;-]\s*|\s+)(\S.*)")
_NUMBER_LAST = re.compile(r"(.*[^\s:=|,;])(?:\s*[:=|,;]\s*|\s+)(\d+)")


@dataclass(frozen=True)
class LabelNames:
    """Number -> name.

    Args:
        source: the file.
        by_number: the names.
        numbered: whether the file has the numbers beside the names; else `by_number` counts from 0.
    """

    source: Path
    by_number: Mapping[int, str]
    numbered: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self.by_number.values()))

    def name(self, label: str, where: str) -> str:
        """The name of a label that is a number; a name must be one of the names.

        Raises:
            ManifestError: it is neither; the message begins with `where`.
        """
        number = label_number(label)
        if number is None:
            if label not in self.by_number.values():
                raise ManifestError(
                    f"{where}: unknown label {label!r}. {did_you_mean(label, self.names)}"
                )
            return label
        if number in self.by_number:
            return self.by_number[number]
        low, high = min(self.by_number), max(self.by_number)
        if self.numbered:
            raise ManifestError(
                f"{where}: label {number} has no name in {self.source}, which has the numbers "
                f"{low} to {high} beside its names ({low} is {self.by_number[low]!r}). If these "
                "labels count from another number, change the numbers in that file."
            )
        raise ManifestError(
            f"{where}: label {number}, but there are {len(self.by_number)} names in {self.source}; "
            f"the first is that of {low}. Where labels count from another number, write the number "
            f"before each name, as in `1 {self.by_number[low]}`."
        )


def label_number(label: str) -> int | None:
    """The number that a label is; None for a name."""
    return int(float(label)) if _INTEGER.fullmatch(label) and label[0].isdecimal() else None


def read_label_names(path: Path) -> LabelNames:
    """A file of names in one of the forms above.

    Raises:
        UsageError: no such file.
        ManifestError: it can't be understood, or a number or a name stands in it twice.
    """
    text = read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        try:
            return _from_json(path, json.loads(text, object_pairs_hook=_distinct(path)))
        except json.JSONDecodeError as error:
            if path.suffix.lower() == ".json":
                raise ManifestError(f"{path}:{error.lineno}: not JSON ({error.msg}).") from error
            # A name may begin with a bracket, as those of Something-Something do.
    if path.suffix.lower() == ".pbtxt":
        return _make(path, _from_pbtxt(path, text))
    lines = _bare([line.strip() for line in split_lines(text)])
    while lines and not lines[-1]:
        lines.pop()
    if not any(lines):
        raise ManifestError(f"{path}: no names in it; wanted one name per line.")
    numbered = [(at, line) for at, line in enumerate(lines, start=1) if line]
    pairs = _from_table(path, numbered) or _from_lines(path, numbered)
    if pairs is not None:
        return _make(path, pairs)
    if _is_header(path, lines[0]):
        lines, numbered = lines[1:], numbered[1:]
    if len(numbered) < len(lines):
        at = next(at for at, line in enumerate(lines, start=1) if not line)
        raise ManifestError(f"{path}:{at}: an empty line between names.")
    if not lines:
        raise ManifestError(f"{path}: no names below its header.")
    return _make(path, [(i, name, at) for i, (at, name) in enumerate(numbered)], numbered=False)


def count_labels(
    names: LabelNames, labels: Iterable[tuple[str, str]], source: Path
) -> tuple[LabelNames, list[str]]:
    """Which number the labels of a data set begin with: the names by those numbers, and a note.

    Labels without 0 may count from 1. That is so if the folders of the clips say it, or if all of
    1 to K are there and there are K names.

    Args:
        names: as the file has them.
        labels: (label, path of its clip) of every row.
        source: the data set's file or folder, for messages.

    Raises:
        ManifestError: it can't be told, or the folders of the clips contradict the names.
    """
    found = [
        (number, path) for label, path in labels if (number := label_number(label)) is not None
    ]
    numbers = {number for number, _ in found}
    if not numbers:
        return names, []
    some = found[:: len(found) // 200 + 1]
    how = f"as {names.source.name} numbers them"
    if not names.numbered:
        names, how = _count_unnumbered(names, numbers, some, source)
    known = {_plain(name) for name in names.by_number.values()}
    named = [(number, path) for number, path in some if _folders(path) & known]
    wrong = [(number, path) for number, path in named if not _agrees(names, number, path)]
    if len(wrong) > len(named) / 2:
        number, path = wrong[0]
        name = names.by_number.get(number)
        is_so = "has no name in" if name is None else f"is {name!r} by"
        raise ManifestError(
            f"{source}: label {number} {is_so} {names.source}, counted {how}, but its clip is "
            f"{path}. Write the number before each name in {names.source}, counted as in {source}."
        )
    first = min(names.by_number)
    return names, [f"label {first} is {names.by_number[first]!r}: numbers are counted {how}"]


def _count_unnumbered(
    names: LabelNames, numbers: set[int], found: Sequence[tuple[int, str]], source: Path
) -> tuple[LabelNames, str]:
    """Names without numbers: counted from 0 or from 1, and how one knows."""
    count = len(names.by_number)
    from_one = replace(names, by_number={n + 1: name for n, name in names.by_number.items()})
    if 0 in numbers:
        return names, "from 0"
    zero, one = (sum(_agrees(way, *clip) for clip in found) for way in (names, from_one))
    if one != zero:
        return (from_one, "from 1, as the clips' folders say") if one > zero else (names, "from 0")
    if len(numbers) > 1 and numbers == set(range(1, count + 1)):
        return from_one, f"from 1, as they are 1 to {count} for {count} names"
    if len(numbers) > 1 and numbers == set(range(1, len(numbers) + 1)):
        raise ManifestError(
            f"{source}: its labels are the numbers 1 to {len(numbers)}, and {names.source} has "
            f"{count} names: they may count from 0 or from 1. Write the number before each name, "
            f"as in `1 {names.by_number[0]}`."
        )
    return names, "from 0"


def _agrees(names: LabelNames, number: int, path: str) -> bool:
    """Whether the clip lies in a folder called as the name of its label."""
    return _plain(names.by_number.get(number, "")) in _folders(path)


def _folders(path: str) -> set[str]:
    return {_plain(folder) for folder in re.split(r"[/\\]", path)[:-1]} - {""}


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def _make(
    path: Path, pairs: Iterable[tuple[int, str, object]], *, numbered: bool = True
) -> LabelNames:
    """(number, name, line or key) -> names; `ManifestError` on what stands there twice."""
    by_number: dict[int, str] = {}
    places: dict[str, object] = {}
    for number, name, place in pairs:
        where = f"{path}:{place}"
        if not name:
            raise ManifestError(f"{where}: number {number} has no name.")
        if number < 0:
            raise ManifestError(f"{where}: number {number}; labels are numbered from 0 or 1.")
        if number in by_number:
            raise ManifestError(
                f"{where}: number {number} is {name!r} here and {by_number[number]!r} before."
            )
        if name in places:
            raise ManifestError(f"{where}: {name!r} is already in {path}:{places[name]}.")
        by_number[number], places[name] = name, place
    if not by_number:
        raise ManifestError(f"{path}: no names in it.")
    return LabelNames(path, by_number, numbered)


def _bare(lines: Sequence[str]) -> list[str]:
    """Lines without the marks of a YAML list, and without quotes, where all names have them."""
    head, rest = list(lines[:1]), [line for line in lines[1:] if line]
    is_list = bool(rest) and all(line.startswith("- ") for line in rest)
    if is_list and (head[0].endswith(":") or head[0].startswith("- ")):
        lines = [line.removeprefix("- ").strip() for line in lines if not line.endswith(":")]
    quoted = [line for line in lines if line]
    for quote in "\"'":
        if all(len(x) > 2 and x[0] == x[-1] == quote and x.count(quote) == 2 for x in quoted):
            return [line.strip(quote) for line in lines]
    return list(lines)


def _from_pbtxt(path: Path, text: str) -> Iterator[tuple[int, str, int]]:
    for place, block in enumerate(re.findall(r"\{([^{}]*)\}", text), start=1):
        number = re.search(r"\bid\s*:\s*(-?\d+)", block)
        name = re.search(r"\b(?:display_)?name\s*:\s*([\"'])(.*?)\1", block)
        if number is None or name is None:
            raise ManifestError(f"{path}: item {place} has no id or no name.")
        yield int(number[1]), name[2], place


def _from_table(path: Path, lines: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]] | None:
    """Columns with numbers and names; None where the lines are no such table."""
    for delimiter in "\t,;":
        rows = [_fields(line, delimiter) for _, line in lines]
        width = len(rows[0])
        if width < 2 or any(len(row) != width for row in rows):
            continue
        head = [_plain(field) for field in rows[0]]
        has_header = not any(map(_INTEGER.fullmatch, rows[0]))
        body = rows[1:] if has_header else rows
        integer = [c for c in range(width) if body and all(_INTEGER.fullmatch(r[c]) for r in body)]
        if not integer and has_header and {*head} & _NUMBER_WORDS and {*head} & _NAME_WORDS:
            raise ManifestError(f"{path}:{lines[0][0]}: no column below it has whole numbers.")
        if not integer:
            continue  # names with a comma in them
        number = [c for c in integer if has_header and head[c] in _NUMBER_WORDS] or integer
        others = [c for c in range(width) if c not in integer]
        name = [c for c in others if has_header and head[c] in _NAME_WORDS] or others
        if len(number) > 1 or len(name) != 1:
            raise ManifestError(
                f"{path}:{lines[0][0]}: {lines[0][1][:80]!r}: which column has the numbers of the "
                "labels and which their names? Write a header id,name and these two columns."
            )
        places = lines[1:] if has_header else lines
        return [
            (int(float(row[number[0]])), row[name[0]], at)
            for row, (at, _) in zip(body, places, strict=True)
        ]
    return None


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error:
        return [line]


def _from_lines(path: Path, lines: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]] | None:
    """A number before or after every name; None where the lines are names."""
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        matches = [pattern.fullmatch(line) for _, line in lines]
        pairs = [
            (int(m[number]), m[name].strip("\"' "), at)
            for m, (at, _) in zip(matches, lines, strict=True)
            if m
        ]
        # `1 finger`, `2 fingers`, `3 fingers` are names; one repeat among many is a mistake.
        differ = min(len({n for n, _, _ in pairs}), len({x for _, x, _ in pairs}))
        if differ < (0.8 if number == 1 else 1) * max(1, len(pairs)):
            continue
        if len(pairs) == len(lines):
            in_order = sorted(n for n, _, _ in pairs)
            # `zone 7`, `room 12` are names; those of a map go through.
            if number == 2 and in_order not in (_run(0, in_order), _run(1, in_order)):
                continue
            return pairs
        header = matches[0] is None and (lines[0][1].endswith(":") or _is_words(lines[0][1]))
        if len(pairs) == len(lines) - 1 and header:
            return pairs
        in_place = sum(n in (at, at - 1) for n, _, at in pairs)
        if number == 1 and in_place > max(2, 0.7 * len(lines)):
            at, line = next(x for x, m in zip(lines, matches, strict=True) if m is None)
            raise ManifestError(
                f"{path}:{at}: {line[:80]!r} has no number before its name, as the other lines "
                "have. Give it one; where those numbers belong to the names, write a CSV file with "
                "the header id,name."
            )
    return None


def _run(first: int, numbers: Sequence[int]) -> list[int]:
    return list(range(first, first + len(numbers)))


def _is_words(line: str) -> bool:
    """Whether a line is a header with words for numbers and names."""
    words = {_plain(word) for word in re.split(r"[\s,;:|=]+", line)} - {""}
    return bool(words) and words <= _NUMBER_WORDS | _NAME_WORDS


def _is_header(path: Path, line: str) -> bool:
    known = _NAME_WORDS if path.suffix.lower() in (".csv", ".tsv") else _SURE_HEADERS
    return _plain(line) in known


def _from_json(path: Path, values: Any) -> LabelNames:
    """Names from a JSON value."""
    if isinstance(values, Mapping):
        for holder in _HOLDERS:
            if isinstance(values.get(holder), list | dict) and values[holder]:
                return _from_json(path, values[holder])
    if isinstance(values, list) and values and all(isinstance(x, str) for x in values):
        pairs = [(i, name.strip(), i) for i, name in enumerate(values)]
        return _make(path, pairs, numbered=False)
    if isinstance(values, list) and values and all(isinstance(x, Mapping) for x in values):
        values = [_pair(item) for item in values]
    elif isinstance(values, Mapping):
        values = list(values.items())
    else:
        values = [None]
    if not values:
        raise ManifestError(f"{path}: no names in it.")
    if all(pair and _integer(pair[0]) and isinstance(pair[1], str) for pair in values):
        pass
    elif all(pair and _integer(pair[1]) and isinstance(pair[0], str) for pair in values):
        values = [(number, name) for name, number in values]
    else:
        raise ManifestError(
            f'{path}: wanted names by number, such as {{"0": "left", "1": "right"}}, or a list of '
            "names."
        )
    if all(_integer(name) and str(name) != str(number) for number, name in values):
        raise ManifestError(f"{path}: numbers on both sides; which are the names of the labels?")
    return _make(path, [(int(n), name.strip(), repr(name)) for n, name in values])


def _distinct(path: Path) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """For `json.loads`, which would keep the last of two equal keys."""

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, str] = {}
        for place, (key, _) in enumerate(pairs, start=1):
            require_first(seen, key, f"{path}: pair {place}", repr(key))
        return dict(pairs)

    return make


def _integer(value: object) -> bool:
    if isinstance(value, str):
        return _INTEGER.fullmatch(value.strip()) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _pair(item: Mapping[str, Any]) -> tuple[Any, Any] | None:
    number = [v for k, v in item.items() if _plain(str(k)) in _NUMBER_WORDS]
    name = [v for k, v in item.items() if _plain(str(k)) in _NAME_WORDS]
    return (number[0], name[0]) if len(number) == 1 and len(name) == 1 else None
