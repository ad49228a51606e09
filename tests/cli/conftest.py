from __future__ import annotations

from pathlib import Path

import pytest
import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def own_videos(tmp_path: Path) -> Path:
    root = tmp_path / "my videos"
    for label, level in (("wave, left", 0), ("stand still", 60)):
        for n in range(4):
            tiny.write_clip(root / label / f"clip {n}.mp4", level=level)
    return root
