from __future__ import annotations

import itertools
import os
import zlib
from pathlib import Path

import downloads
import pytest
from downloads import CLIPS, LABELS, PARTS, STEM, only, run

from videorwkv.data.unpack import unpack


def members_within(size: int, total: bytes) -> dict[str, bytes]:
    """Members that can be read from the first `size` bytes of a gzipped tar."""
    plain = zlib.decompressobj(wbits=31).decompress(total[:size])
    ends = itertools.accumulate(512 + -(-len(content) // 512) * 512 for content in CLIPS.values())
    # The padding of the last one need not be there.
    whole = [end - 511 <= len(plain) for end in ends]
    return dict(itertools.compress(CLIPS.items(), whole))


# -- not all of it is there ------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [False, True], ids=["parts", "zips"])
@pytest.mark.parametrize("missing", [4, 2, 1, 0])
def test_missing_part(wrap: bool, missing: int, source: Path, root: Path) -> None:
    files = downloads.wrapped(PARTS) if wrap else dict(PARTS)
    suffix = ".zip" if wrap else ""
    name = f"{STEM}-{missing:02d}"
    late = files.pop(name + suffix)
    downloads.put(source, files)
    said = only(run(source, root))
    assert f"part {name} is missing" in said
    assert ("must wait" in said) == (missing < 4)
    sizes = [len(content) for content in PARTS.values()]
    before = members_within(sum(sizes[:missing]), b"".join(PARTS.values()))
    assert downloads.tree(root) == before
    assert (len(before) > 5) == (missing > 0)
    downloads.put(source, {name + suffix: late})
    unpacked = run(source, root)
    assert unpacked.problems == ()
    assert unpacked.n_stood == len(before)
    assert downloads.tree(root) == CLIPS


def test_missing_part_whose_sum_is_known(source: Path, root: Path) -> None:
    sums = "".join(f"{downloads.md5(c)}  {n}\n" for n, c in PARTS.items())
    files = {**PARTS, "md5sums.txt": sums.encode()}
    late = files.pop(f"{STEM}-04")
    downloads.put(source, files)
    assert f"-04 is missing (md5 {downloads.md5(late)})" in only(run(source, root))


@pytest.mark.parametrize("cut", [4, 2])
def test_part_that_is_cut_off(cut: int, source: Path, root: Path) -> None:
    name = f"{STEM}-{cut:02d}"
    whole = PARTS[name]
    downloads.put(source, {**PARTS, name: whole[: len(whole) // 2]})
    said = only(run(source, root))
    assert name in said
    assert "cut off, or still downloading" in said
    sizes = [len(content) for content in PARTS.values()]
    before = members_within(sum(sizes[:cut]) + len(whole) // 2, b"".join(PARTS.values()))
    # Nothing comes from what follows the cut; what comes before it is all there.
    assert downloads.tree(root) == before
    downloads.put(source, {name: whole})
    assert run(source, root).problems == ()
    assert downloads.tree(root) == CLIPS


def test_unequal_parts_count_where_their_sums_say_so(source: Path, root: Path) -> None:
    content = b"".join(PARTS.values())
    pieces = {f"{STEM}-00": content[:9000], f"{STEM}-01": content[9000:]}
    downloads.put(source, pieces)
    assert "put its md5 beside it" in only(run(source, root))
    sums = {f"{name}.md5": downloads.md5(data).encode() for name, data in pieces.items()}
    downloads.put(source, sums)
    assert run(source, root).problems == ()
    assert downloads.tree(root) == CLIPS


def test_zip_that_is_cut_off(source: Path, root: Path) -> None:
    files = downloads.wrapped(PARTS)
    name = f"{STEM}-03.zip"
    downloads.put(source, {**files, name: files[name][:-200]})
    downloads.put(source, {"other.zip": downloads.zip_of(LABELS)[:-30]})
    problems = run(source, root).problems
    cut, other, part = problems
    assert name in cut
    assert "without its end" in cut
    assert "other.zip" in other
    assert "without its end" in other
    assert f"part {STEM}-03" in part
    assert "The part after it must wait" in part
    assert 5 < len(downloads.tree(root)) < 40
    downloads.put(source, {name: files[name]})
    run(source, root)
    assert downloads.tree(root) == CLIPS


def test_downloads_that_browsers_have_not_finished(source: Path, root: Path) -> None:
    name = f"{STEM}-04"
    files = {**PARTS, f"{name}.crdownload": PARTS[name][:100], f"{STEM}-03.aria2": b"state"}
    del files[name]
    downloads.put(source, files)
    lines: list[str] = []
    (said,) = unpack([source], root, say=lines.append).problems
    # aria2 gives a file its full size at once.
    assert f"part {STEM}-03 is missing" in said
    assert sum("still downloading" in line for line in lines) == 3


@pytest.mark.parametrize("wrap", [False, True], ids=["parts", "zips"])
def test_wrong_md5(wrap: bool, source: Path, root: Path) -> None:
    name = f"{STEM}-02"
    # One byte in the middle of a clip: deflate stores such data as it is and notices nothing.
    bad = bytearray(PARTS[name])
    bad[len(bad) // 2] ^= 1
    pieces = {**PARTS, name: bytes(bad)}
    sums = {f"{n}.md5": f"{downloads.md5(c)}  {n}".encode() for n, c in PARTS.items()}
    if wrap:
        files = {f"{n}.zip": downloads.zip_of({n: c, f"{n}.md5": sums[f"{n}.md5"]})
                 for n, c in pieces.items()}  # fmt: skip
    else:
        files = {**pieces, **sums}
    downloads.put(source, files)
    said = only(run(source, root))
    assert f"part {name}" in said
    assert f"expected {downloads.md5(PARTS[name])}, got {downloads.md5(bytes(bad))}" in said
    sizes = [len(content) for content in PARTS.values()]
    assert downloads.tree(root) == members_within(sum(sizes[:2]), b"".join(PARTS.values()))
    good = downloads.wrapped(PARTS)[f"{name}.zip"] if wrap else PARTS[name]
    downloads.put(source, {f"{name}.zip" if wrap else name: good})
    assert run(source, root).problems == ()
    assert downloads.tree(root) == CLIPS


def test_damage_without_any_sum(source: Path, root: Path) -> None:
    content = bytearray(b"".join(PARTS.values()))
    content[len(content) // 2 : len(content) // 2 + 4000] = os.urandom(4000)
    downloads.put(source, {"clips.tar.gz": bytes(content)})
    said = only(run(source, root))
    assert "clips.tar.gz: damaged, in or shortly before byte" in said
    assert "Download it" in said


def test_damage_that_only_the_sum_of_gzip_shows(source: Path, root: Path) -> None:
    content = bytearray(b"".join(PARTS.values()))
    content[-8] ^= 1
    downloads.put(source, {"clips.tar.gz": bytes(content)})
    assert "CRC check failed" in only(run(source, root))
    # It is not taken for done.
    assert "CRC check failed" in only(run(source, root))


def test_damage_that_only_the_sum_of_the_zip_shows(source: Path, root: Path) -> None:
    name = f"{STEM}-01"
    files = {f"{n}.zip": downloads.zip_of({n: content}) for n, content in PARTS.items()}
    bad = bytearray(files[f"{name}.zip"])
    bad[len(bad) // 2] ^= 1
    downloads.put(source, {**files, f"{name}.zip": bytes(bad)})
    said = only(run(source, root))
    assert f"part {name}" in said
    assert "Nothing of it was used" in said
    start = PARTS[f"{STEM}-00"]
    assert downloads.tree(root) == members_within(len(start), b"".join(PARTS.values()))


def test_the_larger_of_two_copies_counts(source: Path, root: Path) -> None:
    name = f"{STEM}-01"
    cut = {f"{name}": PARTS[name][:100], f"{name} (2)": PARTS[name][:200]}
    downloads.put(source, {**PARTS, **cut})
    downloads.put(source / "z again", {name: PARTS[name]})
    lines: list[str] = []
    assert unpack([source], root, say=lines.append).problems == ()
    assert downloads.tree(root) == CLIPS
    assert sum("another copy of" in line for line in lines) == 2


def test_tar_without_compression_that_breaks_off_between_two_members(
    source: Path, root: Path
) -> None:
    whole = downloads.tar({"a.mp4": b"1" * 512, "b.mp4": b"2" * 512}, compress=False)
    downloads.put(source, {"x.tar": whole[:1024]})
    assert "cut off, or still downloading" in only(run(source, root))
    assert downloads.tree(root) == {"a.mp4": b"1" * 512}
    damaged = whole[:1024] + b"x" * 512 + whole[1536:]
    downloads.put(source, {"x.tar": damaged})
    assert "damaged header" in only(run(source, root))


def test_damaged_member_of_a_zip(source: Path, root: Path) -> None:
    content = bytearray(downloads.zip_of({"a.mp4": CLIPS[f"{STEM}/1.webm"], "b.mp4": b"2"}))
    content[500] ^= 1
    downloads.put(source, {"clips.zip": bytes(content)})
    said = only(run(source, root))
    assert "1 members can't be read, such as 'a.mp4'" in said
    assert downloads.tree(root) == {"b.mp4": b"2"}
