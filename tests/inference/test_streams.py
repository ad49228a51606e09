"""Live sources in the field: several at once, stalls, drops, other sizes, and going on later."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from videorwkv.cli.main import main
from videorwkv.errors import CheckpointError, DecodeError, UsageError
from videorwkv.inference.pacing import AfterDrop, paced
from videorwkv.inference.stream import Stream, StreamEvent, stream
from videorwkv.models import LCR, build_model
from videorwkv.utils.interrupt import NUMBERS
from videorwkv.video import Frame, Sampling, Video, open_video
from videorwkv.video.array import ArrayVideo
from videorwkv.video.reconnect import Reconnecting


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sampling = Sampling(num_frames=6, fps=8.0)
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny", sampling=sampling)


@pytest.fixture(scope="module")
def model() -> LCR:
    torch.manual_seed(0)
    return build_model(tiny.recipe().model).eval()


def noise(name: str, count: int, seed: int = 0, size: tuple[int, int] = (40, 48)) -> ArrayVideo:
    rng = np.random.default_rng(seed)
    images_THWC = rng.integers(256, size=(count, *size, 3), dtype=np.uint8)
    return ArrayVideo(name, images_THWC, np.arange(count) / 10)


class Camera(Video):
    """Plays what it is given: frames, seconds to wait before the next one, an error."""

    is_live = True

    def __init__(self, name: str, plan: list[ArrayVideo | float | Exception]) -> None:
        super().__init__(name)
        self.plan = plan

    def __iter__(self) -> Iterator[Frame]:
        start = 0.0
        for part in self.plan:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, float):
                time.sleep(part)
                continue
            for frame in part:
                yield Frame(frame.image_HWC, start + frame.time)
            start += len(part.times()) / 10

    def _scan(self) -> Any:
        raise NotImplementedError

    _rescan = _fetch = _scan


@pytest.mark.parametrize("mask", [{}, {"motion_mask_ratio": 0.5}, {"tube_mask_ratio": 0.5}])
def test_sources_side_by_side_say_what_they_say_alone(model: LCR, mask: dict[str, float]) -> None:
    videos = [noise("a", 5, 1), noise("b", 9, 2), noise("c", 3, 3)]
    together = stream(model, videos, fps=10, reset_every=0.4, **mask)  # type: ignore[arg-type]
    found = list(together)
    assert together.names == ("a", "b", "c")
    assert (together.frames, together.dropped, together.steps) == (17, 0, 9)
    for video in videos:
        own = [one for one in found if one.source == video.name]
        alone = list(stream(model, video, fps=10, reset_every=0.4, **mask))  # type: ignore[arg-type]
        assert [(one.number, one.reset) for one in own] == [(x.number, x.reset) for x in alone]
        for one, other in zip(own, alone, strict=True):
            np.testing.assert_allclose(sorted(one.scores), sorted(other.scores), atol=1e-5)
    assert "3 sources: 17 frames, 0 dropped" in together.summary()
    assert "\n  b: 9 frames, 0 dropped" in together.summary()


def test_an_onnx_file_takes_several_sources(onnx_file: Path) -> None:
    videos = [noise("a", 4, 1), noise("b", 6, 2)]
    found = list(stream(onnx_file, videos, fps=10))
    for video in videos:
        alone = [one.scores for one in stream(onnx_file, video, fps=10)]
        own = [one.scores for one in found if one.source == video.name]
        np.testing.assert_allclose(own, alone, atol=1e-5)


def test_one_of_several_that_breaks_off_leaves_the_others(model: LCR) -> None:
    events: list[StreamEvent] = []
    broken = Camera("broken", [noise("", 2), DecodeError("broken: unplugged")])
    with stream(model, [broken, noise("file", 6)], fps=10, on_event=events.append) as predictions:
        found = list(predictions)
    assert sum(one.source == "file" for one in found) == 6
    assert predictions.failed == ("broken",)
    assert {(one.event, one.source) for one in events} == {("ended", "broken"), ("ended", "file")}
    assert any(one.about["reason"] == "broken: unplugged" for one in events)
    assert "ended: broken: unplugged" in predictions.summary()


def test_a_wrong_option_ends_all(model: LCR) -> None:
    wrong = Camera("wrong", [UsageError("give --source-fps")])
    with pytest.raises(UsageError, match="source-fps"), stream(model, [wrong, noise("b", 3)]) as s:
        list(s)


def test_sources_that_could_not_be_told_apart(model: LCR) -> None:
    videos = [noise("a", 3), noise("a", 3)]
    with pytest.raises(UsageError, match="two sources are called 'a'"):
        stream(model, videos)
    with pytest.raises(UsageError, match="3 names"):
        stream(model, videos, names=["a", "b", "c"])
    with pytest.raises(UsageError, match="no source"):
        stream(model, [])
    named = stream(model, videos, names=["left", "right"], fps=10)
    assert {one.source for one in named} == {"left", "right"}


def test_a_stall_and_its_end_are_said(model: LCR) -> None:
    events: list[StreamEvent] = []
    camera = Camera("slow", [noise("", 2), 1.2, noise("", 2)])
    with stream(model, camera, fps=10, stall=0.3, on_event=events.append) as predictions:
        list(predictions)
    assert [one.event for one in events] == ["stalled", "resumed"]
    assert "slow: no frame for 0." in events[0].text
    assert float(str(events[1].about["seconds"])) > 1.0
    assert predictions.stalls == 1
    assert "1 stall" in predictions.summary()
    with stream(model, camera, fps=10, stall=0, on_event=events.append) as predictions:
        list(predictions)
    assert len(events) == 2


def dropping(count: int, away: float) -> Reconnecting:
    """Frames, a drop of so many seconds, frames, and the end."""
    now = [0.0]
    parts: list[ArrayVideo] = [noise("", count), noise("", count)]

    def reopen() -> Video:
        if not parts:
            video.close()
            raise DecodeError("gone")
        return parts.pop(0)

    def wait(seconds: float) -> bool:
        now[0] += away
        return False

    video = Reconnecting("door", reopen, clock=lambda: now[0], wait=wait)
    return video


@pytest.mark.parametrize(
    ("after_drop", "away", "gaps"),
    [("auto", 0.5, 0), ("auto", 5.0, 1), ("reset", 0.5, 1), ("keep", 5.0, 0)],
)
def test_the_state_after_a_drop(after_drop: AfterDrop, away: float, gaps: int) -> None:
    due = list(paced(dropping(4, away), 10, 2.0, after_drop))
    assert [one.number for one in due] == list(range(8))
    assert [one.number for one in due if one.gap] == [4] * gaps


def test_a_drop_is_told_and_counted(model: LCR) -> None:
    events: list[StreamEvent] = []
    with stream(model, dropping(3, 7.0), fps=10, on_event=events.append) as predictions:
        found = list(predictions)
    assert [one.event for one in events[:2]] == ["lost", "back"]
    assert "back after 7.0 s (1 attempt)" in events[1].text
    assert predictions.drops == 2  # its end is one
    assert predictions.frames + predictions.dropped == 6
    assert found[-1].time == pytest.approx(0.2 + 7.0 + 0.2)
    assert found[-1].clock is not None
    assert "2 connections lost" in predictions.summary()


def test_another_size_goes_on_and_fits_into_the_film(model: LCR, tmp_path: Path) -> None:
    events: list[StreamEvent] = []
    plan = [noise("", 3), 0.3, noise("", 3, size=(48, 80)), 0.3, noise("", 3, size=(64, 40))]
    film = tmp_path / "film.mp4"
    camera = Camera("cam", plan)  # type: ignore[arg-type]
    with stream(model, camera, fps=10, save=film, on_event=events.append) as predictions:
        found = list(predictions)
    assert [one.about for one in events] == [
        {"width": 80, "height": 48}, {"width": 40, "height": 64},
    ]  # fmt: skip
    assert predictions.sizes == 2
    assert predictions.frames == len(found) >= 3
    with open_video(film) as written:
        assert {frame.image_HWC.shape for frame in written} == {(240, 288 + 240 + 260, 3)}
    assert not list(tmp_path.glob("*.part.mp4"))


def test_a_film_that_was_cut_off_can_be_played(model: LCR, tmp_path: Path) -> None:
    film, copy = tmp_path / "film.mp4", tmp_path / "copy.mp4"
    with stream(model, noise("a", 90), fps=10, save=film) as predictions:
        for number, _ in enumerate(predictions):
            if number == 88:
                break
        # As after a power cut: the encoder may still hold some frames back.
        deadline = time.monotonic() + 60
        part = tmp_path / "film.part.mp4"
        while part.stat().st_size < 20_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        copy.write_bytes(part.read_bytes())
    with open_video(copy) as cut, open_video(film) as whole:
        assert len(list(cut)) >= 15
        assert len(list(whole)) == 89


def test_several_films(model: LCR, tmp_path: Path) -> None:
    videos = [noise("a", 3), noise("b", 5)]
    with stream(model, videos, fps=10, save=tmp_path / "film.mp4") as predictions:
        list(predictions)
    assert [film.name for film in predictions.films] == ["film-1.mp4", "film-2.mp4"]
    assert [len(open_video(film).times()) for film in predictions.films] == [3, 5]


def halves(name: str, seed: int) -> tuple[ArrayVideo, ArrayVideo, ArrayVideo]:
    whole = noise(name, 12, seed)
    parts = [
        ArrayVideo(name, whole._frames_THWC[a:b], np.arange(b - a) / 10)
        for a, b in ((0, 7), (7, 12))
    ]
    return whole, parts[0], parts[1]


@pytest.mark.parametrize("mask", [{}, {"motion_mask_ratio": 0.5}])
def test_a_saved_state_goes_on_where_it_stopped(
    model: LCR, tmp_path: Path, mask: dict[str, Any]
) -> None:
    sources = [halves("a", 1), halves("b", 2)]
    path = tmp_path / "state.safetensors"
    whole, first, second = ([one[part] for one in sources] for part in range(3))
    expected = list(stream(model, whole, fps=10, **mask))
    with stream(model, first, fps=10, **mask) as predictions:
        list(predictions)
        predictions.save_state(path)
    found = list(stream(model, second, fps=10, load_state=path, **mask))
    for one, other in zip(found, expected[14:], strict=True):
        assert (one.source, one.label, one.changed) == (other.source, other.label, other.changed)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    resets = stream(model, second, fps=10, load_state=path, reset_every=0.9, **mask)
    assert [one.number for one in resets if one.reset] == [2, 2]


def test_a_state_of_something_else_is_refused(model: LCR, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"

    def saved(source: object, **options: Any) -> Stream:
        return stream(model, source, fps=10, load_state=path, **options)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="no such file"):
        saved(noise("a", 3))
    with stream(model, noise("a", 3), fps=10) as predictions:
        list(predictions)
        predictions.save_state(path)
    assert saved(noise("b", 2)).notes == (f"{path} was saved for other sources (a)",)
    with pytest.raises(UsageError, match="another model"):
        stream(run, noise("a", 3), load_state=path)
    with pytest.raises(UsageError, match="1 source"):
        saved([noise("a", 3), noise("b", 3)])
    with pytest.raises(UsageError, match="other masks"):
        saved(noise("a", 3), motion_mask_ratio=0.5)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\x01\x02\x03\x04")
    with pytest.raises(CheckpointError, match="has changed since it was written"):
        saved(noise("a", 3))
    path.write_bytes(b"none")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        saved(noise("a", 3))
    with pytest.raises(CheckpointError, match="no state of a stream"):
        stream(model, noise("a", 3), load_state=run / "last.safetensors")


def test_reconnect_opens_again_what_is_live(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    def fake(source: object, **options: object) -> Video:
        opened.append(source)
        if len(opened) == 1:
            raise DecodeError("no route to host")
        if len(opened) == 4:
            raise UsageError("the end of the test")
        return Camera("cam", [noise("", 3)])

    monkeypatch.setattr("videorwkv.inference.stream_sources.open_video", fake)
    monkeypatch.setattr("videorwkv.video.reconnect.WAITS", (0.01,))
    with pytest.raises(UsageError, match="the end"), stream(run, 0, reconnect=True) as predictions:
        list(predictions)
    assert opened == [0] * 4
    assert predictions.drops == 2
    opened.clear()
    with pytest.raises(DecodeError, match="no route"):
        stream(run, "missing.mp4", reconnect=True)
    monkeypatch.undo()
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    with stream(run, clip, reconnect=True) as predictions:
        assert len(list(predictions)) == 8
        assert "a file, which is read once" in predictions.notes[-1]


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [str(tiny.write_clip(tmp_path / f"{n}.mp4", frames=6 + n)) for n in range(2)]
    state = str(tmp_path / "state.safetensors")
    assert main(["stream", str(run), *clips, "--names=a,b", "--threshold=0"]) == 0
    shown = capsys.readouterr()
    assert {line.split()[0] for line in shown.out.splitlines()} == {"a", "b"}
    assert "2 sources: 13 frames, 0 dropped" in shown.err
    assert main(["stream", str(run), *clips, "--json", f"--save-state={state}"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    frames = [line for line in lines if "event" not in line]
    assert [sum(line["source"] == clip for line in frames) for clip in clips] == [6, 7]
    assert all(line["clock"] is None for line in frames)
    assert [line["source"] for line in lines if line.get("event") == "ended"] == clips
    assert main(["stream", str(run), *clips, f"--load-state={state}"]) == 0
    capsys.readouterr()
    for wrong, words in (
        ([clips[0], clips[0]], "two sources are called"),
        ([*clips, "--names=a"], "1 names"),
        ([clips[0], "--source-fps=often"], "--source-fps often"),
        ([clips[0], "--source-fps=9"], "times of their own"),
        ([clips[0], "--stall=-1"], "stall (-1.0)"),
        ([clips[0], "--timeout=-1"], "timeout (-1.0)"),
        ([clips[0], f"--load-state={state}"], "2 sources"),
    ):
        assert main(["stream", str(run), *wrong]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's")
@pytest.mark.parametrize("number", NUMBERS[:2])
def test_a_fifo_that_nobody_writes_can_be_ended(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ended = threading.Event()

    def end() -> None:
        while not ended.is_set() and "Ctrl-C ends" not in (said := said_so_far()):
            assert said is not None
            time.sleep(0.05)
        time.sleep(1.0)
        os.kill(os.getpid(), number)

    said: list[str] = []

    def said_so_far() -> str:
        said.append(capsys.readouterr().err)
        return "".join(said)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    try:
        assert main(["stream", str(run), str(fifo), "--stall=0.3"]) == 0
    finally:
        ended.set()
        thread.join(60)
    text = said_so_far()
    assert "no frame for 0." in text
    assert "0 frames" in text
