"""Archives that were made to do harm: bounded memory, and one bad member spoils no other."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import downloads
import numpy as np
import pytest
from downloads import only, run

from videorwkv.data.unpack.write import STATE
from videorwkv.errors import DataError, VideoRWKVError

CLIP = b"clip" * 100
# Of a process that unpacks, beyond what it takes before.
MEMORY = 150 << 20


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def member(name: str, content: bytes = CLIP) -> bytes:
    return header(name, tarfile.REGTYPE, len(content)) + padded(content)


def record(key: str, value: str) -> bytes:
    line = f" {key}={value}\n"
    length = len(line) + len(str(len(line)))
    length += len(str(length)) - len(str(len(line)))
    return f"{length}{line}".encode()


def attributes(content: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header("x", kind, len(content)) + padded(content)


def sparse_1_0(entries: bytes) -> bytes:
    """A member whose map of holes stands before what it holds."""
    pax = b"".join(record(key, value) for key, value in (
        ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "b.mp4"),
        ("GNU.sparse.realsize", str(3 << 30)),
    ))  # fmt: skip
    return attributes(pax) + member("b.mp4", entries)


def old_sparse(blocks: int) -> bytes:
    """A member of the old GNU kind, with so many blocks of its map behind the header."""
    first = bytearray(header("b.mp4", tarfile.GNUTYPE_SPARSE, 512))
    first[386:410] = b"00000000000\0" + b"00000001000\0"
    first[482], first[483:495] = int(blocks > 0), b"%011o\0" % (3 << 30)
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    extended = [
        b"00000000000\0" * 42 + bytes([number + 1 < blocks]) + bytes(7) for number in range(blocks)
    ]
    return bytes(first) + b"".join(extended) + padded(b"x" * 512)


HOLLOW = {
    "a map that never ends": sparse_1_0(b"900000000\n" + b"0\n" * (20 << 20)),
    "a short map": sparse_1_0(padded(b"1\n0\n0\n") + b"x" * 512),
    "map in the attributes": attributes(
        b"".join(record(f"GNU.sparse.{key}", value) for key, value in (
            ("size", str(3 << 30)), ("numblocks", "1"), ("map", "0,0"), ("name", "b.mp4")))
    ) + member("b.mp4"),
    "old": old_sparse(0),
    "old, long": old_sparse(40_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOLLOW)
def test_sparse_members_are_passed_over(source: Path, root: Path, kind: str) -> None:
    content = member("a.mp4") + HOLLOW[kind] + member("c.mp4") + bytes(1024)
    downloads.put(source, {"set.tar": content})
    assert "sparse" in only(run(source, root))
    assert downloads.tree(root) == {"a.mp4": CLIP, "c.mp4": CLIP}


def bombs() -> dict[str, bytes]:
    many = b"".join(record(f"k{number}", "") for number in range(4000))
    huge = record("comment", "x" * (8 << 20))
    zeros = bytes(1 << 20)
    end = bytes(1024)
    return {
        "attributes without an end": gzip.compress(attributes(huge) + member("b.mp4") + end),
        "attributes in attributes": gzip.compress(attributes(many) * 300 + member("b.mp4") + end),
        "names in names": gzip.compress(
            attributes(b"n" * 60_000, tarfile.GNUTYPE_LONGNAME) * 300 + member("b.mp4") + end
        ),
        "attributes of all": gzip.compress(
            (attributes(many, tarfile.XGLTYPE) + member("a.mp4")) * 100 + end
        ),
        "zeros, gzip": gzip.compress(
            header("b.mp4", tarfile.REGTYPE, 100 << 20) + zeros * 100 + end
        ),
        "zeros, bzip2": bz2.compress(
            header("b.mp4", tarfile.REGTYPE, 100 << 20) + zeros * 100 + end
        ),
        "a dictionary of 1.5 GB": lzma.compress(
            member("b.mp4") + end,
            filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 3 << 29}],
        ),
    }  # fmt: skip


RUN = """
import resource, sys
from videorwkv.data.unpack import unpack
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for source in sys.argv[2:]:
    done = unpack([source], sys.argv[1] + source, say=lambda line: None)
    print(len(done.problems))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


def test_bombs_fill_no_memory(source: Path, root: Path) -> None:
    """Neither tars nor zips; unpacked in a process that ends at 4 GB."""
    for number, content in enumerate([*bombs().values(), *zip_bombs()]):
        downloads.put(source / str(number), {"x.tar.gz": content})
    sources = sorted(source.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(root), *map(str, sources)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *problems, taken = map(int, done.stdout.split())
    assert problems == [1] * len(sources)
    assert taken < MEMORY
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 10_000_000


def zip_bombs() -> Iterator[bytes]:
    """A clip, or a list of sums, of zeros, in ways whose readers put no bound on what they give."""
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        for name in ("b.mp4", "x-md5.txt"):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("a.tar.gz", downloads.tar({"a.mp4": CLIP}))
                archive.writestr(name, bytes(100 << 20), method)
            yield buffer.getvalue()


def test_one_name_spoils_no_other(source: Path, root: Path) -> None:
    names = ["a.mp4", "n" * 300 + ".mp4", "a.mp4/b.mp4", "d/" * 3000 + "x.mp4", "e/f.mp4", "e",
             "z.mp4"]  # fmt: skip
    for pack in (downloads.tar, downloads.zip_of):
        target = root / pack.__name__
        downloads.put(source, {"set.tar": pack(dict.fromkeys(names, CLIP))})
        downloads.put(source, {"other.zip": downloads.zip_of({"o.mp4": CLIP})})
        problem = only(run(source, target))
        assert "not unpacked" in problem
        assert len(problem) < 1000
        assert set(downloads.tree(target)) == {"a.mp4", "e/f.mp4", "z.mp4", "o.mp4"}


def test_a_pipe_among_downloads(source: Path, root: Path) -> None:
    os.mkfifo(source / "x.tar")
    downloads.put(source, {"set.tar": downloads.tar({"a.mp4": CLIP})})
    assert "no regular file" in only(run(source, root))
    assert set(downloads.tree(root)) == {"a.mp4"}


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"done": 3}', '{"done": {"x": {}}}', '{"begun": 3}', "[" * 100_000,
             '{"done": {"x": {"clips": "1", "ends": []}}}',
             '{"done": {"x": {"clips": 1, "ends": [3]}}}', '{"done": {}, "crc32": "0"}']
)  # fmt: skip
def test_a_strange_note_of_what_is_done(source: Path, root: Path, text: str) -> None:
    downloads.put(source, {"set.tar": downloads.tar({"a.mp4": CLIP})})
    root.mkdir()
    (root / STATE).write_text(text)
    with pytest.raises(DataError, match="can't be read"):
        run(source, root)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "xz"])
def test_mutants(source: Path, root: Path, kind: str) -> None:
    """Bytes changed, cut or doubled: told, or all that is unpacked is what was packed."""
    files = {f"set/{number}.mp4": bytes([number]) * 700 for number in range(6)}
    whole = {
        "tar": downloads.tar(files, compress=False),
        "tar.gz": downloads.tar(files),
        "zip": downloads.zip_of(files),
        "xz": lzma.compress(downloads.tar(files, compress=False)),
    }[kind]
    rng = np.random.default_rng(0)
    for number in range(25):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(content)))
            what = rng.integers(3)
            if what == 0:
                content[at] ^= 1 << int(rng.integers(8))
            elif what == 1:
                del content[at : at + rng.integers(1, 600)]
            else:
                content[at:at] = content[at : at + rng.integers(1, 600)]
        target = root / str(number)
        downloads.put(source, {"set.tar": bytes(content)})
        try:
            is_told = bool(run(source, target).problems)
        except VideoRWKVError:
            is_told = True
        if is_told:
            continue
        if kind != "tar":  # which has no sum of what its members hold
            found = downloads.tree(target)
            assert all(files.get(name, content) == content for name, content in found.items())
