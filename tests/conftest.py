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


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of three clips, 20 frames of 48x48, with awkward names."""
    from videorwkv.data.load import load_manifest
    from videorwkv.video.writer import write_video

    root = tmp_path_factory.mktemp("own data")
    manifest = load_manifest("motion:train=64,validation=0,test=0,size=48,frames=20,seed=9")
    for label in ("down", "left", "right", "up"):
        rows = [row for row in manifest.rows if row.label == label][:3]
        folder = root / f"going {label}, slowly"
        folder.mkdir()
        for number, row in enumerate(rows):
            frames_THWC = manifest.open(row).read_all().frames_THWC
            write_video(folder / f"S0{number}_my clip, {number}.mp4", frames_THWC, 10)
    return root
