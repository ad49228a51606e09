"""Where downloads lie and where they are unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "my downloads").mkdir()
    return tmp_path / "my downloads"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"
