from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import downloads
import pytest
from downloads import CLIPS, LABELS, PARTS, STEM, counts, only, run

from videorwkv.data.unpack.write import STATE
from videorwkv.errors import DataError

# -- interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_interrupted_while_writing(
    error: BaseException | type, source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads.put(source, PARTS)
    replace = os.replace
    count = 0

    def failing(old: Any, new: Any) -> None:
        nonlocal count
        if str(new).endswith(".webm"):
            count += 1
            if count == 9:
                raise error
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("videorwkv.utils.files.os.replace", failing)
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                run(source, root)
        else:
            with pytest.raises(DataError, match=r"9\.webm can't be written \(No space left\)"):
                run(source, root)
    assert [p.name for p in root.rglob("*") if p.is_file()] != []
    assert downloads.tree(root) == dict(list(CLIPS.items())[:8])
    assert not list(root.rglob("*.part"))
    assert counts(run(source, root)) == (32, 8, 40)
    assert downloads.tree(root) == CLIPS


def test_killed_in_the_middle_of_a_file(source: Path, root: Path) -> None:
    downloads.put(source, PARTS)
    script = """
import os, sys
from videorwkv.data import unpack as unpacking
write = unpacking.write_file
def slow(path, size, content):
    class Dying:
        begun = False
        def read(self, size):
            if self.begun:
                os.kill(os.getpid(), 9)
            self.begun = True
            return content.read(1000)
    write(path, size, Dying() if path.name == "12.webm" else content)
unpacking.write_file = slow
unpacking.unpack([sys.argv[1]], sys.argv[2])
"""
    killed = subprocess.run([sys.executable, "-c", script, source, root], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert downloads.tree(root) == dict(list(CLIPS.items())[:11])
    # The clip that was being written lies there under another name, and its place is used again.
    (left,) = root.rglob("*.part")
    assert left.stat().st_size == 1000
    assert run(source, root).n_stood == 11
    assert downloads.tree(root) == CLIPS
    assert not list(root.rglob("*.part"))


def test_full_disk_is_refused_before_anything_is_written(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads.put(source, {**PARTS, "labels.zip": downloads.zip_of(LABELS)})
    usage = shutil.disk_usage(source)
    free = 100_000

    def disk_usage(path: Any) -> Any:
        return usage._replace(free=free)

    monkeypatch.setattr("videorwkv.utils.files.shutil.disk_usage", disk_usage)
    with pytest.raises(DataError, match=r"needs 173\.\d kB.* has 100\.0 kB free.*nothing was"):
        run(source, root)
    assert not root.exists()
    free = 400_000
    (source / f"{STEM}-04").rename(source / "later")
    run(source, root)
    stood = len(downloads.tree(root)) - len(LABELS)
    assert stood > 20
    # What stands is not needed again.
    free = 4096 * (40 - stood) + 4096
    (source / "later").rename(source / f"{STEM}-04")
    assert run(source, root).problems == ()


@pytest.mark.parametrize("pack", [downloads.tar, downloads.zip_of])
def test_a_name_that_cannot_be_written_is_no_fault_of_the_download(
    pack: Any, source: Path, root: Path
) -> None:
    downloads.put(source, {"clips.tar.gz": pack({"n" * 300 + ".mp4": b"1"})})
    problem = only(run(source, root))
    assert "(File name too long)" in problem
    assert "Download" not in problem


def test_members_of_a_zip_that_stand_are_not_needed_again(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads.put(source, {"clips.zip": downloads.zip_of(CLIPS)})
    downloads.put(root, dict(list(CLIPS.items())[:30]))
    usage = shutil.disk_usage(source)._replace(free=10 * 4096)
    monkeypatch.setattr("videorwkv.utils.files.shutil.disk_usage", lambda path: usage)
    assert counts(run(source, root)) == (10, 30, 40)


def test_one_at_a_time(source: Path, root: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    downloads.put(source, PARTS)
    root.mkdir()
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is unpacking"):
            run(source, root)
    finally:
        os.close(handle)
    assert run(source, root).n_written == 40


def test_damaged_state_says_what_to_delete(source: Path, root: Path) -> None:
    downloads.put(source, PARTS)
    downloads.put(root, {STATE: b"{"})
    with pytest.raises(DataError, match="Delete it"):
        run(source, root)


def test_state_of_an_earlier_version(source: Path, root: Path) -> None:
    downloads.put(source, PARTS)
    begun = b'{"done": {}, "begun": {"/%s": {"size": 1, "last": "x"}}, "checked": []}'
    downloads.put(root, {STATE: begun % STEM.encode()})
    assert counts(run(source, root)) == (40, 0, 40)


# -- archives that want out ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil.mp4", "a/../../evil.mp4", "{}/evil.mp4"])
def test_members_outside(name: str, source: Path, root: Path, tmp_path: Path) -> None:
    name = name.format(tmp_path)
    members = {"good.mp4": b"1", name: b"2", "late.mp4": b"3"}
    downloads.put(source, {"a.tar.gz": downloads.tar(members), "b.zip": downloads.zip_of(members)})
    problems = run(source, root).problems
    assert len(problems) == 2
    assert all(name in problem and "refused" in problem for problem in problems)
    assert downloads.tree(root) == {"good.mp4": b"1"}
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(kind: bytes, source: Path, root: Path) -> None:
    info = tarfile.TarInfo("link.mp4")
    info.type, info.linkname = kind, "/etc/passwd"
    downloads.put(source, {"a.tar.gz": downloads.tar_of(info)})
    assert "'link.mp4' is a link or a device; refused" in only(run(source, root))
    assert downloads.tree(root) == {}


def test_link_in_a_zip(source: Path, root: Path) -> None:
    link = zipfile.ZipInfo("link.mp4")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(source / "a.zip", "w") as archive:
        archive.writestr("good.mp4", b"1")
        archive.writestr(link, "/etc/passwd")
    assert "'link.mp4' is a link" in only(run(source, root))
    assert downloads.tree(root) == {}


# -- archives that would fill the memory -----------------------------------------------------------


@pytest.fixture(params=["this Python's", "3.11.7's", "3.13.5's"])
def _tarfile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tarfile` as older and newer versions of Python call what parses a header."""
    if request.param == "this Python's":
        return
    parse = getattr(tarfile.TarInfo, "_frombuf", tarfile.TarInfo.frombuf).__func__  # type: ignore[attr-defined]
    name = "frombuf" if request.param == "3.11.7's" else "_frombuf"

    def from_bytes(cls: type, buf: bytes, encoding: str, errors: str, **options: bool) -> object:
        return parse(cls, buf, encoding, errors)

    def from_tar(cls: type, tar: tarfile.TarFile) -> object:
        buf = tar.fileobj.read(tarfile.BLOCKSIZE)  # type: ignore[union-attr]
        member = getattr(cls, name)(buf, tar.encoding, tar.errors)
        member.offset = tar.fileobj.tell() - tarfile.BLOCKSIZE  # type: ignore[union-attr]
        return member._proc_member(tar)

    monkeypatch.setattr(tarfile.TarInfo, name, classmethod(from_bytes), raising=False)
    monkeypatch.setattr(tarfile.TarInfo, "fromtarfile", classmethod(from_tar))


@pytest.mark.usefixtures("_tarfile")
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_header_is_not_read(kind: bytes, source: Path, root: Path) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 1 << 31
    start = downloads.tar({"a.mp4": b"1"}, compress=False)[:1024]
    downloads.put(source, {"a.tar": start + info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000)})
    assert "damaged header: 2,147,483,648 bytes long" in only(run(source, root))
    assert downloads.tree(root) == {"a.mp4": b"1"}


@pytest.mark.parametrize("records", [b"21 GNU.sparse.size=x\n", b"12 size=-55\n"])
def test_a_header_that_lies(records: bytes, source: Path, root: Path) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    header = info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")
    downloads.put(source, {"a.tar": header + downloads.tar({"a.mp4": b"1"}, compress=False)})
    assert only(run(source, root)).startswith("a.tar: ")
    assert downloads.tree(root) == {}


def test_a_huge_list_of_sums_is_not_read_whole(source: Path, root: Path) -> None:
    content = {f"{STEM}-00": downloads.tar(CLIPS), f"{STEM}-00.md5": bytes(50_000_000)}
    downloads.put(source, {f"{STEM}-00.zip": downloads.zip_of(content)})
    del content
    tracemalloc.start()
    try:
        assert run(source, root).problems == ()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_modes_of_the_archive_do_not_count(source: Path, root: Path) -> None:
    with tarfile.open(source / "a.tar", "w") as archive:
        for name, kind in (("locked", tarfile.DIRTYPE), ("locked/a.mp4", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size = kind, 0o000, 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"1"))
    assert run(source, root).problems == ()
    assert downloads.tree(root) == {"locked/a.mp4": b"1"}
