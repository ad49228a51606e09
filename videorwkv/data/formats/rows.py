"""What a row of a list or a table may say: one clip on this machine, and one label for it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PureWindowsPath

from videorwkv.data.manifest import SEPARATOR, SPLIT_NAMES, join_labels
from videorwkv.errors import ManifestError
from videorwkv.utils.remote import is_address

_NUMBER = r"\d+(?:\.\d+)?"
_NUMBERS = re.compile(r"\d+(?:(?:\s*[,;|]\s*|\s+)\d+)+")
_TIMED = re.compile(rf"{_NUMBER}[\s,;]+{_NUMBER}[\s,;]+\D.*|.*\D[\s,;]+{_NUMBER}[\s,;]+{_NUMBER}")
_ONE_ROW = "A clip of several labels is one row, with | between them"
# The note on a data set whose clips may have several labels.
SEVERAL = "clips have several labels"


def on_disk() -> Callable[[str], bool]:
    """Whether a path exists, by listing its folder once: lists may have 240,000 clips."""
    known: dict[str, set[str] | None] = {}

    def is_there(path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in known:
            try:
                known[folder] = set(os.listdir(folder))
            except (FileNotFoundError, NotADirectoryError, ValueError):
                known[folder] = set()
            except OSError:  # files may be read in a folder that may not be listed
                known[folder] = None
        names = known[folder]
        return os.path.exists(path) if names is None else name in names

    return is_there


def with_slashes(text: str) -> str:
    """A path as Windows writes it, with `/`."""
    return PureWindowsPath(text).as_posix() if "\\" in text else text


def clip_path(text: str, folder: Path, where: str, exists: Callable[[str], bool]) -> str:
    """The path of a clip as a row writes it: relative ones start at `folder`.

    Backslashes separate folders where no such file exists: Windows wrote the list.

    Raises:
        ManifestError: an address.
    """
    if is_address(text):
        raise ManifestError(
            f"{where}: {text!r} is an address, which a CSV file with the header path,label[,split] "
            "may name and this list may not; or download the clips and list their files."
        )
    path = os.path.join(folder, text)
    if "\\" in text and not exists(path):
        path = os.path.join(folder, with_slashes(text))
    return path


def require_once(
    seen: dict[str, tuple[str, str]], path: str, label: str, where: str, name: str
) -> None:
    """`ManifestError` if another row has listed `path`, which the message calls `name`; `seen`
    collects path -> the file and line that lists it, and its label."""
    other, known = seen.setdefault(path, (where, label))
    if other != where:
        labels = f" It is {known!r} there and {label!r} here. {_ONE_ROW}." * (known != label)
        raise ManifestError(f"{where}: {name} is already in {other}.{labels}")


def one_or_several(label: str, where: str) -> str:
    """A label, or several as in `Row.label`: numbers, or names with `|` between them.

    Raises:
        ManifestError: two numbers beside a name, which would be a segment; or nothing on one side
            of a `|`.
    """
    if _NUMBERS.fullmatch(label):
        return join_labels(re.findall(r"\d+", label))
    if _TIMED.fullmatch(label):
        raise ManifestError(
            f"{where}: the label is {label!r}, with two numbers beside a name. Segments in seconds "
            "are read from a CSV file with the header path,label,start,end."
        )
    if SEPARATOR not in label:
        return label
    parts = [part.strip() for part in label.split(SEPARATOR)]
    if not all(parts):
        raise ManifestError(f"{where}: {label!r}: there is nothing on one side of a {SEPARATOR}.")
    return join_labels(parts)


def check_labels(labels: Sequence[tuple[str, str]]) -> None:
    """Whether the classes that a list names are what they seem.

    Args:
        labels: (label, where it stands) of every row.

    Raises:
        ManifestError: what `check_spelling` refuses; labels that are lists of labels, such as
            `left;person` beside `left` and `person`; or the names of splits in place of labels.
    """
    first: dict[str, str] = {}
    for label, where in labels:
        first.setdefault(label, where)
    if len(first) > 1 and all(label.lower() in SPLIT_NAMES for label in first):
        label, where = next(iter(first.items()))
        raise ManifestError(
            f"{where}: the labels of this list are {', '.join(map(repr, first))}: it says to which "
            "split a clip belongs and not what it shows. Write a CSV file with the header "
            "path,label,split."
        )
    check_spelling(first.items())
    for separator in (";", ","):
        parts = {
            label: [part.strip() for part in label.split(separator)]
            for label in first
            if separator in label
        }
        # In how many of these labels a part stands.
        shared = Counter(piece for pieces in parts.values() for piece in set(pieces))
        for label, pieces in parts.items():
            known = [piece for piece in pieces if piece in first or shared[piece] > 1]
            # `put down, slowly` beside `put down` is a name.
            if len(known) >= len(pieces):
                raise ManifestError(
                    f"{first[label]}: label {label!r} names several: {known[0]!r} is a label of "
                    f"other clips. Several labels are written with {SEPARATOR} between them; else "
                    f"write names without {separator!r}."
                )


def check_spelling(labels: Iterable[tuple[str, str]]) -> None:
    """`ManifestError` on two labels that differ in capitals, blanks or `_` alone; `labels` as in
    `check_labels`, each once."""
    spelt: dict[str, tuple[str, str]] = {}
    for label, where in labels:
        other, place = spelt.setdefault(_spelling(label), (label, where))
        if other != label:
            raise ManifestError(
                f"{where}: label {label!r} differs from {other!r} ({place}) in its spelling alone; "
                "they would be two classes. Write both in the same way."
            )


def _spelling(label: str) -> str:
    """Equal for two ways to write one name. Single letters may be classes of their own: A and a."""
    if len(label) == 1:
        return label
    plain = unicodedata.normalize("NFKC", label).casefold()
    words = re.sub(r"(?<=[^\W_])[-_]+(?=[^\W_])", " ", plain).split()
    if len(words) == 1 and re.fullmatch(r"\d+(\.0+)?", words[0]):
        return str(int(float(words[0])))
    return " ".join(words)
