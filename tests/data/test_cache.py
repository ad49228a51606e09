from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from videorwkv.cli.main import main
from videorwkv.data.cache import SETTINGS, FrameCache, JpegVideo
from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError, DataError, DecodeError
from videorwkv.video.base import Sampling, Video
from videorwkv.video.source import open_video


def read(cache: FrameCache, path: Path) -> Video:
    return cache.open(str(path), lambda: open_video(path))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".json")


def refuse() -> Video:
    raise AssertionError("decoded again")


@pytest.fixture
def clip(class_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(next(class_folder.rglob("*.mp4")), tmp_path / "a clip.mp4"))


def test_equals_direct_decoding(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30)
    for _ in range(2):
        with read(cache, clip) as cached, open_video(clip) as direct:
            assert np.array_equal(cached.times(), direct.times())
            for wanted, got in (
                (direct.read_all(short_side=30), cached.read_all()),
                (direct.read([0, 3, 3, 17], short_side=30), cached.read([0, 3, 3, 17])),
            ):
                assert np.array_equal(wanted.frames_THWC, got.frames_THWC)
                assert np.array_equal(wanted.times, got.times)
            assert len(list(cached)) == 20


def test_equals_direct_decoding_of_odd_files(shared_dir: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 24)
    compared = 0
    for path in sorted((shared_dir / "clips" / "odd").iterdir()):
        if path.stat().st_size > 400_000:
            continue
        try:
            with open_video(path) as direct:
                wanted = direct.read_all(short_side=24)
        except DecodeError:
            with pytest.raises(DecodeError):
                read(cache, path)
            continue
        with read(cache, path) as cached:
            got = cached.read_all()
        assert np.array_equal(wanted.frames_THWC, got.frames_THWC), path.name
        assert wanted.warnings == got.warnings, path.name
        assert np.array_equal(wanted.times, got.times), path.name
        compared += 1
    assert compared >= 3


def test_decodes_once_and_again_when_the_file_changes(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30)
    read(cache, clip)
    assert len(cache.open(str(clip), refuse).times()) == 20
    os.utime(clip, ns=(1, 1))
    with pytest.raises(AssertionError, match="decoded again"):
        cache.open(str(clip), refuse)
    with pytest.raises(AssertionError, match="decoded again"):
        FrameCache(cache.folder, 31).open(str(clip), refuse)


def test_training_through_the_cache(class_folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(class_folder)
    # At the clips' own size the cache changes nothing at all.
    caches = (None, FrameCache(str(tmp_path / "cache"), 48))
    for augmentation in (None, Augmentation()):
        samples = [
            ClipDataset(
                manifest,
                sampling=Sampling(num_frames=4),
                size=32,
                augmentation=augmentation,
                cache=cache,
            )[0, 3]
            for cache in caches
        ]
        assert isinstance(samples[0], Sample)
        assert isinstance(samples[1], Sample)
        for one, other in zip(samples[0].inputs, samples[1].inputs, strict=True):
            assert one.equal(other)


def test_a_file_is_no_cache(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["--cache", str(tmp_path / "file")]
    for command in (["train", "--out", str(tmp_path / "run")], ["data", "prepare"]):
        assert main([*command, str(class_folder), *arguments]) == 2
        said = capsys.readouterr()
        assert f"--cache {tmp_path / 'file'} is a file; wanted a folder" in said.err
        assert "step" not in said.out
    assert not (tmp_path / "run" / "config.json").exists()


def test_full_disk(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    cache = FrameCache(str(folder), 30)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        # The bytes are written, then the disk is full: nothing of them may stay.
        patch.setattr("videorwkv.data.cache.os.replace", full)
        with pytest.raises(DataError, match=r"a clip\.mp4.*No space left.*Free some space"):
            read(cache, clip)
        assert list(folder.iterdir()) == []
        manifest = Manifest(name="m", rows=(Row(str(clip), "a"),), labels=("a",))
        dataset = ClipDataset(manifest, sampling=Sampling(), size=32, cache=cache)
        with pytest.raises(DataError, match="No space left"):
            dataset[0, 0]
    assert len(read(cache, clip).times()) == 20


def test_an_error_of_the_clip_is_not_one_of_the_disk(clip: Path, tmp_path: Path) -> None:
    class Broken(Video):
        def __iter__(self) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        _scan = _rescan = _fetch = Video._check_open  # type: ignore[assignment]

    with pytest.raises(DecodeError, match=r"the clip: can't be read .Input/output error"):
        FrameCache(str(tmp_path / "cache"), 30).open(str(clip), lambda: Broken("the clip"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_processes_may_store_a_clip_at_once(clip: Path, tmp_path: Path) -> None:
    one, two = (
        FrameCache(str(tmp_path / "cache"), 30, store="jpeg", quality=quality)
        for quality in (90, 50)
    )

    def slowly() -> Video:
        # The other one is done before this one has begun to write.
        read(two, clip)
        return open_video(clip)

    assert len(one.open(str(clip), slowly).read_all()) == 20
    assert len(two.open(str(clip), refuse).read_all()) == 20
    # Their frames stand, then the other one's index and not this one's.
    entry = one.entry(str(clip))
    entry.unlink()
    read(two, clip)
    about = entry.read_text()
    entry.unlink()
    read(one, clip)
    entry.write_text(about)
    assert len(one.open(str(clip), refuse).read_all()) == 20


def test_settling_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".new.part").write_bytes(b"half")
    found = list(tmp_path.glob(".*.part"))
    (tmp_path / ".new.part").unlink()
    # It was listed, and has its name by now.
    monkeypatch.setattr(Path, "glob", lambda *_: found)
    FrameCache(str(tmp_path), 30).settle()
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_broken_entry_says_what_to_delete(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30)
    read(cache, clip)
    frames = next((tmp_path / "cache").glob("*.rgb"))
    frames.write_bytes(b"short")
    with pytest.raises(DataError, match=rf"Delete {frames.name.partition('.')[0]}\.\*"):
        read(cache, clip)


def test_bad_file_stays_a_bad_clip(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video")
    rows = (Row(str(tmp_path / "text.mp4"), "a"), Row(str(tmp_path / "missing.mp4"), "a"))
    manifest = Manifest(name="m", rows=rows, labels=("a",))
    cache = FrameCache(str(tmp_path / "cache"), 30)
    dataset = ClipDataset(manifest, sampling=Sampling(), size=32, cache=cache)
    assert [type(dataset[0, index]) for index in (0, 1)] == [BadClip, BadClip]
    assert not list((tmp_path / "cache").glob("*"))


def test_generated_clips_need_no_cache(tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30)
    manifest = load_manifest("motion:train=8")
    dataset = ClipDataset(manifest, sampling=Sampling(), size=32, cache=cache)
    assert isinstance(dataset[0, 0], Sample)
    assert not (tmp_path / "cache").exists()


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="short_side"):
        FrameCache("x", 0)
    with pytest.raises(ConfigError, match=r"unknown store 'jpg'\. Did you mean 'jpeg'\?"):
        FrameCache("x", 1, store="jpg")
    with pytest.raises(ConfigError, match="quality"):
        FrameCache("x", 1, quality=0)


def test_jpeg_is_near_and_small(clip: Path, tmp_path: Path) -> None:
    raw = FrameCache(str(tmp_path / "raw"), 40, store="raw")
    jpeg = FrameCache(str(tmp_path / "jpeg"), 40, store="jpeg", quality=95)
    with read(raw, clip) as wanted, read(jpeg, clip) as got:
        assert np.array_equal(wanted.times(), got.times())
        assert wanted.warnings == got.warnings
        some = got.read([1, 7, 7, 19])
        assert np.array_equal(some.frames_THWC, got.read_all().frames_THWC[[1, 7, 7, 19]])
        frames = [frame.image_HWC for frame in got]
        assert np.array_equal(np.stack(frames), got.read_all().frames_THWC)
        error = np.subtract(wanted.read_all().frames_THWC, frames, dtype=np.float64)
        # 36.5 to 41.3 dB over the twelve clips; half the colour resolution costs most of it.
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 35
    assert size(tmp_path / "jpeg") < size(tmp_path / "raw") / 3


def test_small_frames_are_not_magnified(clip: Path, tmp_path: Path) -> None:
    for store in ("raw", "jpeg"):
        with read(FrameCache(str(tmp_path / store), 100, store=store), clip) as video:
            assert video.read([0]).frames_THWC.shape == (1, 48, 48, 3)


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_same_bytes_every_time(store: str, clip: Path, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        read(FrameCache(str(tmp_path / name), 30, store=store), clip)
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 2


def test_an_entry_of_another_store_counts(clip: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    read(FrameCache(folder, 30, store="jpeg"), clip)
    for store in ("auto", "raw"):
        video = FrameCache(folder, 30, store=store).open(str(clip), refuse)
        assert isinstance(video, JpegVideo)


def test_entries_of_the_first_version_count(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30)
    wanted = read(cache, clip).read_all().frames_THWC
    entry = cache.entry(str(clip))
    about = json.loads(entry.read_text())
    (entry.parent / about.pop("file")).rename(entry.with_suffix(".rgb"))
    for name in ("store", "sums", "crc32"):
        del about[name]
    entry.write_text(json.dumps(about))
    assert np.array_equal(cache.open(str(clip), refuse).read_all().frames_THWC, wanted)


def test_auto_goes_on_as_the_folder_began(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert FrameCache(str(folder), 30).settled() == ("raw", 90)
    FrameCache(str(folder), 30, store="jpeg", quality=70).settle()
    assert FrameCache(str(folder), 30).settled() == ("jpeg", 70)
    assert FrameCache(str(folder), 30, store="raw").settled() == ("raw", 90)
    assert isinstance(read(FrameCache(str(folder), 30), clip), JpegVideo)
    for content in ("{", '{"store": "webp", "quality": 1}'):
        (folder / SETTINGS).write_text(content)
        with pytest.raises(DataError, match=r"cache\.json"):
            FrameCache(str(folder), 30).settled()


def test_damaged_jpeg_entry_says_what_to_delete(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30, store="jpeg")
    good = read(cache, clip).read([3]).frames_THWC
    images = next((tmp_path / "cache").glob("*.jpegs"))
    content, name = images.read_bytes(), images.name.partition(".")[0]
    half = len(content) // 2
    images.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    assert np.array_equal(read(cache, clip).read([3]).frames_THWC, good)
    with pytest.raises(DataError, match=rf"frame \d+ has changed .*Delete {name}\.\*"):
        read(cache, clip).read_all()
    images.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"Delete {name}\.\*"):
        read(cache, clip)
    images.unlink()
    with pytest.raises(DataError, match=rf"Delete {name}\.\*"):
        read(cache, clip)


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / ".old.part", tmp_path / ".new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    FrameCache(str(tmp_path), 30, store="jpeg").settle()
    assert not old.exists()
    assert new.exists()


def test_others_may_read_the_entries(clip: Path, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        read(FrameCache(str(tmp_path / "cache"), 30), clip)
    finally:
        os.umask(mask)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in (tmp_path / "cache").iterdir())


def test_frame_rates_of_folders_do_not_share_an_entry(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for n in range(3):
        cv2.imwrite(str(folder / f"{n}.png"), np.zeros((8, 8, 3), np.uint8))
    for rate in (None, 30.0, 15.0):
        cache = FrameCache(str(tmp_path / "cache"), 8, frame_rate=rate)
        with cache.open(
            str(folder), lambda rate=rate: open_video(folder, frame_rate=rate)
        ) as video:  # type: ignore[misc]
            assert video.times()[1] == pytest.approx(1 / (rate or 12))
