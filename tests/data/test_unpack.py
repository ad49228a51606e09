from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import IO, Any

import downloads
import pytest
from downloads import CLIPS, LABELS, PARTS, STEM, counts, only, run

from videorwkv.data.unpack import unpack
from videorwkv.data.unpack.write import STATE, write_file
from videorwkv.errors import UsageError

# -- whole downloads -------------------------------------------------------------------------------


def test_split_tar_and_lists(source: Path, root: Path) -> None:
    downloads.put(source, PARTS)
    downloads.put(source, {"something-something-v2-train.json": b"[]", "notes.odt": b"x"})
    lines: list[str] = []
    unpacked = unpack([source], root, say=lines.append)
    assert downloads.tree(root) == {**CLIPS, "something-something-v2-train.json": b"[]"}
    assert counts(unpacked) == (41, 0, 40)
    said = "\n".join(lines)
    assert f"found {STEM}: split tar, parts 00 to 04" in said
    assert f"left alone: {source / 'notes.odt'}" in said
    assert "needed: " in said
    assert "an estimate" in said


def test_nothing_in_the_source_changes_and_it_may_be_read_only(source: Path, root: Path) -> None:
    downloads.put(source, downloads.wrapped(PARTS))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in source.iterdir()}
    for path in [*before, source]:
        path.chmod(path.stat().st_mode & 0o555)
    run(source, root)
    source.chmod(0o755)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in source.iterdir()} == before
    assert downloads.tree(root) == CLIPS
    assert all(path.stat().st_mode & 0o600 == 0o600 for path in root.rglob("*.webm"))


def test_zips_of_parts_with_sums(source: Path, root: Path) -> None:
    downloads.put(source, downloads.wrapped(PARTS))
    downloads.put(source, {"20bn-something-something-download-package-labels.zip":
                           downloads.zip_of(LABELS)})  # fmt: skip
    unpacked = run(source, root)
    assert unpacked.problems == ()
    assert downloads.tree(root) == {**CLIPS, **LABELS}


def test_zips_without_their_suffix_that_hold_a_part_each(source: Path, root: Path) -> None:
    """So the owners' servers name them now; some are unzipped already, beside their zips."""
    wrapped = downloads.wrapped(PARTS)
    downloads.put(source, {name.removesuffix(".zip"): data for name, data in wrapped.items()})
    downloads.put(source / "again", {f"{STEM}-02": PARTS[f"{STEM}-02"]})
    assert run(source, root).problems == ()
    assert downloads.tree(root) == CLIPS


def test_a_zip_of_all_parts_and_one_of_frames(source: Path, root: Path) -> None:
    jester = downloads.frames("20bn-jester-v1", 7)
    pieces = downloads.parts(downloads.tar(jester), "20bn-jester-v1", 3)
    sums = "".join(f"{downloads.md5(c)} *{n}\n" for n, c in pieces.items())
    downloads.put(source, {"zip1": downloads.zip_of({**pieces, "md5sum.txt": sums.encode()})})
    kaggle = {"Train/8/00001.jpg": b"\xff\xd8", "Train.csv": b"video_id,label\n8,a\n",
              "__MACOSX/Train/8/._00001.jpg": b"junk", "Train/8/.DS_Store": b"junk"}  # fmt: skip
    downloads.put(source, {"archive.zip": downloads.zip_of(kaggle)})
    unpacked = run(source, root)
    assert downloads.tree(root) == {**jester, **dict(list(kaggle.items())[:2])}
    assert unpacked.n_clips == 8


def test_tars_in_folders_and_awkward_names(source: Path, root: Path) -> None:
    train = {"./-abc DEF_ö1_000001_000011.mp4": b"1" * 700, "./b, c.mp4": b"2" * 512}
    extra = {"replacement_for_corrupted_k400/日本.mp4": b"3"}
    downloads.put(source, {"k400/train/part_0.tar.gz": downloads.tar(train),
                           "k400/val/part_10.tar": downloads.tar({"v.mp4": b"4"}, compress=False),
                           "k400/replacement/r.tgz": downloads.tar(extra),
                           "k400/train.csv": b"label,youtube_id\n"})  # fmt: skip
    unpacked = run(source, root)
    assert unpacked.problems == ()
    assert downloads.tree(root) == {
        "k400/train/-abc DEF_ö1_000001_000011.mp4": b"1" * 700,
        "k400/train/b, c.mp4": b"2" * 512,
        "k400/val/v.mp4": b"4",
        "k400/replacement/replacement_for_corrupted_k400/日本.mp4": b"3",
        "k400/train.csv": b"label,youtube_id\n",
    }


@pytest.mark.parametrize("mode", ["w:bz2", "w:xz"])
def test_other_compressions(mode: str, source: Path, root: Path) -> None:
    with tarfile.open(source / "clips.bin", mode) as archive:
        archive.add(__file__, "a/clip.mp4")
    assert run(source, root).problems == ()
    assert list(downloads.tree(root)) == ["a/clip.mp4"]


def test_into_the_folder_of_the_downloads(source: Path) -> None:
    downloads.put(source, {**PARTS, "train.json": b"[]"})
    assert run(source, source).problems == ()
    assert downloads.tree(source) == {**PARTS, **CLIPS, "train.json": b"[]"}
    assert run(source, source).n_written == 0


def test_into_a_folder_of_the_downloads(source: Path) -> None:
    downloads.put(source, {**PARTS, "train.json": b"[]"})
    for _ in range(2):
        lines: list[str] = []
        unpack([source], source / "set", say=lines.append)
        assert sum(line.startswith("found ") for line in lines) == 2
    assert downloads.tree(source / "set") == {**CLIPS, "train.json": b"[]"}


def test_parts_in_folders_of_their_own(source: Path, root: Path) -> None:
    """So some programs unzip."""
    downloads.put(source / "ssv2", {f"{name}/{name}": data for name, data in PARTS.items()})
    assert run(source, root).problems == ()
    assert downloads.tree(root / "ssv2") == CLIPS


def test_single_files(source: Path, root: Path) -> None:
    downloads.put(source, {"part_3.tar.gz": downloads.tar({"x.mp4": b"1"}), "other.tar": b"no"})
    unpack([source / "part_3.tar.gz"], root, say=lambda line: None)
    assert downloads.tree(root) == {"x.mp4": b"1"}


# -- again -----------------------------------------------------------------------------------------


def test_the_second_run_reads_nothing(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads.put(source, {**PARTS, "labels.zip": downloads.zip_of(LABELS)})
    run(source, root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("videorwkv.data.unpack.tar_members", refuse)
    lines: list[str] = []
    again = unpack([source], root, say=lines.append)
    assert counts(again) == (0, 0, 40)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert f"found {STEM}: split tar, parts 00 to 04" in lines[1]
    assert lines[1].endswith("done before")


def test_a_file_that_was_deleted_comes_back(source: Path, root: Path) -> None:
    downloads.put(source, PARTS)
    run(source, root)
    shutil.rmtree(root / STEM)
    assert run(source, root).n_written == 40
    (root / STATE).unlink()
    (root / STEM / "7.webm").unlink()
    assert counts(run(source, root)) == (1, 39, 40)


def test_another_file_under_a_name_is_left_as_it_is(source: Path, root: Path) -> None:
    downloads.put(source, PARTS)
    downloads.put(root, {f"{STEM}/3.webm": b"mine"})
    said = only(run(source, root))
    assert "3.webm has 4 bytes, the archive's 4,003" in said
    assert downloads.tree(root) == {**CLIPS, f"{STEM}/3.webm": b"mine"}


# -- nothing to do ---------------------------------------------------------------------------------


def test_nothing_known(source: Path, root: Path, tmp_path: Path) -> None:
    downloads.put(source, {"clip.mp4": b"1", "thing.bin": b"2"})
    with pytest.raises(UsageError, match=r"nothing to unpack.*1 pictures or videos"):
        run(source, root)
    with pytest.raises(UsageError, match="no such file or folder"):
        run(tmp_path / "absent", root)
    assert not root.exists()


def test_numbered_files_that_are_no_parts(source: Path, root: Path) -> None:
    """Several tars with numbers for names are several tars; numbered notes are notes."""
    downloads.put(source, {"set-01": downloads.tar({"a.mp4": b"1"}),
                           "set-02": downloads.tar({"b.mp4": b"2"}),
                           "notes-01": b"text", "notes-02": b"text"})  # fmt: skip
    lines: list[str] = []
    assert unpack([source], root, say=lines.append).problems == ()
    assert downloads.tree(root) == {"a.mp4": b"1", "b.mp4": b"2"}
    assert sum(line.startswith("left alone") for line in lines) == 2


def test_a_zip_of_numbered_videos_is_found_once(source: Path, root: Path) -> None:
    downloads.put(source, {"a.zip": downloads.zip_of({"video_01": b"1", "video_02": b"2"})})
    lines: list[str] = []
    unpack([source], root, say=lines.append)
    assert sum(line.startswith("found") for line in lines) == 1
    assert downloads.tree(root) == {"video_01": b"1", "video_02": b"2"}


def test_content_that_ends_early_is_not_taken_for_whole(tmp_path: Path) -> None:
    content: IO[bytes] = io.BytesIO(b"123")
    with pytest.raises(EOFError):
        write_file(tmp_path / "a.mp4", 5, content)
    assert list(tmp_path.iterdir()) == []


def test_state_is_small(source: Path, root: Path) -> None:
    downloads.put(source / "in a folder", PARTS)
    run(source, root)
    state = json.loads((root / STATE).read_text())
    assert (len(state["done"]), state["begun"]) == (1, {})
    assert (root / STATE).stat().st_size < 1000
