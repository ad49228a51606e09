from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F

from videorwkv.errors import ConfigError
from videorwkv.models import Inputs, build_model
from videorwkv.training.learner import _Loss, class_weights
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train


def test_weights_by_hand() -> None:
    # Three clips of one class, one of another, none of the third.
    weights_K = class_weights([0, 0, 0, 1], 3)
    torch.testing.assert_close(weights_K, torch.tensor([2 / 3, 2.0, 0.0]))
    assert float(weights_K[torch.tensor([0, 0, 0, 1])].mean()) == pytest.approx(1.0)
    torch.testing.assert_close(class_weights([0, 1, 0, 1], 2), torch.ones(2))


@pytest.mark.parametrize("loss_frames", ["last", "all"])
@pytest.mark.parametrize("scale", [None, 0.25])
def test_the_loss_is_a_mean_over_clips(loss_frames: str, scale: float | None) -> None:
    model_options: dict[str, Any] = {"tube_mask_ratio": 0.0, "num_classes": 3, "head_norm": "layer"}
    recipe = tiny.recipe(model=model_options, loss_frames=loss_frames, label_smoothing=0.0)
    torch.manual_seed(0)
    model = build_model(recipe.model).eval()
    weights_K = torch.tensor([0.5, 2.0, 1.0])
    frames = torch.randint(256, (4, 3, 32, 32, 3), dtype=torch.uint8)
    inputs = Inputs(frames, torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    labels = torch.tensor([0, 1, 1, 0])
    loss, _ = _Loss(model, recipe, torch.device("cpu"), weights_K)(inputs, labels, 0, None, scale)
    logits_BTK = model.scan(inputs)[0]
    late_BTK = logits_BTK[:, -1:] if loss_frames == "last" else logits_BTK[:, 1:]
    late = late_BTK.shape[1]
    each = F.cross_entropy(late_BTK.flatten(0, 1), labels.repeat_interleave(late), reduction="none")
    wanted = (each.view(4, late).mean(1) * weights_K[labels]).sum() * (
        0.25 if scale is None else scale
    )
    torch.testing.assert_close(loss, wanted)


def test_uneven_classes_train_otherwise(tmp_path: Path) -> None:
    def losses(name: str, rows: int, **changes: Any) -> list[float]:
        manifest = tiny.manifest()
        train_rows = [row for row in manifest.rows if row.split == "train"]
        kept = [row for row in train_rows if row.label in sorted(manifest.labels)[:2]]
        few = [row for row in kept if row.label == kept[0].label][:rows]
        both = (*few, *[row for row in kept if row.label != kept[0].label])
        recipe = tiny.recipe(steps=2, batch_size=3, **changes)
        train(recipe, replace(manifest, rows=both), tmp_path / name, quiet=True)
        log = read_log(tmp_path / name / "log.jsonl")
        return [entry["loss"] for entry in log if entry["kind"] == "step"]

    assert losses("a", 1) != losses("b", 1, class_weights="balanced")


def test_a_wrong_name() -> None:
    with pytest.raises(ConfigError, match=r"class_weights 'balance'.*Did you mean 'balanced'"):
        tiny.recipe(class_weights="balance")
