from __future__ import annotations

import csv
import faulthandler
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from clip_files import cut, encode, make, overwrite, remux

from videorwkv.data import check as check_module
from videorwkv.data.check import check, signature
from videorwkv.data.check.inspect_clip import inspect_clip
from videorwkv.data.check.report import Finding
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row, make_manifest
from videorwkv.errors import ManifestError, UsageError

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="patched functions need fork")


def _manifest(*clips: tuple[Path, str | None, str]) -> Manifest:
    rows = [Row(str(path), label, split) for path, label, split in clips]
    return make_manifest("clips", rows, root=clips[0][0].parent)


def _verdicts(report: check_module.CheckReport) -> dict[str, str]:
    return {clip.path: clip.finding.verdict for clip in report.clips}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three different clips: a.mp4, b.mp4, c.mp4."""
    root = tmp_path_factory.mktemp("three clips")
    for count, name in enumerate("abc", start=10):
        make(root, "index_first.mp4", count).rename(root / f"{name}.mp4")
    return root


@pytest.fixture
def three(clips: Path, tmp_path: Path) -> Manifest:
    root = tmp_path / "data"
    shutil.copytree(clips, root)
    return _manifest(*((root / f"{name}.mp4", "wave", "train") for name in "abc"))


def test_all_is_well(class_folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(class_folder)
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    report = check(manifest, out, workers=2, on_clip=lambda *counts: seen.append(counts))
    assert seen == [(n, 12) for n in range(13)]
    assert report.verdicts == {"ok": 12}
    assert not report.bad
    assert not report.copies

    arguments = report.save(out)
    assert arguments == ["train", str(out / "good.csv")]
    again = load_manifest(out / "good.csv")
    assert [(os.path.realpath(r.path), r.label, r.split) for r in again.rows] == [
        (os.path.realpath(r.path), r.label, r.split) for r in manifest.rows
    ]
    with (out / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [manifest.relative_path(r) for r in manifest.rows]
    assert {(row["frames"], row["seconds"], row["fps"]) for row in rows} == {
        ("20", "2.000", "10.000")
    }
    assert {(row["width"], row["height"], row["codec"]) for row in rows} == {("48", "48", "h264")}
    assert {row["remarks"] for row in rows} == {"very small: 48x48"}
    assert (out / "bad.csv").read_text().count("\n") == 1
    assert not (out / "flips.csv").exists()


def test_bad_clips_are_listed_and_left_out(three: Manifest, tmp_path: Path) -> None:
    root = Path(three.root)
    cut(root / "b.mp4", 0.8)
    (root / "c.mp4").write_bytes(b"")
    gone = Row(str(root / "gone.mp4"), "wave", "validation")
    extra = Row(str(root / "nowhere.mp4"), "wave", "train")
    manifest = replace(three, rows=(*three.rows, extra), missing=(gone,))
    report = check(manifest, tmp_path / "out", workers=1)
    assert _verdicts(report) == {
        "a.mp4": "ok",
        "b.mp4": "truncated",
        "c.mp4": "empty",
        "nowhere.mp4": "missing",
        "gone.mp4": "missing",
    }
    report.save(tmp_path / "out")
    assert len(load_manifest(tmp_path / "out/good.csv").rows) == 1
    with (tmp_path / "out/bad.csv").open(newline="") as file:
        bad = list(csv.DictReader(file))
    assert [row["path"] for row in bad] == ["b.mp4", "c.mp4", "nowhere.mp4", "gone.mp4"]
    shown = report.examples()
    assert "truncated: 1\n  b.mp4: at frame " in shown
    assert "missing: 2" in shown


def test_strict_leaves_damaged_clips_out(three: Manifest, tmp_path: Path) -> None:
    path = encode(Path(three.root) / "b.mp4", 60, options={"g": "10"})
    overwrite(path, 0.5, bytes(range(200)))
    report = check(three, tmp_path / "out", workers=1)
    assert _verdicts(report)["b.mp4"] == "damaged"
    assert not report.bad
    strict = check(three, tmp_path / "out", workers=1, strict=True)
    assert [clip.path for clip in strict.bad] == ["b.mp4"]


def _dying(path: str, *, quick: bool) -> Finding:
    name = Path(path).name
    if name == "a.mp4":
        faulthandler.disable()  # pytest's, which would tell the terminal
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "b.mp4":
        time.sleep(600)
    return inspect_clip(path, quick=quick)


@needs_fork
def test_processes_may_die_and_hang(
    three: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(check_module, "inspect_clip", _dying)
    report = check(three, tmp_path / "out", workers=2, timeout=3)
    assert _verdicts(report) == {"a.mp4": "crashed", "b.mp4": "timed out", "c.mp4": "ok"}
    assert report.clips[0].finding.detail == ("the process died of signal 11 (segmentation fault)")
    assert report.clips[1].finding.detail == "took longer than 3 s"
    assert capfd.readouterr() == ("", "")

    # A clip that took too long is read again if it may take longer; one that crashed is not.
    monkeypatch.setattr(check_module, "inspect_clip", inspect_clip)
    report = check(three, tmp_path / "out", workers=1, timeout=3)
    assert _verdicts(report) == {"a.mp4": "crashed", "b.mp4": "timed out", "c.mp4": "ok"}
    report = check(three, tmp_path / "out", workers=1, timeout=60)
    assert _verdicts(report) == {"a.mp4": "crashed", "b.mp4": "ok", "c.mp4": "ok"}


def _killed(path: str, *, quick: bool) -> Finding:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@needs_fork
def test_a_process_that_others_end_is_tried_again(
    three: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "inspect_clip", _killed)
    report = check(three, tmp_path / "out", workers=1)
    assert report.verdicts == {"crashed": 3}
    assert "memory" in report.clips[0].finding.detail
    monkeypatch.setattr(check_module, "inspect_clip", inspect_clip)
    assert check(three, tmp_path / "out", workers=1).verdicts == {"ok": 3}


def _greedy(path: str, *, quick: bool) -> Finding:
    if path.endswith("a.mp4"):
        bytearray(1 << 30)
    return inspect_clip(path, quick=quick)


@needs_fork
def test_memory_is_limited(
    three: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "MEMORY", 1 << 28)
    monkeypatch.setattr(check_module, "inspect_clip", _greedy)
    report = check(three, tmp_path / "out", workers=1)
    assert _verdicts(report) == {"a.mp4": "unreadable", "b.mp4": "ok", "c.mp4": "ok"}
    assert "GiB of memory" in report.clips[0].finding.detail


def _stumbling(path: str, *, quick: bool) -> Finding:
    if Path(path).name == "b.mp4":
        raise IndexError("list index out of range")
    return inspect_clip(path, quick=quick)


@needs_fork
def test_a_defect_of_a_library_ends_no_check(
    three: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "inspect_clip", _stumbling)
    report = check(three, tmp_path / "out", workers=1)
    assert _verdicts(report) == {"a.mp4": "ok", "b.mp4": "unreadable", "c.mp4": "ok"}
    assert report.bad[0].finding.detail == "IndexError: list index out of range"


def _refusing(path: str, *, quick: bool) -> Finding:
    raise AssertionError(f"{path} was read again")


def _noting(path: str, *, quick: bool) -> Finding:
    with Path(path).with_name("read.txt").open("a") as file:
        file.write(Path(path).name + "\n")
    return inspect_clip(path, quick=quick)


@needs_fork
def test_going_on_reads_only_what_is_new_or_changed(
    three: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = Path(three.root), tmp_path / "out"
    first = check(three, out, workers=1)
    monkeypatch.setattr(check_module, "inspect_clip", _refusing)
    assert check(three, out, workers=1).clips == first.clips
    assert check(three, out, workers=1, quick=True).verdicts == {"ok": 3}

    # What a killed check leaves: an unfinished line, here of the clip that is to be read again.
    results = out / "results.jsonl"
    whole = results.read_text().splitlines()
    results.write_text("\n".join(whole)[:-30])
    unfinished = json.loads(whole[-1])["path"]
    changed = next(name for name in ("b.mp4", "a.mp4") if name != unfinished)
    os.utime(root / changed, ns=(1, 1))
    monkeypatch.setattr(check_module, "inspect_clip", _noting)
    assert check(three, out, workers=1).clips == first.clips
    assert set((root / "read.txt").read_text().split()) == {changed, unfinished}
    monkeypatch.setattr(check_module, "inspect_clip", _refusing)
    assert check(three, out, workers=1).clips == first.clips
    # The data set may be moved.
    moved = tmp_path / "moved"
    root.rename(moved)
    rows = tuple(row._replace(path=str(moved / Path(row.path).name)) for row in three.rows)
    assert check(replace(three, rows=rows, root=str(moved)), out, workers=1).verdicts == {"ok": 3}


def test_a_quick_check_is_no_whole_one(three: Manifest, tmp_path: Path) -> None:
    quick = check(three, tmp_path / "out", workers=1, quick=True)
    assert {clip.finding.frames_hash for clip in quick.clips} == {""}
    whole = check(three, tmp_path / "out", workers=1)
    assert len({clip.finding.frames_hash for clip in whole.clips} - {""}) == 3


def test_signature(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    assert signature(file) is None
    file.write_bytes(b"one")
    os.utime(file, ns=(5, 5))
    first = signature(file)
    file.write_bytes(b"more")
    os.utime(file, ns=(5, 5))
    assert signature(file) != first
    folder = tmp_path / "frames"
    folder.mkdir()
    empty = signature(folder)
    frame = folder / "1\udcff.jpg"
    frame.write_bytes(b"one")
    os.utime(frame, ns=(5, 5))
    one = signature(folder)
    os.utime(frame, ns=(6, 6))
    assert len({empty, one, signature(folder), first}) == 4


def test_copies_across_splits(clips: Path, tmp_path: Path) -> None:
    """One of equal bytes, and one in another container."""
    root = tmp_path / "data"
    shutil.copytree(clips, root)
    shutil.copy(root / "a.mp4", root / "copy.mp4")
    remux(root / "b.mp4", root / "remuxed.mkv")
    manifest = _manifest(
        (root / "copy.mp4", "wave", "train"),
        (root / "a.mp4", "wave", "test"),
        (root / "remuxed.mkv", "stand", "validation"),
        (root / "b.mp4", "wave", "train"),
        (root / "c.mp4", "wave", "train"),
    )
    report = check(manifest, tmp_path / "out", workers=1)
    assert _verdicts(report) == {
        "copy.mp4": "duplicate",
        "a.mp4": "ok",
        "remuxed.mkv": "ok",
        "b.mp4": "duplicate",
        "c.mp4": "ok",
    }
    assert [(c.kind, c.same_bytes, [clip.path for clip in c.clips]) for c in report.copies] == [
        ("across splits", True, ["a.mp4", "copy.mp4"]),
        ("across splits", False, ["remuxed.mkv", "b.mp4"]),
    ]
    details = {clip.path: clip.finding.detail for clip in report.bad}
    assert details["copy.mp4"] == "the same bytes as a.mp4 in test"
    assert details["b.mp4"] == (
        "the same pictures as remuxed.mkv in validation, which is labelled 'stand'"
    )
    assert "copied to train: copy.mp4" in report.clips[1].finding.remarks
    assert report.examples().startswith("the same clip across splits: 2\n  a.mp4 (test, wave) = ")
    quick = check(manifest, tmp_path / "quick", workers=1, quick=True)
    assert [copies.same_bytes for copies in quick.copies] == [True]


def test_copies_within_a_split(clips: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(clips, root)
    for source, target in (("a", "a2"), ("b", "b2"), ("b", "b3")):
        shutil.copy(root / f"{source}.mp4", root / f"{target}.mp4")
    manifest = _manifest(
        (root / "a.mp4", "wave", "train"),
        (root / "a2.mp4", "wave", "train"),
        (root / "b.mp4", "wave", "train"),
        (root / "b2.mp4", "stand", "train"),
        (root / "b3.mp4", "stand", "train"),
    )
    report = check(manifest, tmp_path / "out", workers=1)
    assert [copies.kind for copies in report.copies] == ["with two labels", "within a split"]
    # The same label twice is a remark; nobody knows which of two labels is right.
    assert [clip.path for clip in report.good] == ["a.mp4", "a2.mp4"]
    assert report.clips[1].finding.remarks == ("copy: the same bytes as a.mp4",)
    assert report.clips[2].finding.detail == ("the same bytes as b2.mp4, which is labelled 'stand'")
    assert "no clip is left of class 'stand'" in report.examples()
    # Ruined files that are equal are no copies.
    for path in root.iterdir():
        path.write_bytes(b"<html>not found</html>")
    assert not check(manifest, tmp_path / "out", workers=1).copies


@needs_fork
def test_a_rate_unlike_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(path: str, *, quick: bool) -> Finding:
        rate = 30.0 if path.endswith("11.mp4") else 12.01
        return Finding(verdict="ok", fps=rate, frames=5, frames_hash=path)

    monkeypatch.setattr(check_module, "inspect_clip", pretend)
    files = [tmp_path / f"{n}.mp4" for n in range(12)]
    manifest = _manifest(*((file, "wave", "train") for file in files))
    report = check(manifest, tmp_path / "out", workers=1)
    remarks = {clip.path: clip.finding.remarks for clip in report.clips if clip.finding.remarks}
    assert remarks == {"11.mp4": ("odd rate: 30 frames/s, most clips here have 12.01",)}
    few = check(_manifest(*((file, "wave", "train") for file in files[3:])), tmp_path, workers=1)
    assert not few.remarks


def test_several_labels_go_along(three: Manifest, tmp_path: Path) -> None:
    labels, texts = ("left", "person", "right"), ("left|person", "", "person|right")
    rows = tuple(row._replace(label=text) for row, text in zip(three.rows, texts, strict=True))
    flips = {"left": "right", "right": "left", "person": "person"}
    several = replace(three, rows=rows, labels=labels, flips=flips, multilabel=True)
    out = tmp_path / "out"
    check(several, out, workers=1).save(out)
    again = load_manifest(out / "good.csv", flips=out / "flips.csv")
    assert again.multilabel
    assert [row.label for row in again.rows] == list(texts)
    # No clip has one of these labels alone, and flipped clips change them all the same.
    assert again.flips == flips


def test_flips_go_along(three: Manifest, tmp_path: Path) -> None:
    labels = ("left", "right", "still")
    rows = tuple(row._replace(label=labels[n]) for n, row in enumerate(three.rows))
    flips = {"left": "right", "right": "left", "still": "still"}
    manifest = replace(three, rows=rows, labels=labels, flips=flips)
    out = tmp_path / "out"
    arguments = check(manifest, out, workers=1).save(out)
    assert arguments == ["train", str(out / "good.csv"), "--flips", str(out / "flips.csv")]
    assert load_manifest(out / "good.csv", flips=out / "flips.csv").flips == flips
    # Without a clip of `right`, a flipped one of `left` would have no class.
    Path(rows[1].path).write_bytes(b"")
    assert check(manifest, out, workers=1).save(out) == ["train", str(out / "good.csv")]
    assert not (out / "flips.csv").exists()
    # A class that is symmetric under flip may be lost.
    make(Path(three.root), "index_first.mp4", 25).rename(rows[1].path)
    Path(rows[2].path).write_bytes(b"")
    check(manifest, out, workers=1).save(out)
    assert load_manifest(out / "good.csv", flips=out / "flips.csv").flips == {
        "left": "right",
        "right": "left",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of text alone")
def test_awkward_names_and_places(clips: Path, tmp_path: Path) -> None:
    root = tmp_path / "the data"
    names = ['-comma, "quoted".mp4', "new\nline.mp4", " blank.mp4", "not text \udcff.mp4"]
    root.mkdir()
    (root / "x").mkdir()
    for name, source in zip(names, ("a", "b", "c", "c"), strict=True):
        folder = root / "x" if name.startswith(" ") else root
        content = (clips / f"{source}.mp4").read_bytes()
        (folder / name).write_bytes(content if "\udcff" not in name else content + b"0")
    paths = [root / "x" / n if n.startswith(" ") else root / n for n in names]
    # A label without text, and the list in a folder that is reached through a link.
    manifest = _manifest(*((path, "wave", "test") for path in paths))
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "deep/er")
    report = check(manifest, tmp_path / "out", workers=1)
    assert set(_verdicts(report)) == {names[0], names[1], "x/ blank.mp4", "not text \\udcff.mp4"}
    report.save(tmp_path / "out")
    read = load_manifest(tmp_path / "out/good.csv")
    assert [Path(row.path).read_bytes() for row in read.rows] == [
        path.read_bytes() for path in paths[:3]
    ]
    assert "not text" in (tmp_path / "out/report.csv").read_text()
    assert "1 good clips can't be listed in good.csv" in report.examples()


def test_wrong_use(three: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generated"):
        check(load_manifest("motion:train=8"), tmp_path)
    with pytest.raises(UsageError, match=r"workers \(0\)"):
        check(three, tmp_path, workers=0)
    with pytest.raises(UsageError, match=r"timeout \(0 s\) above 0"):
        check(three, tmp_path, timeout=0)


def test_several_labels_stay_several(clips: Path, tmp_path: Path) -> None:
    """Also where the clips that are left have one each."""
    listing = tmp_path / "clips.csv"
    listing.write_text(f"path,label\n{clips}/a.mp4,run\n{clips}/b.mp4,wave\nno.mp4,run|wave\n")
    report = check(load_manifest(listing), tmp_path / "out", workers=1)
    report.save(tmp_path / "out")
    again = load_manifest(tmp_path / "out/good.csv")
    assert again.multilabel
    assert [row.label for row in again.rows] == ["run", "wave"]
    listing.write_text(f"path,label\n{clips}/a.mp4,run\n{clips}/b.mp4,wave|wash|\n")
    with pytest.raises(ManifestError, match="nothing on one side"):
        load_manifest(listing)
