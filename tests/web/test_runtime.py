from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from videorwkv.errors import DataError, UsageError
from videorwkv.web import runtime

NAMES = {*runtime.WASM, *runtime.WEBGPU}


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package of that name, whose hash is the pinned one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in (
            *(f"package/dist/{name}" for name in NAMES),
            "../outside",
            "package/README.md",
        ):
            content = f"content of {name}".encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digest = hashlib.sha512(buffer.getvalue()).digest()
    monkeypatch.setattr(runtime, "INTEGRITY", base64.b64encode(digest).decode())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "anything.tgz"
    path.write_bytes(buffer.getvalue())
    return path


def test_an_archive_is_unpacked_once(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = runtime.runtime_files(archive)
    assert set(files) == NAMES
    for name, path in files.items():
        assert path.read_text() == f"content of package/dist/{name}"
    # Nothing else of it is written anywhere.
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert kept == NAMES
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)  # type: ignore[attr-defined]
    assert runtime.runtime_files() == files


def test_npm_fetches_it(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def npm(command: list[str], *, cwd: str, **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        Path(cwd, runtime.ARCHIVE).write_bytes(archive.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(runtime.shutil, "which", lambda name: name)  # type: ignore[attr-defined]
    monkeypatch.setattr(runtime.subprocess, "run", npm)  # type: ignore[attr-defined]
    assert set(runtime.runtime_files()) == NAMES
    runtime.runtime_files()
    assert len(asked) == 1
    assert asked[0][:3] == ["npm", "pack", f"onnxruntime-web@{runtime.VERSION}"]


def test_without_npm_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"no npm on the PATH.*Node\.js.*npm pack.*--runtime"):
        runtime.runtime_files()


def test_npm_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def npm(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "npm error\n  code ENOTFOUND")

    monkeypatch.setattr(runtime.shutil, "which", lambda name: name)  # type: ignore[attr-defined]
    monkeypatch.setattr(runtime.subprocess, "run", npm)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"npm error code ENOTFOUND\. Check the network.*--runtime"):
        runtime.runtime_files()


def test_another_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(UsageError, match=r"is not onnxruntime-web-.*Make it anew: npm pack"):
        runtime.runtime_files(archive)
    with pytest.raises(UsageError, match=r"--runtime .*none\.tgz: No such file"):
        runtime.runtime_files(tmp_path / "none.tgz")


def test_a_cache_that_cannot_be_written(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"can't be kept in the cache.*XDG_CACHE_HOME"):
        runtime.runtime_files(archive)
