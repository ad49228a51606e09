from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import atomic, natural_key, write_atomic


@contextmanager
def small_files_only() -> Iterator[None]:
    """The kernel refuses to let a file grow past 1,000 bytes: a real write fails half-way.

    Only around the write: pytest's own output may go to a file, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_atomic(path, b"old")
    with small_files_only(), pytest.raises(CheckpointError, match="untouched"):
        write_atomic(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.pt"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"

    def write(content: bytes) -> None:
        with atomic(path) as file:
            file.write(content)
            assert content == b"old", "bad frame"

    write(b"old")
    with pytest.raises(AssertionError, match="bad frame"):
        write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["img_10", "img_9", "9", "10", "", "img_9b"]
    wanted = ["", "9", "10", "img_9", "img_9b", "img_10"]
    assert sorted(names, key=natural_key) == wanted
