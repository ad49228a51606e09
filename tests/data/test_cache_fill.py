from __future__ import annotations

import faulthandler
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import downloads
import numpy as np
import pytest

from videorwkv.cli.main import main
from videorwkv.data import cache_fill
from videorwkv.data.cache import FrameCache
from videorwkv.data.cache_fill import fill_cache, plan_fill
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import DataError, UsageError
from videorwkv.run.choose import choose
from videorwkv.utils.workers import WorkerPool
from videorwkv.video.base import Video
from videorwkv.video.source import open_video


@pytest.fixture
def videos(class_folder: Path, tmp_path: Path) -> Path:
    """Four classes of three clips, 20 frames of 48 x 48."""
    return Path(shutil.copytree(class_folder, tmp_path / "my videos"))


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(str(tmp_path / "cache"), 40)


def refuse() -> Video:
    raise AssertionError("decoded again")


def entries(cache: FrameCache) -> set[str]:
    return {path.name for path in Path(cache.folder).glob("*.json")} - {"cache.json"}


def run(*arguments: str | Path) -> int:
    return main(["data", "prepare", *map(str, arguments)])


# -- the cache ------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_fills_the_cache(store: str, videos: Path, cache: FrameCache) -> None:
    manifest = load_manifest(videos)
    wanted = FrameCache(cache.folder, 40, store=store)
    plan = plan_fill(manifest, wanted)
    assert (plan.cache.store, len(plan.missing), plan.n_present) == (store, 12, 0)
    filled = fill_cache(manifest, plan, workers=2)
    assert (filled.n_written, filled.unreadable) == (12, ())
    # Estimated from five frames of each clip: exact for raw frames.
    written = sum(p.stat().st_size for p in Path(cache.folder).iterdir() if p.suffix != ".json")
    assert plan.needed == written if store == "raw" else 0.8 * written < plan.needed < 1.2 * written
    for row in manifest.rows:
        with cache.open(row.path, refuse) as got, open_video(row.path) as direct:
            frames_THWC = direct.read_all(short_side=40).frames_THWC
            same = np.array_equal(got.read_all().frames_THWC, frames_THWC)
            assert same == (store == "raw")
    again = plan_fill(manifest, cache)
    assert (again.cache.store, again.missing, again.n_present) == (store, (), 12)
    assert fill_cache(manifest, again, workers=2).n_written == 0


def test_auto_chooses_by_memory_and_says_so(
    videos: Path, cache: FrameCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(videos)
    plan = plan_fill(manifest, cache)
    assert plan.cache.store == "raw"
    assert "new entries: raw (exact RGB), chosen since" in plan.describe()
    assert "needed: about 1.2 MB for 12 clips (estimated from 12: raw 1.2 MB" in plan.describe()
    # Twelve clips of 96,000 bytes are a little more than a quarter of this.
    monkeypatch.setattr(cache_fill, "memory_size", lambda: 4_600_000)
    plan = plan_fill(manifest, cache)
    assert plan.cache.store == "jpeg"
    assert "new entries: jpeg (quality 90), chosen since" in plan.describe()
    fill_cache(manifest, plan, workers=1)
    (videos / "late").mkdir()
    shutil.copy(next(videos.rglob("*.mp4")), videos / "late" / "new.mp4")
    monkeypatch.undo()
    plan = plan_fill(load_manifest(videos), cache)
    assert (plan.cache.store, len(plan.missing), plan.n_present) == ("jpeg", 1, 12)
    assert "as the folder's first entries" in plan.describe()
    assert "unreadable" not in plan.describe()


def test_clips_that_cannot_be_read_are_listed(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "going up, slowly" / "broken.mp4").write_text("this is no video")
    assert run(videos, "--cache", tmp_path / "c", "--size", "32", "--workers", "2") == 1
    shown = capsys.readouterr().out
    assert "cached: 12 clips now, 0 before" in shown
    assert shown.count("unreadable: ") == 1
    assert "broken.mp4: this is not a video" in shown
    assert shown.count("broken.mp4") == 1
    assert "1 clip can't be read" in shown


def test_a_decoder_that_crashes_takes_its_clip_along(
    videos: Path, cache: FrameCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(videos)
    victim = manifest.rows[5].path
    fill = FrameCache.fill

    def crash(self: FrameCache, path: str, open_source: Any, **options: Any) -> None:
        if path == victim:
            faulthandler.disable()  # pytest's would write its report among the dots
            os.kill(os.getpid(), signal.SIGSEGV)
        fill(self, path, open_source, **options)

    monkeypatch.setattr(FrameCache, "fill", crash)
    filled = fill_cache(manifest, plan_fill(manifest, cache), workers=2)
    assert filled.n_written == 11
    (clip,) = filled.unreadable
    assert clip.path == victim
    assert "crashed" in clip.reason


def test_clips_are_listed_in_order(videos: Path, cache: FrameCache) -> None:
    whole = load_manifest(videos)
    (videos / "b").write_text("this is no video")
    bad = tuple(Row(str(videos / name), whole.labels[0], "train") for name in ("a", "b", "c"))
    rows = (bad[0], *whole.rows[:6], bad[1], *whole.rows[6:], bad[2])
    manifest = Manifest(name="m", rows=rows, labels=whole.labels)
    filled = fill_cache(manifest, plan_fill(manifest, cache), workers=2)
    assert [clip.path for clip in filled.unreadable] == [row.path for row in bad]
    assert filled.n_written == 12


def test_interrupt_keeps_what_is_done(
    videos: Path,
    tmp_path: Path,
    cache: FrameCache,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(WorkerPool):
        count = 0

        def next(self) -> Any:
            self.count += 1
            if self.count == 5:
                raise KeyboardInterrupt
            return super().next()

    with monkeypatch.context() as patch:
        patch.setattr(cache_fill, "WorkerPool", Interrupted)
        assert run(videos, "--cache", cache.folder, "--size", "32") == 130
    assert "run the same command to continue" in capsys.readouterr().err
    done = entries(cache)
    assert 4 <= len(done) < 12
    # Each is whole: its frames stand beside it, and nothing half-written does.
    assert len(list(Path(cache.folder).iterdir())) == 2 * len(done) + 1
    assert run(videos, "--cache", cache.folder, "--size", "32") == 0
    assert f"cached: {12 - len(done)} clips now, {len(done)} before" in capsys.readouterr().out
    assert len(entries(cache)) == 12


def test_full_disk(videos: Path, cache: FrameCache, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load_manifest(videos)
    plan = plan_fill(manifest, cache)
    usage = shutil.disk_usage(videos)._replace(free=1_000_000)
    monkeypatch.setattr("videorwkv.utils.files.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"The cache needs 1\.2 MB.* has 1\.0 MB free"):
        fill_cache(manifest, plan, workers=1)
    assert not Path(cache.folder).exists()


def test_folder_that_cannot_be_written(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    manifest = load_manifest(videos)
    cache = FrameCache(str(tmp_path / "file" / "cache"), 40)
    with pytest.raises(DataError, match="can't be written"):
        fill_cache(manifest, plan_fill(manifest, cache), workers=1)


def test_generated_clips_have_nothing_to_cache(cache: FrameCache) -> None:
    with pytest.raises(UsageError, match="generated"):
        plan_fill(load_manifest("motion:train=8"), cache)


# -- the command ----------------------------------------------------------------------------------


def test_unpack_then_cache(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = downloads.tree(videos)
    pieces = downloads.parts(downloads.tar(members), "own-videos", 3)
    source = downloads.put(tmp_path / "downloads", pieces)
    root, cache = tmp_path / "set", tmp_path / "cache"
    late = source / "own-videos-02"
    late.rename(tmp_path / "late")
    assert run(source, "--out", root) == 1
    shown = capsys.readouterr()
    assert "part own-videos-02 is missing" in shown.err
    assert "videorwkv: own-videos: " in shown.err
    (tmp_path / "late").rename(late)
    assert run(source, "--out", root, "--cache", cache, "--size", "32", "--store", "jpeg") == 0
    shown = capsys.readouterr()
    assert "12 clips, 4 classes" in shown.out
    assert "cached: 12 clips now, 0 before" in shown.out
    assert shlex.join(["videorwkv", "train", str(root), "--cache", str(cache)]) in shown.out
    assert downloads.tree(root) == members
    assert len(list(cache.glob("*.jpegs"))) == 12
    assert run(source, "--out", root) == 0
    assert "0 files written" in capsys.readouterr().out


def test_the_command_that_follows_reads_the_entries(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def following(*size: str) -> tuple[str, list[str]]:
        assert run(videos, "--cache", tmp_path / "c", *size, "--workers", "2") == 0
        first, *lines = capsys.readouterr().out.splitlines()
        (line,) = (text for text in lines if text.startswith("Train from"))
        return first, shlex.split(line.partition(": ")[2])

    command = ["videorwkv", "train", str(videos), "--cache", str(tmp_path / "c")]
    chosen, why, _ = choose(load_manifest(videos))
    size = chosen.model.image_size
    assert following() == (f"{size} px, as `train` chooses: {why}", command)
    first, same = following(f"--size={size}")
    assert "has 12 of 12 clips" in first  # the same entries, and nothing was chosen
    assert same == command
    assert following("--size=224")[1] == [*command, "--recipe", "default"]
    smaller = ["--recipe", "default", "--set", "model.image_size=32"]
    assert following("--size=32")[1] == [*command, *smaller]


def test_entries_of_another_store_are_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def store(*arguments: str) -> tuple[int, str]:
        code = run(videos, "--cache", tmp_path / "c", "--size", "32", "--workers", "2", *arguments)
        return code, capsys.readouterr().err

    assert store("--store", "jpeg", "--quality", "80")[0] == 0
    code, said = store("--store", "raw")
    assert code == 2
    assert "entries of this data set are jpeg (quality 80) and stay so; --store raw needs" in said
    assert "To go on with this one, give --store jpeg --quality 80." in said
    for arguments in (("--store", "jpeg"), ("--quality", "70"), ("--store", "raw")):
        assert store(*arguments)[0] == 2
    for good in ((), ("--quality", "80"), ("--store", "jpeg", "--quality", "80")):
        assert store(*good)[0] == 0


def test_official_archives_are_read_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = downloads.frames("20bn-jester-v1", 2)
    source = downloads.put(tmp_path / "d", {"20bn-jester-v1-00": downloads.tar(frames)})
    # Without the lists of labels it is no data set yet, and certainly not a folder per class.
    assert run(source, "--out", tmp_path / "set") == 0
    shown = capsys.readouterr().out
    assert "unpacked: 2 clips; 6 files written" in shown
    assert "not a whole data set yet: " in shown
    lists = {"jester-v1-labels.csv": "wave\nstop\n", "jester-v1-train.csv": "1;wave\n2;stop\n"}
    downloads.put(source, {name: text.encode() for name, text in lists.items()})
    assert run(source, "--out", tmp_path / "set") == 0
    shown = capsys.readouterr().out
    assert "2 clips, 2 classes" in shown
    assert shlex.join(["videorwkv", "train", f"jester:{tmp_path / 'set'}"]) in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "give --out ROOT"),
        (["x", "y", "--cache", "c"], "one data set"),
        (["x", "--cache", "c", "--workers", "0"], "--workers"),
        (["x", "--cache", "c", "--size", "0"], "--size"),
        (["x", "--cache", "c", "--store", "png"], "Available: auto, raw, jpeg"),
        (["x", "--out", "o"], "x: no such file or folder"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
