"""An entry of a frame cache that is not what was written is refused, whatever has changed in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from mutants import changed_values, flipped_bits

from videorwkv.data.cache import FrameCache
from videorwkv.errors import DataError
from videorwkv.utils.values import sealed, unsealed
from videorwkv.video import open_video


@pytest.fixture(params=["raw", "jpeg"])
def entry(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FrameCache, Path, Path]:
    """A cache with one clip in it: the cache, the clip, and the entry's index."""
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=6)
    cache = FrameCache(str(tmp_path / "cache"), 32, store=request.param)
    cache.fill(str(clip), lambda: open_video(clip))
    return cache, clip, cache.entry(str(clip))


def frames(cache: FrameCache, clip: Path) -> list[object]:
    with cache.open(str(clip), lambda: open_video(clip)) as video:
        iterated = [frame.image_HWC.tolist() for frame in video]
        read = video.read_all()
        assert read.frames_THWC.tolist() == iterated
        return [iterated, read.times.tolist(), read.warnings]


def test_every_flipped_bit_is_told(entry: tuple[FrameCache, Path, Path]) -> None:
    cache, clip, index = entry
    whole = frames(cache, clip)
    about = unsealed(json.loads(index.read_text()))
    for path, count in ((index, 60), (index.with_name(about["file"]), 30)):
        content = path.read_bytes()
        told = 0
        for changed in flipped_bits(content, count, seed=0):
            path.write_bytes(changed)
            try:
                assert frames(cache, clip) == whole
            except DataError:
                told += 1
        assert told > count * 2 // 3
        path.write_bytes(content)
    assert frames(cache, clip) == whole


def test_one_altered_byte_of_a_frame_that_is_read(entry: tuple[FrameCache, Path, Path]) -> None:
    cache, clip, index = entry
    path = index.with_name(unsealed(json.loads(index.read_text()))["file"])
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # in the last frame
    path.write_bytes(content)
    with cache.open(str(clip), lambda: open_video(clip)) as video:
        assert len(video.read([0, 1]).frames_THWC) == 2
        with pytest.raises(DataError, match="frame 5 has changed since it was written"):
            video.read([0, 5])


def test_raw_entries_without_sums_of_frames(entry: tuple[FrameCache, Path, Path]) -> None:
    """Those of version 0.1.0 name their file after the sum of all frames."""
    cache, clip, index = entry
    about = unsealed(json.loads(index.read_text()))
    if about["store"] == "jpeg":
        about["crc32"] = about.pop("sums")
    else:
        del about["sums"]
    index.write_text(json.dumps(about))
    whole = frames(cache, clip)
    path = index.with_name(about["file"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    named_anew = path.with_name(path.name)
    named_anew.write_bytes(content)
    from videorwkv.data.cache_videos import _require_sum

    _require_sum.cache_clear()
    with pytest.raises(DataError, match="changed since it was written"):
        frames(cache, clip)
    del content
    assert whole[2] == ()


def test_mutants_of_an_index(entry: tuple[FrameCache, Path, Path]) -> None:
    cache, clip, index = entry
    whole = frames(cache, clip)
    about = unsealed(json.loads(index.read_text()))
    refused = 0
    for mutant in changed_values(about, 60, seed=1):
        index.write_text(json.dumps(sealed(mutant)))
        try:
            found = frames(cache, clip)
        except DataError:
            refused += 1
            continue
        assert np.shape(found[0]) == np.shape(whole[0])
    assert refused > 20


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "7", '{"store": ["raw"]}', "\x00", ""])
def test_an_index_that_is_none(entry: tuple[FrameCache, Path, Path], text: str) -> None:
    cache, clip, index = entry
    index.write_text(text)
    with pytest.raises(DataError, match="can't be read"):
        frames(cache, clip)
    settings = Path(cache.folder) / "cache.json"
    settings.write_text(text)
    with pytest.raises(DataError, match=r"can't be read|unknown store"):
        FrameCache(cache.folder, 32).settings()
