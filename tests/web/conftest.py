from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pages
import pytest
from numpy.typing import NDArray

from benchmarks.chromium import Chromium
from videorwkv.data.motion.clips import render
from videorwkv.web import runtime, site


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], str]:
    """Run a module of JavaScript in a folder, beside the page's own modules; what it prints."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")

    def run(code: str, folder: Path) -> str:
        for source in site.PAGE.glob("*.js"):
            shutil.copy(source, folder)
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "test.js").write_text(code)
        done = subprocess.run(
            [program, "test.js"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def fake_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes in place of ONNX Runtime, which npm would fetch."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    files = {name: folder / name for name in (*runtime.WASM, *runtime.WEBGPU)}
    for name, path in files.items():
        path.write_text(name)
    monkeypatch.setattr(site, "runtime_files", lambda archive=None: files)


@pytest.fixture(scope="session")
def frames_THWC() -> NDArray[np.uint8]:
    """A movement to the right, then one upwards, wider than high."""
    rng = np.random.default_rng(1)
    clips = [render(label, rng, size=96, frames=12) for label in ("right", "up")]
    return np.ascontiguousarray(np.concatenate(clips)[:, 12:84])


@pytest.fixture(scope="session")
def browser(
    frames_THWC: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chromium]:
    """Headless Chromium whose camera shows these frames again and again."""
    camera = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    images = (cv2.imencode(".jpg", x_HWC[:, :, ::-1])[1].tobytes() for x_HWC in frames_THWC)
    camera.write_bytes(b"".join(images))
    with pages.opened(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ) as browser:
        yield browser
