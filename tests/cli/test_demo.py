from __future__ import annotations

import base64
import errno
import fcntl
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F

from videorwkv.cli import demo_page
from videorwkv.cli.demo import demo
from videorwkv.errors import UsageError
from videorwkv.inference.recogniser import Recogniser, load_run
from videorwkv.video import open_video


def test_demo_leaves_a_page_that_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tiny.write_clip(tmp_path / "mine.mp4")
    out = tmp_path / "demo"
    result = demo(out, video=own, data=tiny.MOTION, recipe=tiny.recipe(), steps=2, quiet=False)
    text = result.report.read_text()
    # One page that needs nothing beside it, and nothing from elsewhere.
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    films, pictures = (
        list(map(base64.b64decode, re.findall(f'data:{kind}/[a-z0-9]+;base64,([^"]+)', text)))
        for kind in ("video", "image")
    )
    for content in films:
        with open_video(content) as video:
            assert len(video.times()) >= 6
    assert (len(films), len(pictures)) == (2, 3)
    with open_video(out / "film.mp4") as video:
        frames_THWC = video.read_all().frames_THWC
    assert frames_THWC.shape == (
        6 + 12,
        2 * 314 + 36,
        4 * 240 + 60,
        3,
    )
    assert "clips that it never saw" in text
    assert str(own) in text
    assert str(result.report.resolve()) in capsys.readouterr().out
    assert result.evaluation.n_total == 8
    assert not result.prediction.error
    assert result.own is not None
    assert result.own.path == str(own)
    with open_video(out / "prediction.gif") as video:
        assert len(video.times()) == 6

    # A second time, into the same folder.
    again = demo(out, data=tiny.MOTION, recipe=tiny.recipe(), steps=1, quiet=True)
    assert again.own is None
    assert "Your video" not in again.report.read_text()


def test_demo_removes_nothing_that_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        demo(tmp_path, data=tiny.MOTION, recipe=tiny.recipe(), quiet=True)

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    # Nor is the mark a stranger that stands for a lock where there are none.
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        demo(tmp_path, data=tiny.MOTION, recipe=tiny.recipe(), quiet=True)


def test_demo_says_at_once_that_the_video_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No video at"):
        demo(tmp_path / "demo", video=tmp_path / "none.mp4")
    for name in "ab":
        tiny.write_clip(tmp_path / "videos" / f"{name}.mp4")
    with pytest.raises(UsageError, match=r"folder of 2 videos.*a\.mp4"):
        demo(tmp_path / "demo", video=tmp_path / "videos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no video in it"):
        demo(tmp_path / "demo", video=tmp_path / "empty")
    assert not (tmp_path / "demo").exists()


def test_the_answers_of_a_scene_are_those_of_the_time(tmp_path: Path) -> None:
    run = load_run(tiny.trained(tmp_path / "run", steps=1))
    recogniser = Recogniser.open(run, what="demo", device="cpu")
    test = tiny.manifest().split("test")
    shown = demo_page.scenes(recogniser, test)
    assert [scene.truth for scene in shown] == sorted(test.labels)
    row = next(row for row in test.rows if row.label == shown[0].truth)
    with test.open(row) as video:
        times = video.times()
        seen = times[recogniser.sampling.indices(times)]
        inputs = recogniser.network.preprocess(video.sample(recogniser.sampling.num_frames))
    scores_TK = recogniser.scan(inputs, "", torch.Generator())[0].softmax(-1)
    wanted = [max(np.flatnonzero(seen <= t + 1e-3), default=None) for t in times]
    for frame, at in enumerate(wanted):
        if at is None:
            assert shown[0].answer_T[frame] == -1
        else:
            assert shown[0].answer_T[frame] == int(scores_TK[at].argmax())
            assert shown[0].score_T[frame] == pytest.approx(float(scores_TK[at].max()), abs=1e-5)


def test_least_loss_is_that_of_the_smoothed_target() -> None:
    target_K = torch.full((8,), 0.1 / 8)
    target_K[3] += 0.9
    least = F.cross_entropy(target_K.log()[None], torch.tensor([3]), label_smoothing=0.1)
    assert demo_page.least_loss(8, 0.1) == pytest.approx(float(least), abs=1e-5)
    assert demo_page.least_loss(8, 0.0) == 0.0
    assert math.isclose(demo_page.least_loss(2, 0.2), -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
