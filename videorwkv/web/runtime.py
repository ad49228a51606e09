"""ONNX Runtime for the browser, as its makers publish it on npm: fetched once, then kept.

The version is pinned together with the hash of its archive, so that a page that was tested is the
page that is written. npm does the fetching, because it knows the user's proxy and mirror.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from videorwkv.errors import DataError, UsageError
from videorwkv.utils.files import atomic, cache_folder

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# As npm writes it: SHA-512 of the archive, base64.
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
# Two builds: one that runs everywhere, in WebAssembly with SIMD and threads, of 14 MB, and one that
# also runs on a GPU, of 27 MB. A browser loads the second only where it has WebGPU.
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = (
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
# Seconds for 31 MB over a slow line.
TIMEOUT = 600

_WITHOUT_NPM = (
    f"Install Node.js, which brings npm, or run `npm pack {PACKAGE}@{VERSION}` on a machine that "
    f"has it, copy the file {ARCHIVE} here and name it: --runtime {ARCHIVE}"
)


def runtime_files(archive: str | Path | None = None) -> Mapping[str, Path]:
    """The files that a page takes: name -> path, in the user's cache.

    Args:
        archive: what `npm pack` has made; None: the cache, or npm where the cache lacks it.

    Raises:
        UsageError: there is no npm, no such archive, or it is another version's.
        DataError: npm can't fetch it, or the cache can't be written.
    """
    try:
        folder = cache_folder() / f"{PACKAGE}-{VERSION}"
        names = (*WASM, *WEBGPU)
        if archive is not None:
            _unpack(_read(Path(archive)), folder)
        elif not all((folder / name).is_file() for name in names):
            _unpack(_fetched(), folder)
    except OSError as error:
        raise DataError(
            f"{PACKAGE} can't be kept in the cache ({error}). Make room, or choose another place "
            "with the environment variable XDG_CACHE_HOME."
        ) from error
    return {name: folder / name for name in names}


def _read(archive: Path) -> bytes:
    """An archive that is the pinned one."""
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--runtime {archive}: {error.strerror or error}. It is the file that "
            f"`npm pack {PACKAGE}@{VERSION}` makes."
        ) from error
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        raise UsageError(
            f"{archive} is not {ARCHIVE} as it was published, which is the only version that this "
            f"page was tested with. Make it anew: npm pack {PACKAGE}@{VERSION}"
        )
    return content


def _fetched() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(
            f"A page needs {PACKAGE} {VERSION}, which npm fetches once (31 MB), and there is no "
            f"npm on the PATH. {_WITHOUT_NPM}"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            # In its own folder: npm reads settings of the folder that it is called in.
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DataError(f"npm can't fetch {PACKAGE} {VERSION}: {error}.") from error
        path = Path(folder, ARCHIVE)
        if done.returncode or not path.is_file():
            words = " ".join((done.stderr or done.stdout).split())[:300]
            raise DataError(
                f"npm can't fetch {PACKAGE} {VERSION}: {words or f'exit code {done.returncode}'}. "
                f"Check the network, or npm's proxy and registry (`npm config list`). "
                f"{_WITHOUT_NPM.replace('Install Node.js, which brings npm, or run', 'Or run')}"
            )
        return _read(path)


def _unpack(archive: bytes, folder: Path) -> None:
    """The files of the page, and no other, whatever the archive holds."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as tar:
            for name in (*WASM, *WEBGPU):
                content = tar.extractfile(f"package/dist/{name}")
                assert content is not None, name
                with atomic(folder / name) as target:
                    shutil.copyfileobj(content, target)
