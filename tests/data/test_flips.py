from __future__ import annotations

import re
from pathlib import Path

import pytest

from videorwkv.data.flips import JESTER_PAIRS, flip_table, read_flip_table
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ManifestError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


LABELS = ("left", "right", "up")


def test_flip_table(tmp_path: Path) -> None:
    path = write(tmp_path / "flips.csv", "label,flipped\nleft,right\n")
    table = read_flip_table(path, LABELS)
    assert table == {"left": "right", "right": "left", "up": "up"}
    both = write(tmp_path / "both.csv", "label,flipped\nleft,right\nright,left\nup,up\n")
    assert read_flip_table(both, LABELS) == table
    data = write(tmp_path / "d.csv", "path,label\na,left\nb,right\nc,up\n")
    assert load_manifest(data, flips=path).flips == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,flipped\nleft,rigth\n", ":2: unknown label 'rigth'. Did you mean 'right'"),
        ("label,flipped\nleft,right\nleft,up\n", ":3: 'left' becomes 'up' here and 'right' above"),
        ("label,flipped\nleft,right\nright,up\n", ":3: 'right' becomes 'up' here and 'left' above"),
        ("from,to\nleft,right\n", ":1: no column 'label', 'flipped'"),
    ],
)
def test_wrong_flip_table(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "flips.csv", text)
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_flip_table(path, LABELS)


def test_flips_are_checked_where_given_directly() -> None:
    rows = (Row("a", "left"), Row("b", "right"))
    labels = ("left", "right")
    with pytest.raises(ManifestError, match="flipping twice"):
        Manifest(name="m", rows=rows, labels=labels, flips={"left": "right", "right": "right"})
    with pytest.raises(ManifestError, match="differing: right"):
        Manifest(name="m", rows=rows, labels=labels, flips={"left": "left"})


def test_table_of_a_known_data_set() -> None:
    labels = ("Swiping Left", "Swiping Right", "Thumb Up")
    assert flip_table(JESTER_PAIRS, labels) == (
        {"Swiping Left": "Swiping Right", "Swiping Right": "Swiping Left", "Thumb Up": "Thumb Up"},
        [],
    )
    table, notes = flip_table(JESTER_PAIRS, labels[1:])
    assert table is None
    assert notes == [
        "horizontal flip disabled: the labels have 'Swiping Right', but no 'Swiping Left'"
    ]


def test_what_a_flip_does_is_told() -> None:
    rows = (Row("a", "left"), Row("b", "right"))
    manifest = Manifest(name="own", rows=rows, labels=("left", "right"))
    assert manifest.flip_note.startswith(
        "horizontal flip disabled: no left/right label mapping for own"
    )
    for flips, note in (
        ({"left": "right", "right": "left"}, "horizontal flip swaps the labels of 1 pair"),
        ({"left": "left", "right": "right"}, "horizontal flip keeps every label"),
    ):
        assert (
            Manifest(name="own", rows=rows, labels=("left", "right"), flips=flips).flip_note == note
        )
