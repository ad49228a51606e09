"""Compiles scan.c and cell.c: on first use, once a machine, into the user's cache. Never at import.

It is plain C behind ctypes, without a header of Python or PyTorch: half a second with any gcc or
clang, and one library serves every version of both. A wheel for one platform brings libraries along
(setup.py), for machines without a compiler.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videorwkv.errors import UsageError
from videorwkv.utils.files import atomic, cache_folder

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "scan.c", FOLDER / "cell.c"
HEADERS = FOLDER / "scan.h", FOLDER / "threads.h", FOLDER / "vectors.h"
COMPILERS = ("cc", "gcc", "clang")
# -fno-...: errno and traps are asked by nobody, and they keep loops from being vectorised.
FLAGS = (
    *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC", "-pthread"),
)
# In order of preference: not every compiler knows the first for every processor.
TARGETS = (("-march=native",), ("-mcpu=native",), ())
VARIANTS = {
    "float32": ("-DREAL=float",),
    "float64": ("-DREAL=double",),
    "bfloat16": ("-DREAL=float", "-DBFLOAT16"),
}
# What a wheel brings along, best first: its name, which is what PyTorch calls such a processor, and
# the options. The last one is for all others.
LEVELS = {
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "AVX2": ("-mavx2", "-mfma"),
    "any": (),
}
PREBUILT = FOLDER / "prebuilt"


class Library(NamedTuple):
    """The compiled scan and cell for tensors of one type, and where they came from."""

    code: ctypes.CDLL
    origin: str


def compiler() -> list[str]:
    """The C compiler and its options: what the variable CC says, or the first of COMPILERS.

    Raises:
        UsageError: it is not on the PATH.
    """
    asked = shlex.split(os.environ.get("CC", ""))
    for name in asked[:1] or COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return [path, *asked[1:]]
    what = (
        f"CC={asked[0]} is not on the PATH"
        if asked
        else f"none of {', '.join(COMPILERS)} is on the PATH"
    )
    raise UsageError(
        f"The scan backend 'native' needs a C compiler, and {what}. Install gcc or clang, or "
        "choose backend='chunked'."
    )


@functools.cache
def load(variant: str) -> Library:
    """The library for tensors of one type, a key of VARIANTS: compiled for this very processor if
    the cache lacks it, else the one that the wheel has brought along.

    Raises:
        UsageError: no compiler, or one that fails, and nothing in the wheel; the message has the
            compiler's first words.
    """
    try:
        code, cc = _load_compiled(variant)
        return Library(code, f"C, compiled by {cc} on first use")
    except UsageError:
        found = _prebuilt(variant)
        if found is None:
            raise
        return found


def compile_for_wheel(folder: Path) -> list[Path]:
    """Write the libraries that a wheel for this kind of machine brings along.

    Raises:
        UsageError: no compiler, or one that fails.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for variant in VARIANTS:
        for level, options in LEVELS.items():
            if level == "any" or x86:
                made.append(folder / _wheel_name(variant, level))
                # Without symbols for a debugger, a third of the size.
                _compile(compiler(), variant, made[-1], [(*options, "-s")])
    return made


def _wheel_name(variant: str, level: str) -> str:
    return f"scan-{variant}-{level}.so"


def _prebuilt(variant: str) -> Library | None:
    if not PREBUILT.is_dir():
        return None
    import torch

    levels = list(LEVELS)
    here = torch.backends.cpu.get_cpu_capability()
    for level in levels[levels.index(here) if here in levels else -1 :]:
        path = PREBUILT / _wheel_name(variant, level)
        try:
            return Library(_open(path), f"C, from the wheel, for {level} processors")
        except OSError:
            continue  # not in this wheel
    return None


def _load_compiled(variant: str) -> tuple[ctypes.CDLL, str]:
    """The library, and the compiler that made it."""
    cc = compiler()
    name = f"scan-{variant}-{_key(cc, variant)}.so"
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            # Another process may be quicker: one of two equal files stays.
            with atomic(folder / name) as file:
                _compile(cc, variant, Path(file.name), TARGETS)
        return _open(folder / name), cc[0]
    except OSError:
        pass  # no home, or one that can't be written to, or that runs no programs
    try:
        with tempfile.TemporaryDirectory() as temporary:
            _compile(cc, variant, Path(temporary) / name, TARGETS)
            return _open(Path(temporary) / name), cc[0]
    except OSError as error:
        raise UsageError(
            f"The scan backend 'native': the library that {cc[0]} made can't be loaded: {error}. "
            "Choose backend='chunked'."
        ) from error


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for function in (library.run_scan, library.run_cell):
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_int
    return library


def _compile(cc: list[str], variant: str, target: Path, machines: Sequence[Sequence[str]]) -> None:
    """With the first options of `machines` that the compiler knows."""
    for machine in machines:
        options = [*FLAGS, *machine, *VARIANTS[variant]]
        command = [*cc, *options, *map(str, SOURCES), "-o", str(target), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(
                f"The scan backend 'native': {cc[0]} does not run: {error}."
            ) from error
        if done.returncode == 0:
            return
    words = " ".join(done.stderr.split())[:300]
    raise UsageError(
        f"The scan backend 'native': {cc[0]} can't compile "
        f"{' and '.join(file.name for file in SOURCES)}: "
        f"{words or f'exit code {done.returncode}'}. Set CC to another compiler, or choose "
        "backend='chunked'."
    )


def _key(cc: list[str], variant: str) -> str:
    """Names all that the library depends on: a shared home serves machines of several kinds."""
    status = os.stat(cc[0])
    parts = (cc, status.st_size, status.st_mtime_ns, FLAGS, VARIANTS[variant], _processor())
    source = b"".join(file.read_bytes() for file in (*SOURCES, *HEADERS))
    return hashlib.sha256(source + repr(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Model and instruction sets of the processor, as -march=native sees them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    keep = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "".join(line for line in lines if line.startswith(keep)) + platform.machine()
