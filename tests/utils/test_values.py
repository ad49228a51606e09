from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mutants import flipped_bits

from videorwkv.utils.values import (
    brief,
    open_regular,
    parse_json,
    read_json,
    read_limited,
    sealed,
    unsealed,
)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[NaN]", "[Infinity]", '{"a": -Infinity}', "[" * 100_000, "9" * 5000, b"\xff\xfe{"],
)
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)


def test_a_seal_tells_every_flipped_bit() -> None:
    values = {"labels": ["left", "right"], "times": [0.0, 0.04], "name": "Ü\udcff"}
    content = json.dumps(sealed(values)).encode()
    assert unsealed(parse_json(content)) == values
    for changed in flipped_bits(content, 300, seed=0):
        try:
            # A seal whose name has changed is none; what it covered is as it was.
            found = unsealed(parse_json(changed))
            assert {key: found[key] for key in values} == values
        except ValueError:
            continue


def test_an_object_without_a_seal_is_given_as_it_is() -> None:
    assert unsealed({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="wanted an object"):
        unsealed([1])


def test_only_regular_files_of_a_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert read_limited(path, 4) == b"1234"
    with pytest.raises(ValueError, match="more than 3 bytes"):
        read_limited(path, 3)
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            open_regular(name)
    with pytest.raises(OSError, match="No such file"):
        read_json(tmp_path / "none")


def test_a_value_in_a_message_is_short() -> None:
    # Written out, this one would have 2^100 parts.
    doubled: list[object] = []
    for _ in range(100):
        doubled = [doubled, doubled]
    for value in (doubled, "x" * 10**6, {str(i): i for i in range(10**4)}, 10**3000):
        assert len(brief(value)) < 400
