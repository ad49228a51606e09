"""Libraries of the scan that a wheel brings along, as setup.py asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from test_wkv import make, relative

from videorwkv.errors import UsageError
from videorwkv.ops import build, native
from videorwkv.ops.wkv import choose_backend, wkv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel") / "prebuilt"
    try:
        build.compile_for_wheel(folder)
    except UsageError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, prebuilt: Path):
    """What a machine without a compiler has, and this package from a wheel for its platform."""

    def forget() -> None:
        for cache in (build.load, native.missing, native.origin):
            cache.cache_clear()

    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(build, "PREBUILT", prebuilt)
    forget()
    yield
    forget()


def levels() -> list[str]:
    """Those that this processor can run; a library for a better one would end the process."""
    names = list(build.LEVELS)
    here = torch.backends.cpu.get_cpu_capability()
    return names[names.index(here) :] if here in names else ["any"]


@pytest.mark.parametrize("level", list(build.LEVELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_library_is_the_scan(
    monkeypatch: pytest.MonkeyPatch, without_compiler: None, level: str, dtype: torch.dtype
) -> None:
    if level not in levels():
        pytest.skip(f"this processor is none for {level}")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    name, why = choose_backend("cpu", dtype)
    assert (name, f"C, from the wheel, for {level} processors" in why) == ("native", True)
    inputs = make(70, dtype, width=20)
    results = []
    for backend in ("native", "chunked"):
        out = wkv(*inputs, backend=backend)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for got, wanted in zip(*results, strict=True):
        assert relative(got, wanted) < (2e-2 if dtype == torch.bfloat16 else 1e-5)


def test_the_best_that_is_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, without_compiler: None, tmp_path: Path, prebuilt: Path
) -> None:
    here = levels()[0]
    assert f"for {here} processors" in build.load("float32").origin
    # A processor that PyTorch calls otherwise, as one of ARM.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert "for any processors" in build._prebuilt("float32").origin
    # A wheel that lacks it, or a file that is damaged: nothing is loaded, and the reason is told.
    damaged = tmp_path / "prebuilt"
    damaged.mkdir()
    (damaged / build._wheel_name("float32", "any")).write_bytes(b"\x7fELF, cut off")
    monkeypatch.setattr(build, "PREBUILT", damaged)
    assert build._prebuilt("float32") is None
    build.load.cache_clear()
    with pytest.raises(UsageError, match="no-such-compiler is not on the PATH"):
        build.load("float32")


def test_a_compiler_comes_first(monkeypatch: pytest.MonkeyPatch, without_compiler: None) -> None:
    monkeypatch.delenv("CC")
    build.load.cache_clear()
    assert build.load("float32").origin.startswith("C, compiled by ")


def test_the_wheel_for_a_platform_and_the_pure_one(tmp_path: Path) -> None:
    """Of a few files: the real package takes half a minute."""
    package = tmp_path / "source/videorwkv"
    ours = ROOT / "videorwkv"
    files = [*ours.glob("*.py"), *ours.glob("utils/*.py"), *ours.glob("ops/*.[ch]")]
    files += [ours / "ops/__init__.py", ours / "ops/build.py"]
    for name in (file.relative_to(ours) for file in files):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes((ROOT / "videorwkv" / name).read_bytes())
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / "source" / name).write_bytes((ROOT / name).read_bytes())

    def wheel(asked: str) -> tuple[str, list[str]]:
        out = tmp_path / f"dist{asked}"
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
        done = subprocess.run(
            command, cwd=tmp_path / "source", capture_output=True, text=True, check=False,
            env={**os.environ, "VIDEORWKV_PREBUILT": asked},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (file,) = out.iterdir()
        names = zipfile.ZipFile(file).namelist()
        return file.name, [name for name in names if name.endswith(".so")]

    pytest.importorskip("build")
    if native.missing() is not None:
        pytest.skip(str(native.missing()))
    name, libraries = wheel("1")
    assert "-py3-none-linux_" in name or sys.platform != "linux"
    levels = 3 if "x86_64" in name else 1
    assert len(libraries) == 3 * levels
    assert all(library.startswith("videorwkv/ops/prebuilt/scan-") for library in libraries)
    # The build before has left its files.
    name, libraries = wheel("")
    assert name.endswith("-py3-none-any.whl")
    assert libraries == []
