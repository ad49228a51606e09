"""Training with a timeline: a loss at every frame, the background, validations by segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F

from videorwkv.data import load_manifest
from videorwkv.data.background import BACKGROUND
from videorwkv.data.loader import Batch
from videorwkv.errors import ConfigError, DataError
from videorwkv.inference.recogniser import load_run
from videorwkv.models import Inputs, build_model
from videorwkv.run.recipes import Recipe, apply_overrides
from videorwkv.training.dry import dry_run
from videorwkv.training.learner import Learner
from videorwkv.training.loggers import scalars
from videorwkv.training.loggers.jsonl import best_validation, describe_best, read_log
from videorwkv.training.loop import train
from videorwkv.video import Sampling

FILMS = "motion:timeline=10,train=3,validation=2,test=1,size=32"


def recipe(**changes: Any) -> Recipe:
    base = replace(
        tiny.recipe(model={"tube_mask_ratio": 0.0}),
        sampling=Sampling(num_frames=6, fps=4.0),
        timeline=True,
        context=2,
        best_by="f1_50",
        repeats=2,
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timeline") / "run"
    train(recipe(), load_manifest(FILMS), folder, quiet=True, baselines=True)
    return folder


def test_a_run_has_the_background_among_its_labels(run: Path):
    trained = load_run(run)
    data = load_manifest(FILMS)
    assert trained.labels == tuple(sorted((*data.labels, BACKGROUND)))
    assert trained.recipe.model.num_classes == len(trained.labels)
    assert trained.recipe.timeline
    assert trained.data["digest"] == data.digest
    entry = best_validation(run)
    assert entry is not None
    assert {"f1_50", "edit", "top1", "false_alarms_in_10_minutes"} <= set(entry)
    assert entry["n_total"] == 2
    assert describe_best(entry).startswith("F1@50 ")
    assert {"validation/f1_50", "validation/edit", "validation/loss"} <= set(scalars(entry))
    kinds = {e["kind"] for e in read_log(run / "log.jsonl")}
    assert kinds <= {"step", "validation", "signs", "bad_clips"}, "a logger has failed"
    assert all(e["kind"] != "baselines" for e in read_log(run / "log.jsonl"))


def test_a_resumed_run_ends_with_the_same_weights(run: Path, tmp_path: Path):
    folder = tmp_path / "run"

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    data = load_manifest(FILMS)
    assert train(recipe(), data, folder, quiet=True, on_step=stop).interrupted
    train(None, data, folder, quiet=True, resume=True)
    for name in ("best", "last"):
        one, other = ((f / f"{name}.safetensors").read_bytes() for f in (run, folder))
        assert one == other


def test_the_loss_is_the_mean_over_the_known_frames_of_each_window():
    torch.manual_seed(0)
    own = recipe(label_smoothing=0.1)
    own = replace(own, model=replace(own.model, num_classes=4, drop_path=0.0))
    model = build_model(own.model)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (3, 6, 32, 32, 3), dtype=torch.uint8, generator=generator)
    edges = torch.zeros(3, 6, 32, 32, dtype=torch.uint8)
    labels_BT = torch.tensor([[-1, -1, 0, 1, 2, 3], [0] * 6, [-1] * 5 + [2]])
    batch = Batch(Inputs(frames, edges), labels_BT, torch.arange(3))
    with torch.no_grad():
        logits_BTK = model.train().scan(batch.inputs)[0]
    expected = (
        sum(
            F.cross_entropy(
                logits_BTK[b][labels_BT[b] >= 0],
                labels_BT[b][labels_BT[b] >= 0],
                label_smoothing=0.1,
            )
            for b in range(3)
        )
        / 3
    )
    right = sum(
        float((logits_BTK[b].argmax(-1) == labels_BT[b])[labels_BT[b] >= 0].float().mean())
        for b in range(3)
    )
    learner = Learner(build_model(own.model), own, torch.device("cpu"))
    learner.model.load_state_dict(model.state_dict())
    found = learner.step([batch], [[3]], 0, 1e-4)
    assert found is not None
    # float32, another order of summation.
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
    assert found.correct == pytest.approx(right, abs=1e-6)
    assert found.clips == 3


def test_pieces_of_a_batch_add_up_to_it():
    torch.manual_seed(0)
    own = recipe(ema=0.0)
    own = replace(
        own,
        model=replace(own.model, num_classes=4, head_norm="layer", stem="patch"),
        clip_norm=0.0,
        batch_size=4,
    )
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (4, 6, 32, 32, 3), dtype=torch.uint8, generator=generator)
    edges = torch.zeros(4, 6, 32, 32, dtype=torch.uint8)
    labels_BT = torch.randint(-1, 4, (4, 6), generator=generator)
    whole = Batch(Inputs(frames, edges), labels_BT, torch.arange(4))
    halves = [
        Batch(Inputs(frames[k : k + 2], edges[k : k + 2]), labels_BT[k : k + 2], torch.arange(2))
        for k in (0, 2)
    ]
    losses, norms = [], []
    start = build_model(own.model).state_dict()
    for pieces, counts in (([whole], [[4]]), (halves, [[2, 2]])):
        learner = Learner(build_model(own.model), own, torch.device("cpu"))
        learner.model.load_state_dict(start)
        found = learner.step(pieces, counts, 0, 1e-3)
        assert found is not None
        losses.append(found.loss)
        norms.append(found.norm)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_workers_read_the_same_windows(run: Path, tmp_path: Path):
    train(recipe(workers=1), load_manifest(FILMS), tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (
        run / "last.safetensors"
    ).read_bytes()


def test_one_class_is_enough_and_none_is_too_few(tmp_path: Path):
    data = load_manifest(FILMS)
    label = data.rows[0].label
    one = replace(
        data,
        rows=tuple(row for row in data.split("train").rows if row.label == label),
        labels=(str(label),),
        flips=None,
    )
    train(recipe(steps=1), one, tmp_path / "one", quiet=True)
    assert load_run(tmp_path / "one").labels == tuple(sorted((BACKGROUND, str(label))))
    nothing = replace(one, rows=tuple(row._replace(label=None) for row in one.rows))
    with pytest.raises(DataError, match="at least one is needed"):
        train(recipe(steps=1), nothing, tmp_path / "none", quiet=True)


def test_a_dry_run_says_what_it_takes():
    found = dry_run(recipe(steps=100), load_manifest(FILMS), device="cpu")
    assert found.validations > 0
    assert found.validation_seconds > 0


def test_options_that_do_not_go_together():
    with pytest.raises(ConfigError, match=r"sampling\.fps"):
        recipe(sampling=Sampling(num_frames=6))
    with pytest.raises(ConfigError, match="context"):
        recipe(context=6)
    with pytest.raises(ConfigError, match="needs timeline=true"):
        replace(tiny.recipe(), context=2)
    with pytest.raises(ConfigError, match="class_weights"):
        recipe(class_weights="balanced")
    with pytest.raises(ConfigError, match="views"):
        recipe(views=(2, 1))
    with pytest.raises(ConfigError, match="f1_50"):
        replace(tiny.recipe(), best_by="f1_50")
    assert apply_overrides(recipe(), ["context=1"]).context == 1
