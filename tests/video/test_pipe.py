"""Pipes as live sources, and streams that carry no times."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bare import without_rate
from numbered_video import number_of

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import open_video
from videorwkv.video.live import LiveOptions
from videorwkv.video.pipe import Pipe

PIPES = LiveOptions(allow_pipes=True)

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's")


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def bare(make_video: Callable[..., Path]) -> Path:
    """Raw H.264 of ten frames that does not say its rate."""
    made = make_video("says.h264", 10, container_format="h264", options={"profile": "baseline"})
    path = made.with_name("bare.h264")
    path.write_bytes(without_rate(made.read_bytes()))
    return path


def write(path: Path, content: bytes) -> threading.Thread:
    thread = threading.Thread(target=path.write_bytes, args=[content], daemon=True)
    thread.start()
    return thread


def test_a_fifo_is_read_until_its_writer_goes(make_video: Callable[..., Path], fifo: Path) -> None:
    content = make_video("clip.mkv", 12).read_bytes()
    with open_video(fifo, live=PIPES) as video:
        assert video.is_live
        for _ in range(2):  # the next writer
            write(fifo, content)
            assert [number_of(frame.image_HWC) for frame in video] == list(range(12))


def test_a_fifo_that_has_ended_is_given_back_at_once(fifo: Path) -> None:
    pipe = Pipe(fifo, "fifo")
    write(fifo, b"abc")
    assert pipe.read(10) == b"abc"
    assert pipe.read(10) == b""
    with pytest.raises(OSError, match="No such device"):  # there is no reader any more
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    assert pipe.read(10) == b""


def test_a_fifo_that_nobody_writes_can_be_closed(fifo: Path) -> None:
    video = open_video(fifo, live=PIPES)
    found: list[object] = []

    def read() -> None:
        try:
            found.extend(video)
        except DecodeError as error:
            found.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.3)
    assert reader.is_alive()
    video.close()
    reader.join(60)
    assert not reader.is_alive()
    assert [type(one) for one in found] == [DecodeError]


def test_the_standard_input(make_video: Callable[..., Path]) -> None:
    program = (
        "from videorwkv.video import open_video; from videorwkv.video.live import LiveOptions\n"
        "print(len(list(open_video('-', live=LiveOptions(allow_pipes=True)))))"
    )
    content = make_video("clip.mkv", 9).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", program], input=content, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.split() == [b"9"]


def test_what_is_no_video_is_said(fifo: Path) -> None:
    for content, words in (
        (b"\0no video" * 5000, "A pipe can't go back"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "this is a playlist"),
        (b"", "closed before anything was written"),
    ):
        video = open_video(fifo, live=PIPES)
        write(fifo, content)
        with pytest.raises(DecodeError, match=words):
            next(iter(video))


def test_a_pipe_is_read_only_where_it_is_allowed(fifo: Path) -> None:
    with pytest.raises(DecodeError, match="this is a pipe"):
        open_video(fifo)
    with pytest.raises(DecodeError, match="no such file"):
        open_video("-")


def test_a_live_stream_without_times_asks_for_its_rate(bare: Path, tmp_path: Path) -> None:
    def pipe(name: str) -> Path:
        # A new one each time: what a reader of before leaves behind goes with it.
        path = tmp_path / name
        os.mkfifo(path)
        write(path, bare.read_bytes())
        return path

    with pytest.raises(UsageError, match="--source-fps"):
        next(iter(open_video(pipe("one"), live=PIPES)))
    video = open_video(pipe("two"), live=LiveOptions(allow_pipes=True, source_fps=20))
    np.testing.assert_allclose([frame.time for frame in video], np.arange(10) / 20)
    video = open_video(pipe("three"), live=LiveOptions(allow_pipes=True, source_fps="arrival"))
    times = [frame.time for frame in video]
    assert times[0] == 0.0
    assert times == sorted(set(times))


def test_a_file_without_times(bare: Path, make_video: Callable[..., Path]) -> None:
    video = open_video(bare)
    assert not video.tells_rate
    assert video.times()[1] == pytest.approx(1 / 25)
    assert "no frame carries a time" in video.warnings[0]
    video = open_video(bare, live=LiveOptions(source_fps=10))
    assert video.tells_rate
    np.testing.assert_allclose(video.times(), np.arange(10) / 10)
    np.testing.assert_allclose([frame.time for frame in video], np.arange(10) / 10)
    assert video.warnings == ()
    clip = make_video("clip.mp4", 5)
    assert open_video(clip).tells_rate
    with pytest.raises(UsageError, match="times of their own"):
        open_video(clip, live=LiveOptions(source_fps=10))
    with pytest.raises(UsageError, match="this is a file"):
        open_video(bare, live=LiveOptions(source_fps="arrival"))
    with pytest.raises(UsageError, match="frame_rate"):
        open_video(clip.parent, live=LiveOptions(source_fps=10))


@pytest.mark.parametrize(
    "wrong",
    [{"source_fps": 0}, {"source_fps": "often"}, {"timeout": -1}, {"timeout": float("inf")}],
)
def test_wrong_options(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        LiveOptions(**wrong)  # type: ignore[arg-type]
