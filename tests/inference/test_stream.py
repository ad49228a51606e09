from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import tiny
import torch

from videorwkv.cli.main import main
from videorwkv.errors import CheckpointError, DecodeError, NonFiniteError, UsageError
from videorwkv.inference.annotate import PAUSE
from videorwkv.inference.pacing import Due, Latest, paced
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import Recogniser, load_run
from videorwkv.inference.stream import StreamOptions, StreamPrediction, stream
from videorwkv.models import LCR, build_model
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.interrupt import NUMBERS
from videorwkv.video import Frame, Sampling, open_video
from videorwkv.video.array import ArrayVideo

DENSE = Sampling(num_frames=6, fps=8.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny", sampling=DENSE)


@pytest.fixture(scope="module")
def model() -> LCR:
    torch.manual_seed(0)
    return build_model(tiny.recipe().model).eval()


def video(times: list[float]) -> ArrayVideo:
    rng = np.random.default_rng(0)
    images_THWC = rng.integers(256, size=(len(times), 40, 48, 3), dtype=np.uint8)
    return ArrayVideo("array", images_THWC, np.array(times))


class Camera(ArrayVideo):
    """Frames as a live source gives them, at once or when they are asked for; ends in an error."""

    is_live = True

    def __init__(self, frames: int, *, breaks: bool = False) -> None:
        made = video([t / 10 for t in range(frames)])
        super().__init__("camera", made._frames_THWC, made._known)
        self.breaks = breaks

    def __iter__(self) -> Iterator[Frame]:
        yield from super().__iter__()
        if self.breaks:
            raise DecodeError("camera: the stream broke off: unplugged.")


def test_the_last_moment_is_what_predict_says(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=6)
    (expected,) = predict(clip, model=run)
    *_, last = stream(run, clip, smooth=0)
    assert last.labels == expected.labels
    np.testing.assert_allclose(last.scores, expected.scores, atol=1e-5)
    assert (last.number, last.dropped, last.reset) == (5, 0, False)


@pytest.mark.parametrize(("rate", "fps"), [(25, 12.5), (25, 6), (30, 4), (24, 24), (29.97, 10)])
def test_frames_are_as_far_apart_as_in_training(rate: float, fps: float) -> None:
    source = video([t / rate for t in range(90)])
    count = int(source.times()[-1] * fps)
    chosen = Sampling(num_frames=count, fps=fps).indices(source.times(), view=0, num_views=2)
    assert [due.number for due in islice(paced(source, fps, 2.0), count)] == chosen.tolist()


def test_a_slow_source_gives_every_frame_once() -> None:
    source = video([0.0, 0.5, 1.0, 1.4])
    assert [due.number for due in paced(source, 10, 2.0)] == [0, 1, 2, 3]


def test_a_gap_begins_anew(model: LCR) -> None:
    source = video([0.0, 0.1, 0.2, 5.0, 5.1])
    with stream(model, source, fps=10, gap=1.0) as moments:
        found = list(moments)
    assert [m.reset for m in found] == [False, False, False, True, False]
    assert moments.resets == 1
    images_THWC = source.read([3]).frames_THWC
    with torch.inference_mode():
        fresh_K = model(model.preprocess(images_THWC))[0].softmax(-1).numpy()
    assert found[3].scores[0] == pytest.approx(fresh_K.max(), abs=1e-6)
    with stream(model, source, fps=10, gap=9.0) as moments:
        assert not any(m.reset for m in moments)


def test_a_slow_source_is_no_row_of_gaps() -> None:
    source = video([0.0, 5.0, 10.0, 15.5, 20.0, 60.0, 65.0])
    # Whether a first step is a pause can't be known.
    assert [due.number for due in paced(source, 10, 2.0) if due.gap] == [1, 5]


def test_resets_do_not_drift(model: LCR) -> None:
    # 0.1 + 0.2 and the like are not what they seem.
    source = video([0.1 * t + (0.003 if t % 2 else 0.0) for t in range(31)])
    resets = [m.number for m in stream(model, source, fps=10, reset_every=0.3) if m.reset]
    assert resets == list(range(3, 31, 3))


def test_cells_that_do_not_forget_begin_anew_by_themselves() -> None:
    source = video([t / 10 for t in range(9)])
    config = tiny.recipe(model={"cell": "none"}).model
    network = build_model(config).eval()
    resets = [
        [m.number for m in stream(network, source, fps=10, reset_every=every) if m.reset]
        for every in (None, 0, 0.3)
    ]
    # Without a run, a training clip has 16 frames: longer than this source.
    assert resets == [[], [], [3, 6]]
    assert StreamOptions().life(DENSE, config.cell) == pytest.approx(6 / 8)


def test_frames_that_come_too_fast_are_dropped_and_counted() -> None:
    given = 50
    source = Latest(paced(Camera(given), 10, 2.0))
    source._thread.join()  # all came while nobody looked
    (only,) = source
    assert (only.number, only.dropped) == (given - 1, given - 1)


def test_a_gap_before_a_dropped_frame_is_kept() -> None:
    def frames() -> Iterator[Due]:
        frame = Frame(np.zeros((8, 8, 3), np.uint8), 0.0)
        yield from (Due(frame, n, gap=n == 1) for n in range(3))

    source = Latest(frames())
    source._thread.join()
    (only,) = source
    assert (only.number, only.gap) == (2, True)


def test_live_frames_are_classified_or_dropped(model: LCR) -> None:
    with stream(model, Camera(40), fps=10) as moments:
        found = list(moments)
    assert moments.is_live
    assert moments.frames == len(found) >= 1
    assert moments.frames + moments.dropped == 40
    assert found[-1].number == 39
    assert f"{moments.dropped} dropped" in moments.summary()


def test_a_broken_camera_is_reported_after_its_last_frame(model: LCR) -> None:
    found: list[StreamPrediction] = []
    with (
        pytest.raises(DecodeError, match="unplugged"),
        stream(model, Camera(5, breaks=True), fps=10) as moments,
    ):
        found.extend(moments)
    assert found[-1].number == 4


def test_an_error_that_nobody_foresaw_is_no_end() -> None:
    def frames() -> Iterator[Due]:
        yield Due(Frame(np.zeros((8, 8, 3), np.uint8), 0.0), 0, gap=False)
        raise ZeroDivisionError

    source = iter(Latest(frames()))
    with pytest.raises(ZeroDivisionError):
        list(source)


def test_closing_ends_the_thread(model: LCR) -> None:
    if "lavfi" not in av.formats_available:
        pytest.skip("this build of PyAV has no generated sources")
    from videorwkv.video.live import LiveVideo

    endless = LiveVideo("testsrc=size=64x48:rate=10", "test picture", container_format="lavfi")
    moments = stream(model, endless, fps=10)
    assert len(list(islice(moments, 3))) == 3
    moments.close()
    assert list(moments) == []
    for thread in threading.enumerate():
        if thread.name == "videorwkv-live":
            thread.join(120)  # seconds; it takes none, unless the machine is busy
            assert not thread.is_alive()


def test_threshold_and_hysteresis() -> None:
    name = StreamOptions(threshold=0.6).label
    assert name(np.float32([0.55, 0.45]), None) is None
    assert name(np.float32([0.7, 0.3]), None) == 0
    assert name(np.float32([0.35, 0.55]), 0) == 0
    assert name(np.float32([0.25, 0.55]), 0) is None
    assert name(np.float32([0.35, 0.65]), 0) == 1


def test_probabilities_are_smoothed_over_time(model: LCR) -> None:
    source = video([0.0, 0.1, 0.3])
    raw, smooth = (
        [dict(zip(m.labels, m.scores, strict=True)) for m in
         stream(model, source, fps=20, smooth=s, top=400)]
        for s in (0, 0.2)
    )  # fmt: skip
    for label, first in raw[0].items():
        one = first + (1 - np.exp(-0.5)) * (raw[1][label] - first)
        two = one + (1 - np.exp(-1)) * (raw[2][label] - one)
        assert smooth[2][label] == pytest.approx(two, abs=1e-6)


def test_a_spread_run_says_what_rate_it_takes(model: LCR, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    with stream(model, clip) as moments:
        assert moments.fps == pytest.approx(16 / 3)
        assert "5.33 frames/s" in moments.notes[0]
    with stream(model, clip, fps=4) as moments:
        assert (moments.fps, moments.notes) == (4, ())


@pytest.mark.parametrize("mask", ["tube_mask_ratio", "motion_mask_ratio"])
def test_masks(model: LCR, mask: str) -> None:
    source = video([t / 10 for t in range(4)])
    masked = {mask: 0.5}
    first, second = ([m.scores for m in stream(model, source, fps=10, **masked)] for _ in range(2))
    assert first == second
    assert first != [m.scores for m in stream(model, source, fps=10)]


def test_the_annotated_video_has_every_classified_frame(model: LCR, tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    with stream(model, video([t / 10 for t in range(7)]), fps=10, save=path) as moments:
        assert len(list(moments)) == 7
    with open_video(path) as written:
        assert len(written.times()) == 7
    with pytest.raises(UsageError, match=r"\.mp4"):
        stream(model, video([0.0]), save=tmp_path / "out.gif")


def test_the_annotated_video_runs_as_fast_as_its_source(model: LCR, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    # Slower than the model's frames; then a pause of an hour.
    times = [t / 5 for t in range(15)] + [3602.8, 3603.0]
    for shown, seconds in ((15, 2.8), (17, 2.8 + PAUSE + 0.2)):
        with stream(model, video(times[:shown]), fps=10, save=path) as moments:
            assert len(list(moments)) == shown
        with open_video(path) as written:
            assert written.times()[-1] == pytest.approx(seconds, abs=0.05)


def test_a_film_that_can_not_be_written_is_an_error(model: LCR, tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    moments = stream(model, video([t / 10 for t in range(30)]), fps=10, save=path)
    path.parent.rmdir()
    with pytest.raises(CheckpointError, match=r"Can't write .*new"):
        list(moments)
    path.parent.touch()
    with pytest.raises(UsageError, match="the folder can't be made"):
        stream(model, video([0.0]), save=path)


def test_an_error_of_the_encoder_is_no_end(
    model: LCR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("videorwkv.inference.annotate.write_video", broken)
    with pytest.raises(ZeroDivisionError):
        list(stream(model, video([0.0, 0.1]), fps=10, save=tmp_path / "out.mp4"))


def test_a_film_never_replaces_the_video_that_is_read(model: LCR, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    content = clip.read_bytes()
    for source in (clip, str(clip), open_video(clip)):
        with pytest.raises(UsageError, match="would be overwritten"):
            stream(model, source, save=clip)
    assert clip.read_bytes() == content


def test_scores_that_are_none_end_the_stream() -> None:
    broken = build_model(tiny.recipe().model)
    with torch.no_grad():
        broken.layers[0].mix_out.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="array"):
        list(stream(broken, video([0.0])))


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0}, {"fps": float("nan")}, {"smooth": -1}, {"gap": 0}, {"threshold": 1.5},
        {"reset_every": -1}, {"top": 0}, {"motion_mask_ratio": 1.0}, {"labels": ["a"]},
        {"half": True}, {"tube_mask_ratio": 0.5, "motion_mask_ratio": 0.5},
    ],
)  # fmt: skip
def test_wrong_options(model: LCR, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        list(stream(model, video([0.0]), **wrong))  # type: ignore[arg-type]


def test_an_exported_file_says_the_same(tiny_run: Path, onnx_file: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    ours, theirs = (list(stream(model, clip, fps=8)) for model in (tiny_run, onnx_file))
    assert len(ours) == 8
    for a, b in zip(ours, theirs, strict=True):
        assert (a.time, a.label) == (b.time, b.label)
        np.testing.assert_allclose(np.sort(a.scores), np.sort(b.scores), atol=1e-4)
    for wrong in ({"motion_mask_ratio": 0.5}, {"half": True}, {"tube_mask_ratio": 0.5}):
        with pytest.raises(UsageError):
            stream(onnx_file, clip, **wrong)  # type: ignore[arg-type]


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    assert main(["stream", str(run), clip, "--threshold=0"]) == 0
    shown = capsys.readouterr()
    label = load_run(run).labels
    assert any(name in shown.out.splitlines()[0] for name in label)
    assert "8 frames, 0 dropped" in shown.err
    assert main(["stream", str(run), clip, "--threshold=1"]) == 0
    assert capsys.readouterr().out.split() == ["0.00", "s", "(no", "class)"]
    assert main(["stream", str(run), clip, "--json", "--top=2", "--precision=bfloat16"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["number"] for line in lines] == list(range(8))
    assert all(len(line["labels"]) == len(line["scores"]) == 2 for line in lines)


def test_a_file_without_a_clock_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, bare = tiny.write_clip(tmp_path / "clip.mp4"), tmp_path / "clip.h264"
    with av.open(str(clip)) as source, av.open(str(bare), "w", format="h264") as sink:
        stream_in = source.streams.video[0]
        stream_out = sink.add_stream_from_template(stream_in)
        for packet in source.demux(stream_in):
            if packet.dts is not None:
                packet.stream = stream_out
                sink.mux(packet)
    assert main(["stream", str(run), str(clip)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["stream", str(run), str(bare)]) == 0
    assert "warning: no frame carries a time" in capsys.readouterr().err


def test_no_class_is_told_from_a_class_of_that_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    tiny.edit_config(folder, lambda config: config["labels"].__setitem__(0, "(no class)"))
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    assert main(["stream", str(folder), clip, "--threshold=1"]) == 0
    assert capsys.readouterr().out.strip() == "0.00 s  ((no class))"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["97"], 1, "camera 97"),
        (["missing.mp4"], 1, "no such file"),
        (["missing.mp4", "--threads=0"], 2, "--threads 0"),
        (["missing.mp4", "--top=3"], 2, "--top needs --json"),
        (["missing.mp4", "--fps=-1"], 2, "fps (-1.0)"),
    ],
)
def test_command_errors(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert main(["stream", str(run), *arguments]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("number", NUMBERS)
def test_ctrl_c_and_its_like_end_with_the_summary_and_the_film(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    step = Recogniser.step
    seen: list[str] = []

    def interrupted(self: Recogniser, inputs: Inputs, state: object, name: str) -> object:
        seen.append(name)
        if seen.count(clip) > 3:
            os.kill(os.getpid(), number)
        return step(self, inputs, state, name)

    monkeypatch.setattr(Recogniser, "step", interrupted)
    saved = tmp_path / "out.mp4"
    assert main(["stream", str(run), clip, f"--save={saved}"]) == 130
    assert "3 frames, 0 dropped" in capsys.readouterr().err
    with open_video(saved) as written:
        assert len(written.times()) == 3
