from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two spinning OpenMP threads on a busy machine are far slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips that lies beside the repository on the project's own machines."""
    if not SHARED.is_dir():
        pytest.skip(f"real clips are not here: {SHARED} is absent")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
