from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

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
