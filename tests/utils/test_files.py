from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import write_atomic


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
