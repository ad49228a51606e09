"""Compiles scan.c: on first use, once a machine, into the user's cache. Never at import.

It is plain C behind ctypes, without a header of Python or PyTorch: half a second with any gcc or
clang, and one library serves every version of both.
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
from pathlib import Path

from videorwkv.errors import UsageError
from videorwkv.utils.files import atomic, cache_folder

SOURCE = Path(__file__).with_name("scan.c")
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
def load(variant: str) -> ctypes.CDLL:
    """The library for tensors of one type, a key of VARIANTS; compiled if the cache lacks it.

    Raises:
        UsageError: no compiler, or one that fails; the message has its first words.
    """
    cc = compiler()
    name = f"scan-{variant}-{_key(cc, variant)}.so"
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            # Another process may be quicker: one of two equal files stays.
            with atomic(folder / name) as file:
                _compile(cc, variant, Path(file.name))
        return _open(folder / name)
    except OSError:
        pass  # no home, or one that can't be written to, or that runs no programs
    try:
        with tempfile.TemporaryDirectory() as temporary:
            _compile(cc, variant, Path(temporary) / name)
            return _open(Path(temporary) / name)
    except OSError as error:
        raise UsageError(
            f"The scan backend 'native': the library that {cc[0]} made can't be loaded: {error}. "
            "Choose backend='chunked'."
        ) from error


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.run_scan.argtypes = [ctypes.c_void_p]
    library.run_scan.restype = ctypes.c_int
    return library


def _compile(cc: list[str], variant: str, target: Path) -> None:
    for machine in TARGETS:
        command = [*cc, *FLAGS, *machine, *VARIANTS[variant], str(SOURCE), "-o", str(target), "-lm"]
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
        f"The scan backend 'native': {cc[0]} can't compile {SOURCE.name}: "
        f"{words or f'exit code {done.returncode}'}. Set CC to another compiler, or choose "
        "backend='chunked'."
    )


def _key(cc: list[str], variant: str) -> str:
    """Names all that the library depends on: a shared home serves machines of several kinds."""
    status = os.stat(cc[0])
    parts = (cc, status.st_size, status.st_mtime_ns, FLAGS, VARIANTS[variant], _processor())
    source = SOURCE.read_bytes() + SOURCE.with_suffix(".h").read_bytes()
    return hashlib.sha256(source + repr(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Model and instruction sets of the processor, as -march=native sees them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    keep = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "".join(line for line in lines if line.startswith(keep)) + platform.machine()
