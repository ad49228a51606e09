from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run(tiny_run: Path) -> Path:
    return tiny_run


@pytest.fixture(autouse=True, scope="session")
def _each_graph_once(each_graph_once: None) -> None:
    """Also those that a test of its own exports."""
