from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numbered_video import encode


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """`numbered_video.encode` into a temporary folder."""

    def make(name: str = "clip.mp4", num_frames: int = 30, **how: Any) -> Path:
        return encode(tmp_path / name, num_frames, **how)

    return make
