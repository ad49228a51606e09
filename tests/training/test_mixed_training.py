"""Options that change what a batch is, or in what precision it is learnt: resumed to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.data import Augmentation
from videorwkv.errors import CheckpointError, ConfigError, NonFiniteError
from videorwkv.models import Inputs, build_model
from videorwkv.training import learner as module
from videorwkv.training.learner import Learner, Others, _Loss
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.state import load_state, save_state

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    "mixed": {
        "mixup": 0.8,
        "cutmix": 1.0,
        "clip_sampling": "balanced",
        "augmentation": Augmentation(rand_augment=2),
    },
    "together": {"repeats": 2, "repeats_together": True, "mixup": 1.0, "accumulate": 2},
    "float16": {"precision": "float16", "mixup": 1.0},
}


def stop_after(steps: int) -> Any:
    def on_step(step: int) -> None:
        if step == steps:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize("name", OPTIONS)
def test_resumed_to_the_bit(name: str, tmp_path: Path) -> None:
    recipe = tiny.recipe(steps=6, **OPTIONS[name])
    manifest = tiny.manifest()
    train(recipe, manifest, tmp_path / "whole", quiet=True)
    train(recipe, manifest, tmp_path / "run", quiet=True, on_step=stop_after(3))
    train(recipe, manifest, tmp_path / "run", quiet=True, resume=True)
    weights = [load_file(tmp_path / run / "last.safetensors") for run in ("whole", "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    plain = tiny.trained(tmp_path / "plain", steps=6)
    other = load_file(plain / "last.safetensors")
    assert any(not torch.equal(weights[0][name], other[name]) for name in other)


@pytest.mark.parametrize("loss_frames", ["last", "all"])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_the_loss_of_mixed_clips_is_that_of_both_labels(
    loss_frames: str, scale: float | None
) -> None:
    recipe = tiny.recipe(model={"tube_mask_ratio": 0.0, "num_classes": 3}, loss_frames=loss_frames)
    torch.manual_seed(0)
    loss = _Loss(build_model(recipe.model).eval(), recipe, CPU, torch.tensor([0.5, 1.0, 2.0]))
    inputs = Inputs(
        torch.randint(256, (2, 3, 32, 32, 3), dtype=torch.uint8),
        torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
    )
    labels, others, share = torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([0.75, 1.0])

    def of(labels: torch.Tensor, rows: list[int]) -> torch.Tensor:
        picked = Inputs(*(x[rows] for x in inputs))
        return loss(picked, labels[rows], 0, None, scale)[0] * (len(rows) if scale is None else 1)

    found, _ = loss(inputs, labels, 0, None, scale, Others(others, share))
    wanted = 0.75 * of(labels, [0]) + 0.25 * of(others, [0]) + of(labels, [1])
    torch.testing.assert_close(found, wanted / (2 if scale is None else 1))


def test_gradients_that_overflow_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale begins so high that the first gradients are infinite, and is halved each time."""
    scaler = torch.amp.GradScaler

    def high(*arguments: Any, **options: Any) -> torch.amp.GradScaler:
        return scaler(*arguments, init_scale=2.0**124, **options)

    monkeypatch.setattr(torch.amp, "GradScaler", high)
    manifest, recipe = tiny.manifest(), tiny.recipe(steps=6, precision="float16")
    train(recipe, manifest, tmp_path / "run", quiet=True, on_step=stop_after(2))
    state = load_state(tmp_path / "run")
    assert state["step"] == 2
    assert state["scaler"]["scale"] == 2.0**122
    assert not state["optimizer"]["state"]  # nothing was learnt
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert {entry["grad_norm"] for entry in log if entry["kind"] == "step"} == {0.0}
    monkeypatch.setattr(module, "LEAST_SCALE", 2.0**123)
    with pytest.raises(NonFiniteError, match="gradient's norm"):
        train(recipe, manifest, tmp_path / "run", quiet=True, resume=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": -1.0}, "scaler.scale"),
        ({"scale": float("inf")}, "scaler.scale"),
        ({"_growth_tracker": 1 << 40}, "scaler._growth_tracker"),
        (None, "'scaler' is missing"),
    ],
)
def test_a_damaged_scale_is_told(
    tmp_path: Path, values: dict[str, float] | None, message: str
) -> None:
    recipe, folder = tiny.recipe(precision="float16"), tmp_path / "run"
    train(recipe, tiny.manifest(), folder, quiet=True, on_step=stop_after(1))
    state = load_state(folder)
    if values is None:
        del state["scaler"]
    else:
        state["scaler"].update(values)
    save_state(folder, state)
    with pytest.raises(CheckpointError, match=message):
        train(recipe, tiny.manifest(), folder, quiet=True, resume=True)


def test_other_precisions_keep_no_scale() -> None:
    recipe = tiny.recipe()
    learner = Learner(build_model(recipe.model), recipe, CPU)
    assert "scaler" not in learner.state()


def test_recipes_that_can_not_be() -> None:
    for changes, message in (
        ({"repeats": 3, "repeats_together": True}, r"batch_size \(4\) of twice repeats \(3\)"),
        ({"repeats": 4, "repeats_together": True}, "twice repeats"),
        ({"mixup": -0.1}, "alpha of a Beta distribution"),
        ({"clip_sampling": "balance"}, "Did you mean 'balanced'"),
        ({"precision": "half"}, "Recipe: precision 'half'"),
    ):
        with pytest.raises(ConfigError, match=message):
            tiny.recipe(**changes)
