from __future__ import annotations

import contextlib
import http.server
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numbered_video import number_of

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import open_video
from videorwkv.video.live import LiveVideo


@pytest.fixture
def endless() -> LiveVideo:
    """FFmpeg's endless test picture, 10 frames a second, in place of a camera."""
    if "lavfi" not in av.formats_available:
        pytest.skip("this build of PyAV has no generated sources")
    return LiveVideo("testsrc=size=64x48:rate=10", "test picture", container_format="lavfi")


def test_frames_keep_coming(endless: LiveVideo) -> None:
    assert endless.is_live
    frames = list(itertools.islice(endless, 25))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(25) / 10)
    assert frames[0].image_HWC.shape == (48, 64, 3)
    assert not np.array_equal(frames[0].image_HWC, frames[20].image_HWC)
    # A second iteration opens the source anew.
    assert next(iter(endless)).time == 0.0


def test_closing_ends_the_iteration(endless: LiveVideo) -> None:
    count = 0
    for _ in endless:
        count += 1
        if count == 3:
            endless.close()
    assert count == 3


def test_what_needs_an_end_is_refused(endless: LiveVideo) -> None:
    for use in (endless.times, endless.read_all, endless.sample, lambda: endless.read([0])):
        with pytest.raises(UsageError, match="iterate"):
            use()
    endless.close()


def test_absent_camera() -> None:
    with pytest.raises(DecodeError, match="camera 97"):
        open_video(97)
    with pytest.raises(DecodeError, match="camera 97"):
        open_video("97")
    with pytest.raises(UsageError, match="-1"):
        open_video(-1)


def test_a_file_called_like_a_number_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "97").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodeError, match="the file is empty"):
        open_video("97")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[str]:
    """Files of `tmp_path` over HTTP, on this machine only."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            # The reader may hang up as soon as it has what it needs.
            with contextlib.suppress(ConnectionError):
                super().copyfile(source, outputfile)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_behind_a_url_can_be_sampled(make_video: Callable[..., Path], serve: str) -> None:
    path = make_video("clip.mp4", 20, container_options={"movflags": "faststart"})
    video = open_video(f"{serve}/clip.mp4")
    assert not video.is_live
    clip = video.sample(4)
    np.testing.assert_array_equal(clip.frames_THWC, open_video(path).sample(4).frames_THWC)


def test_a_url_without_an_end_is_live(make_video: Callable[..., Path], serve: str) -> None:
    make_video("clip.h264", 20, container_format="h264")
    video = open_video(f"{serve}/clip.h264")
    assert video.is_live
    assert [number_of(frame.image_HWC) for frame in video] == list(range(20))


def test_a_live_url_is_opened_once(
    make_video: Callable[..., Path], serve: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video("clip.h264", 20, container_format="h264")
    opened = []
    real_open = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or real_open(*a, **k))
    assert len(list(open_video(f"{serve}/clip.h264"))) == 20
    assert len(opened) == 1


def test_a_clock_that_restarts(make_video: Callable[..., Path]) -> None:
    path = make_video("clip.mkv", pts=list(range(0, 4000, 200)), options={"bf": "0"})
    live = LiveVideo(str(path), "camera")
    assert live._decoding is not None
    pictures = list(live._decoding.pictures())
    # After ten frames the camera begins again at 0; its fourth frame comes with too early a time.
    restarted = [(pts % 2000 - 250 * (pts == 600), picture) for pts, picture in pictures]
    live._decoding.pictures = lambda **_: iter(restarted)  # type: ignore[method-assign,assignment]
    times = np.arange(20) / 5
    times[3] = times[2]
    np.testing.assert_allclose([frame.time for frame in live], times)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/clip.mp4", "rtsp://127.0.0.1:9/live"])
def test_unreachable_url(url: str) -> None:
    with pytest.raises(DecodeError, match=url):
        open_video(url)
