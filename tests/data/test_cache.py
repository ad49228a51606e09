from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videorwkv.data.cache import FrameCache
from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.manifest import Manifest, Row, load_manifest
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError, DataError, DecodeError
from videorwkv.video.base import Video
from videorwkv.video.sampling import Sampling
from videorwkv.video.source import open_video


def read(cache: FrameCache, path: Path) -> Video:
    return cache.open(str(path), lambda: open_video(path))


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


def test_broken_entry_says_what_to_delete(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 30)
    read(cache, clip)
    frames = next((tmp_path / "cache").glob("*.rgb"))
    frames.write_bytes(b"short")
    with pytest.raises(DataError, match=rf"Delete {frames.stem}\.\*"):
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


def test_wrong_size() -> None:
    with pytest.raises(ConfigError, match="short_side"):
        FrameCache("x", 0)
