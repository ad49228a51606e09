from __future__ import annotations

import errno
import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import tiny
import torch
from rich.console import Console

from videorwkv.errors import NonFiniteError, UsageError
from videorwkv.inference.annotate import HEIGHT, draw
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.predict import Prediction, _targets, expand, predict, predictions_table
from videorwkv.inference.recogniser import load_run
from videorwkv.inference.stream import stream
from videorwkv.models import Inputs, LCRState, build_model, create_model
from videorwkv.video import open_video
from videorwkv.video.base import Sampling
from videorwkv.video.writer import write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


def test_scores_are_those_of_the_model(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (prediction,) = predict(clip, model=run, top=3)
    model = load_run(run).model()
    with open_video(clip) as video, torch.inference_mode():
        scores_K = model(model.preprocess(video.sample(3)))[0].softmax(-1).numpy()
    best = np.argsort(-scores_K)[:3]
    assert prediction.labels == tuple(tiny.manifest().labels[k] for k in best)
    np.testing.assert_allclose(prediction.scores, scores_K[best], atol=1e-5)
    assert prediction.label == prediction.labels[0]
    assert 0 <= prediction.times[0] < prediction.times[1] < 1
    assert json.loads(json.dumps(prediction.to_dict()))["labels"] == list(prediction.labels)


def test_scores_that_are_none_are_not_shown(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    model = load_run(run).model()
    with torch.no_grad():
        model.layers[0].mix_out.weight[0, 0] = float("nan")
    # The model is at fault, so going on with the next video would not help.
    with pytest.raises(NonFiniteError, match=r"clip\.mp4: .*'layers\.0\.mix_out\.weight'"):
        predict([clip, clip], model=model)


def test_views_are_averaged(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (prediction,) = predict(clip, model=run, top=8, views=2)
    model = load_run(run).model()
    with open_video(clip) as video, torch.inference_mode():
        each = [
            model(model.preprocess(video.sample(3, view=v, num_views=2)))[0].softmax(-1).numpy()
            for v in range(2)
        ]
    np.testing.assert_allclose(prediction.scores, np.sort(np.mean(each, axis=0))[::-1], atol=1e-5)


def test_views_are_those_of_the_run_unless_given(tmp_path: Path) -> None:
    run = tiny.trained(tmp_path / "run", views=(3, 1), sampling=Sampling(num_frames=3, fps=8.0))
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=12)
    assert predict(clip, model=run)[0].scores == predict(clip, model=run, views=3)[0].scores
    one, three = (predict(clip, model=run, views=v)[0] for v in (1, 3))
    assert one.scores != three.scores
    # The seconds that were looked at are those of all views, not of the first.
    assert three.times[0] < one.times[0] < one.times[1] < three.times[1]


def test_one_bad_file_does_not_stop_the_others(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    missing = tmp_path / "missing.mp4"
    found = predict([tmp_path / "text.mp4", missing, clip], model=run)
    assert [bool(p.error) for p in found] == [True, True, False]
    assert "text.mp4" in found[0].error
    assert "missing.mp4" in found[1].error
    with pytest.raises(UsageError, match=r"missing\.mp4"):
        _ = found[1].label
    shown = predictions_table(found)
    assert [str(cell) for cell in shown.columns[0].cells if cell] == [p.path for p in found]


def test_scores_stand_beside_their_labels() -> None:
    long = "moving a thing away " + "from something else " * 5
    found = [Prediction("a.mp4", ("short", long, "last"), (0.5, 0.3, 0.1), warnings=("note",))]
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(predictions_table(found))
    lines = console.export_text().splitlines()
    for label, score in (("short", "0.500"), ("moving", "0.300"), ("last", "0.100")):
        (line,) = (line for line in lines if label in line)
        assert score in line


def test_bytes_and_a_model_without_a_run(tmp_path: Path) -> None:
    content = tiny.write_clip(tmp_path / "clip.mp4").read_bytes()
    model = create_model("lcr_nano", num_classes=3, depth=1, image_size=32)
    (prediction,) = predict(content, model=model)
    assert set(prediction.labels) == {"0", "1", "2"}


def test_expand_folders_globs_and_frames(tmp_path: Path) -> None:
    junk = ("._b.mp4", "@eaDir/b.mp4/shot.jpg", ".thumbnails/1.jpg")
    for name in ("b.mp4", "sub/a.mp4", "notes.txt", *junk):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    frames = tmp_path / "frames"
    frames.mkdir()
    for t in range(3):
        cv2.imwrite(str(frames / f"{t:05d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    videos = tmp_path / "videos"
    assert list(expand(videos)) == [videos / "b.mp4", videos / "sub/a.mp4"]
    assert list(expand(frames)) == [frames]
    assert list(expand([str(videos / "*.mp4"), "x.mp4"])) == [str(videos / "b.mp4"), "x.mp4"]
    for content in (b"content", bytearray(b"content"), [memoryview(b"content")]):
        assert list(expand(content)) == [b"content"]
    for other in (0, [0], [None], None, np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(UsageError, match=r"(?s)predict takes paths.*videorwkv\.stream"):
            list(expand(other))


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    path = tmp_path / "take [1].mp4"
    path.touch()
    assert list(expand(str(path))) == [str(path)]


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video in it"):
        list(expand(tmp_path))
    with pytest.raises(UsageError, match="No file matches"):
        list(expand(str(tmp_path / "*.mp4")))


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_annotated_video_shows_every_frame(run: Path, tmp_path: Path, suffix: str) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=9)
    out = tmp_path / "new" / f"out{suffix}"
    (prediction,) = predict(clip, model=run, save=out)
    assert not prediction.error
    with open_video(out) as video:
        annotated = video.read_all()
    assert len(annotated) == 9
    assert annotated.frames_THWC.shape[1] == HEIGHT
    # Frame, edge map and panel side by side.
    assert annotated.frames_THWC.shape[2] == 320 + 240 + 260


@pytest.mark.parametrize(
    ("suffix", "rate", "frames"),
    [(".mp4", 60, 120), (".mp4", 120, 120), (".mp4", 240, 120), (".gif", 15, 15), (".gif", 25, 25)],
)
def test_annotated_video_lasts_as_long_as_the_video(
    run: Path, tmp_path: Path, suffix: str, rate: int, frames: int
) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, np.zeros((frames, 32, 32, 3), np.uint8), rate)
    out = tmp_path / f"out{suffix}"
    predict(clip, model=run, save=out)
    with open_video(out) as video:
        times = video.times()
    step = times[1] - times[0]
    assert 1 / step <= (12.6 if suffix == ".gif" else 60.1)
    assert times[-1] + step == pytest.approx(frames / rate, abs=step)


def test_many_annotated_videos_go_to_a_folder(run: Path, tmp_path: Path) -> None:
    clips = [tiny.write_clip(tmp_path / part / "clip.mp4") for part in "ab"]
    predict(clips, model=run, save=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["clip-1.mp4", "clip.mp4"]
    with pytest.raises(UsageError, match="one file for 2 videos"):
        predict(clips, model=run, save=tmp_path / "out.mp4")
    with pytest.raises(UsageError, match=r"\.mp4 or \.gif"):
        predict(clips[0], model=run, save=tmp_path / "out.avi")
    for place in ("a/clip.mp4/out", "a/clip.mp4/out.mp4"):
        with pytest.raises(UsageError, match=r"clip\.mp4.*the folder can't be made"):
            predict(clips[0], model=run, save=tmp_path / place)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No room"), av.error.PyAVCallbackError(1, "No room")]
)
def test_a_full_disk_costs_no_prediction_and_names_the_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("videorwkv.inference.annotate.write_video", full)
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (found,) = predict(clip, model=run, save=tmp_path / "out.mp4")
    assert found.labels
    assert found.error == ""
    assert f"was not written: Can't write {tmp_path / 'out.mp4'}: No room" in found.save_error
    assert found.warnings == ()


def test_saving_never_replaces_a_video_that_is_read(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "videos" / "clip.mp4")
    content = clip.read_bytes()
    (tmp_path / "link").symlink_to(clip.parent)
    for save in (clip, clip.parent, tmp_path / "link" / "clip.mp4"):
        with pytest.raises(UsageError, match="would be overwritten"):
            predict(clip.parent, model=run, save=save)
    assert clip.read_bytes() == content


def test_annotated_videos_replace_none_of_each_other(tmp_path: Path) -> None:
    files = [Path("p/a-2.mp4"), Path("p/a.mp4"), Path("q/a.mp4")]
    names = [target and target.name for target in _targets(files, tmp_path)]
    assert names == ["a-2.mp4", "a.mp4", "a-3.mp4"]


def test_drawn_bar_grows_with_the_score() -> None:
    image_HWC = np.zeros((40, 60, 3), np.uint8)
    edges_HW = np.zeros((32, 32), np.uint8)

    def blue(score: float) -> int:
        frame_HWC = draw(image_HWC, edges_HW, np.array([score, 0.0]), ["Zürich 手", "b"], time=0.0)
        return int((frame_HWC == (31, 119, 180)).all(-1).sum())

    assert 0 < blue(0.2) < blue(0.9)


def test_drawn_edges_have_the_shape_of_what_the_model_saw() -> None:
    image_HWC, edges_HW = np.zeros((48, 64, 3), np.uint8), np.zeros((32, 32), np.uint8)
    edges_HW[:, 24:] = 255
    for frame_fit, wide in (("crop", HEIGHT), ("stretch", HEIGHT * 64 // 48)):
        drawn_HWC = draw(image_HWC, edges_HW, None, ["a"], time=0.0, frame_fit=frame_fit)
        panel_HWC = drawn_HWC[:, HEIGHT * 64 // 48 :][:, :wide]
        # The last quarter of the map, up to the scores' white panel of 260 pixels.
        assert drawn_HWC.shape[1] == HEIGHT * 64 // 48 + wide + 260
        assert (panel_HWC[:, wide * 3 // 4 :] == 255).all()
        assert not panel_HWC[:, : wide * 3 // 4].any()


@pytest.mark.parametrize(("frame_fit", "edges"), [("crop", 240), ("stretch", 320)])
def test_annotated_video_of_a_stretched_frame(tmp_path: Path, frame_fit: str, edges: int) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=3)
    model = build_model(replace(tiny.recipe().model, frame_fit=frame_fit))
    predict(clip, model=model, save=tmp_path / "out.gif")
    with stream(model, clip, fps=8, save=tmp_path / "out.mp4") as moments:
        assert list(moments)
    for name in ("out.gif", "out.mp4"):
        with open_video(tmp_path / name) as video:
            assert video.read([0]).frames_THWC.shape[2] == 320 + edges + 260


def test_options_that_the_model_can_not_take_are_no_fault_of_the_videos(tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    convlstm = build_model(replace(tiny.recipe().model, cell="convlstm", tube_mask_ratio=0.0))
    with pytest.raises(UsageError, match="a mask was asked for"):
        predict(clip, model=convlstm, tube_mask_ratio=0.5)
    for labels in (["one"], ["a"] * 1000):
        with pytest.raises(UsageError, match=f"{len(labels)} labels for a model of 400 classes"):
            predict(clip, model=convlstm, labels=labels)


def test_the_model_is_given_back_as_it_was(tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    model = build_model(tiny.recipe().model).train()
    predict(clip, model=model)
    assert model.training


def test_a_fault_is_looked_for_under_the_mask_that_it_was_met_with(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_run(run).model()
    asked = []

    def scan(inputs: Inputs, state: LCRState | None = None) -> tuple[torch.Tensor, None]:
        assert state is not None
        asked.append(state.keep_BK)
        return torch.full((1, 3, 8), float("nan")), None

    monkeypatch.setattr(model, "scan", scan)
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    with pytest.raises(NonFiniteError):
        predict(clip, model=model, tube_mask_ratio=0.5)
    assert torch.equal(asked[0], asked[1])
    asked.clear()
    with pytest.raises(NonFiniteError):
        evaluate(model, tiny.manifest().split("test"), tube_mask_ratio=0.5)
    assert torch.equal(asked[0], asked[1])


@pytest.mark.parametrize("options", [{"top": 0}, {"views": 0}])
def test_wrong_numbers(run: Path, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        predict("x.mp4", model=run, **options)


def test_where_the_model_did_not_look_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=24)
    drawn: list[tuple[float, bool]] = []
    real = draw

    def spy(*values: Any, looked: bool, **options: Any) -> Any:
        shown = real(*values, looked=looked, **options)
        same = np.array_equal(shown, real(*values, looked=True, **options))
        drawn.append((options["time"], looked))
        assert same == looked  # it can be told from the picture
        return shown

    monkeypatch.setattr("videorwkv.inference.annotate.draw", spy)
    window = Sampling(num_frames=3, fps=8.0)
    (prediction,) = predict(clip, model=run, sampling=window, save=tmp_path / "out.mp4")
    first, last = prediction.times
    assert len(drawn) == 24
    for time, looked in drawn:
        assert looked == (first - 0.1 < time < last + 0.1)
    assert not drawn[0][1]
    assert not drawn[-1][1]


def test_large_frames_do_not_lie_in_memory_together(tiny_run: Path, tmp_path: Path) -> None:
    """They were kept twice, at full size: 8 frames of 9 MB each."""
    folder = tmp_path / "frames"
    folder.mkdir()
    flat = np.full((1500, 2000, 3), 90, np.uint8)
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.jpg"), flat)
    predict(folder, model=tiny_run, device="cpu")  # whatever is imported on the way
    tracemalloc.start()
    try:
        found = predict(
            folder, model=tiny_run, sampling=Sampling(num_frames=8), device="cpu", views=2
        )
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    assert not found[0].error


def test_a_video_that_takes_too_long(tiny_run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    for limit, is_read in ((1e-9, False), (0, True), (60, True)):
        (found,) = predict(clip, model=tiny_run, device="cpu", clip_timeout=limit)
        assert bool(found.error) != is_read
        assert is_read or "--clip-timeout" in found.error


def test_a_clip_does_not_name_another(tiny_run: Path, tmp_path: Path) -> None:
    tiny.write_clip(tmp_path / "inner.mp4")
    path = tmp_path / "list.ffconcat"
    path.write_text("ffconcat version 1.0\nfile inner.mp4\n")
    (refused,) = predict(path, model=tiny_run, device="cpu")
    assert "--allow-playlists" in refused.error
    (followed,) = predict(path, model=tiny_run, device="cpu", allow_playlists=True)
    assert not followed.error
