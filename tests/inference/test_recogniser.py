"""Whatever the user gives becomes the same recogniser."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from videorwkv.errors import NonFiniteError, UsageError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import Recogniser, load_run, require_finite
from videorwkv.inference.stream import stream
from videorwkv.models import Inputs, LCRConfig, build_model
from videorwkv.models.masking import NO_MASKS, Masks
from videorwkv.video.base import Sampling


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("recogniser") / "run", views=(2, 1), clip_timeout=7)


def test_a_path_a_run_and_a_recogniser_are_the_same(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    opened = Recogniser.open(run, what="test")
    assert opened.labels == load_run(run).labels
    assert (opened.sampling.num_frames, opened.views, opened.clip_timeout) == (3, (2, 1), 7)
    assert (opened.masks, opened.device, opened.precision) == (
        NO_MASKS, torch.device("cpu"), "float32",
    )  # fmt: skip
    answers = [predict(clip, model=m) for m in (run, str(run), load_run(run), opened)]
    assert answers[0][0].labels
    assert answers.count(answers[0]) == 4
    scores = [
        [clip.scores_K.tolist() for clip in evaluate(m, tiny.manifest().split("test")).clips]
        for m in (run, opened)
    ]
    assert scores[0] == scores[1]


def test_what_is_given_goes_before_what_the_run_says(run: Path) -> None:
    opened = Recogniser.open(run, what="test")
    names = [f"class {k}" for k in range(8)]
    masks = Masks(tube_mask_ratio=0.5)
    for model in (run, opened):
        other = Recogniser.open(
            model,
            what="test",
            labels=names,
            sampling=Sampling(num_frames=5),
            views=(3, 3),
            masks=masks,
            precision="bfloat16",
            clip_timeout=0,
        )
        assert other.labels == tuple(names)
        assert (other.sampling.num_frames, other.views, other.masks) == (5, (3, 3), masks)
        assert (other.precision, other.clip_timeout) == ("bfloat16", 0)
    assert opened.views == (2, 1)  # a value


def test_the_verbs_keep_what_a_recogniser_was_opened_with(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    masks = Masks(motion_mask_ratio=0.5)
    opened = Recogniser.open(run, what="test", masks=masks)
    assert predict(clip, model=opened) == predict(clip, model=run, motion_mask_ratio=0.5)
    assert predict(clip, model=opened) != predict(clip, model=run)
    test = tiny.manifest().split("test")
    half = Recogniser.open(run, what="test", masks=masks, precision="bfloat16")
    one, other, plain = (
        [one.scores_K.tolist() for one in evaluate(model, test, **options).clips]
        for model, options in (
            (half, {}),
            (run, {"motion_mask_ratio": 0.5, "precision": "bfloat16"}),
            (run, {"motion_mask_ratio": 0.5}),
        )
    )
    assert one == other != plain
    (first, *_) = stream(opened, clip, fps=8)
    (same, *_) = stream(load_run(run).model(), clip, fps=8, labels=opened.labels,
                        motion_mask_ratio=0.5)  # fmt: skip
    assert first.scores == same.scores
    for wrong in ({"device": "cuda:7"}, {"device": "nosuch"}):
        with pytest.raises(UsageError, match="Device"):
            predict(clip, model=opened, **wrong)
    with pytest.raises(UsageError, match="half"):
        stream(opened, clip, half=True)


def test_a_stream_leaves_the_network_as_it_was(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    model = load_run(run).model().train()
    with stream(model, clip, fps=8) as predictions:
        assert next(iter(predictions)).scores
        assert not model.training
    assert model.training


def test_a_model_alone_has_numbers_for_labels(run: Path) -> None:
    model = load_run(run).model()
    assert Recogniser.open(model, what="test").labels == tuple("01234567")
    given = Recogniser.open(model, what="test", default_labels="abcdefgh")
    assert given.labels == tuple("abcdefgh")
    for wrong in (model, given):
        with pytest.raises(UsageError, match="test: 2 labels for a model of 8 classes"):
            Recogniser.open(wrong, what="test", labels=["a", "b"])
    with pytest.raises(UsageError, match="half is for a run's folder"):
        Recogniser.open(model, what="test", fastest=True, half=True)


def test_its_network_is_left_as_it_was(run: Path) -> None:
    model = load_run(run).model().train()
    with Recogniser.open(model, what="test").evaluating():
        assert not model.training
    assert model.training


def test_scores_that_are_none_stop_with_the_layer() -> None:
    config = LCRConfig(image_size=16, patch_size=8, width=16, head_width=8, depth=4, num_classes=3)
    net = build_model(config).eval()
    inputs = Inputs(
        torch.zeros(1, 3, 16, 16, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
    )

    def check() -> None:
        require_finite(net(inputs), net, lambda: net(inputs), "clip.mp4")

    with torch.inference_mode():
        check()
        net.layers[3].mix_in.weight.mul_(1e30)  # its square is infinite
        with pytest.raises(NonFiniteError, match=r"^clip\.mp4: .*'layers\.3\.mix_out' \(Linear"):
            check()
        net.layers[1].output.weight[0, 0] = float("nan")
        with pytest.raises(NonFiniteError, match=r"parameter 'layers\.1\.output\.weight'"):
            check()
    assert not net.layers[3].mix_in._forward_hooks
