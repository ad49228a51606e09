"""Small downloads as the data sets' owners give them out, for the tests of unpacking."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from videorwkv.data.unpack import Unpacked, unpack


def clips(folder: str, count: int, *, size: int = 4000, suffix: str = ".webm") -> dict[str, bytes]:
    """Members: a folder of files that hardly compress, as videos do."""
    return {
        f"{folder}/{number}{suffix}": hashlib.shake_128(f"{folder}{number}".encode()).digest(
            size + number
        )
        for number in range(1, count + 1)
    }


def frames(folder: str, ids: int, *, per_clip: int = 3) -> dict[str, bytes]:
    """Members: a folder of frames for each clip."""
    return {
        f"{folder}/{clip}/{number:05d}.jpg": hashlib.shake_128(f"{clip}/{number}".encode()).digest(
            900 + number
        )
        for clip in range(1, ids + 1)
        for number in range(1, per_clip + 1)
    }


def tar(members: Mapping[str, bytes], *, compress: bool = True) -> bytes:
    """A tar of these files, the same for the same members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0) if compress else buffer.getvalue()


def tar_of(*infos: tarfile.TarInfo) -> bytes:
    """A tar of members without content: links, folders, devices."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info in infos:
            archive.addfile(info)
    return gzip.compress(buffer.getvalue(), mtime=0)


def parts(content: bytes, stem: str, count: int) -> dict[str, bytes]:
    """Pieces of equal length, the last one shorter, as `split -d` names them."""
    size = -(-len(content) // count)
    return {
        f"{stem}-{number:02d}": content[number * size : (number + 1) * size]
        for number in range(count)
    }


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def zip_of(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def wrapped(pieces: Mapping[str, bytes]) -> dict[str, bytes]:
    """Each part in a zip of its own, with its md5 beside it."""
    return {
        f"{name}.zip": zip_of({name: content, f"{name}.md5": f"{md5(content)}  {name}\n".encode()})
        for name, content in pieces.items()
    }


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones left out."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


STEM = "20bn-something-something-v2"
CLIPS = clips(STEM, 40)
PARTS = parts(tar(CLIPS), STEM, 5)
LABELS = {"labels/labels.json": b'{"a": "0"}', "labels/train.json": b"[]"}


def run(source: Path, root: Path) -> Unpacked:
    return unpack([source], root, say=lambda line: None)


def counts(unpacked: Unpacked) -> tuple[int, int, int]:
    """Files written, files that stood, clips; where nothing went wrong."""
    assert unpacked.problems == ()
    return unpacked.n_written, unpacked.n_stood, unpacked.n_clips


def only(unpacked: Unpacked) -> str:
    """The one thing that went wrong."""
    assert len(unpacked.problems) == 1, unpacked.problems
    return unpacked.problems[0]
