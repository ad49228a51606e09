"""Signs of a failing training: each is found where it was put, and none in a healthy model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from videorwkv.models import Inputs, LCRConfig, build_model
from videorwkv.models.lcr import LCR
from videorwkv.training import diagnostics as train_signs
from videorwkv.training.diagnostics import advice, examine, is_stuck
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train

CONFIG = LCRConfig(
    image_size=32, patch_size=8, width=16, head_width=8, depth=2, num_frames=6, num_classes=4
)
LABELS = torch.tensor([0, 1, 2, 3])


def make_inputs(share: float = 0.1, frames: int = 6) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    shape = (4, frames, 32, 32)
    edges = (torch.rand(shape, generator=generator) < share).to(torch.uint8) * 255
    return Inputs(torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator), edges)


def make_model(**changes: object) -> LCR:
    torch.manual_seed(0)
    return build_model(replace(CONFIG, **changes)).train()


def found(model: LCR, inputs: Inputs | None = None) -> dict[str, str]:
    return advice(examine(model, inputs or make_inputs(), LABELS), model.config)


def test_a_fresh_model_shows_none():
    assert found(make_model()) == {}
    assert found(make_model(depth=4)) == {}
    assert found(make_model(cell="none")) == {}
    assert found(make_model(cell="lstm", edges="none", key_value_source="frame")) == {}


def test_examining_changes_nothing():
    model = make_model(tube_mask_ratio=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    examine(model, make_inputs(), LABELS)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_values_are_those_of_autograd():
    model = make_model(depth=1)
    inputs = make_inputs(frames=2)
    signs = examine(model, inputs, LABELS)
    model.eval()
    loss = torch.nn.functional.cross_entropy(model(inputs), LABELS)
    assert signs.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert signs.gradient_by_layer == (1.0,)
    assert signs.gradient_by_distance == (1.0,)


def test_frames_that_training_does_not_keep_are_not_kept():
    model = make_model()
    whole = examine(model, make_inputs(), LABELS)
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        examine(model, make_inputs(), LABELS)
        all_frames = sum(kept)
        kept.clear()
        model.checkpoint_frames = 2
        late = examine(model, make_inputs(), LABELS)
    assert sum(kept) < all_frames / 2
    assert late.loss == pytest.approx(whole.loss, rel=1e-5)
    assert late.gradient_by_distance == pytest.approx(whole.gradient_by_distance[:1])


def test_no_memory_to_look_is_a_note(tmp_path: Path, capsys, monkeypatch):
    def fail(*args: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(train_signs, "examine", fail)
    result = train(tiny.recipe(steps=4, eval_every=2), tiny.manifest(), tmp_path / "run")
    assert result.step == 4
    assert capsys.readouterr().err.count("no memory is left to look for signs") == 1


@torch.no_grad()
def _forget(model: LCR, rate: float) -> LCR:
    for layer in model.layers:
        layer.forget_rate.fill_(rate)
    return model


@torch.no_grad()
def _scaled(model: LCR, part: str, factor: float) -> LCR:
    for layer in model.layers:
        getattr(layer, part).weight.mul_(factor)
    return model


@torch.no_grad()
def _cut_off_below(model: LCR) -> LCR:
    # The last layer sees nothing of the first.
    model.layers[1].norm_gate.weight.fill_(0)
    model.layers[1].norm_mix.weight.fill_(0)
    model.layers[1].norm_gate.bias.fill_(1)
    model.layers[1].norm_mix.bias.fill_(1)
    return model


@pytest.mark.parametrize(
    ("sign", "make"),
    [
        ("forget_open", lambda: _forget(make_model(), 8.0)),
        ("forget_shut", lambda: _forget(make_model(), -8.0)),
        ("gradient_vanishes_over_frames", lambda: _cut_past(_forget(make_model(), -20.0))),
        ("gradient_vanishes_over_layers", lambda: _cut_off_below(make_model(residual=False))),
        ("memory_saturated", lambda: _scaled(make_model(), "mix_out", 1e4)),
    ],
)
def test_each_sign_is_found(sign, make):
    advices = found(make())
    assert sign in advices
    assert len(advices[sign]) > 20


@torch.no_grad()
def _cut_past(model: LCR) -> LCR:
    for layer in model.layers:
        layer.norm_past.weight.fill_(0)
    return model


def test_explosion_over_frames():
    signs = examine(make_model(), make_inputs(), LABELS)
    grown = replace(signs, gradient_by_distance=(1.0, 1e3, 1e6))
    assert "gradient_explodes_over_frames" in advice(grown, CONFIG)
    broken = replace(signs, gradient_by_layer=(math.nan, 1.0))
    assert "gradient_not_finite" in advice(broken, CONFIG)


def test_the_published_form_gets_no_gradient_at_the_start():
    model = make_model(cell="paper", readout="cls", key_value_source="edges", residual=False)
    assert "stem_picture" not in found(model)["no_gradient"]


def test_still_clips_give_a_model_of_changes_no_gradient():
    inputs = make_inputs()
    still = Inputs(*(x[:, :1].expand_as(x) for x in inputs))
    model = make_model(stem_picture=False)
    told = found(model, still)["no_gradient"]
    assert "Or, with model.stem_picture=false, nothing changes in the clips" in told
    assert "no_gradient" not in found(model, inputs)
    assert "no_gradient" not in found(make_model(), still)


def test_edges_empty_and_full():
    assert "edges_empty" in found(make_model(), make_inputs(0.0))
    assert "edges_full" in found(make_model(), make_inputs(0.9))
    without = make_model(edges="none", key_value_source="frame")
    assert found(without, make_inputs(0.0)) == {}


def test_a_mask_that_takes_what_was_learnt():
    signs = examine(make_model(tube_mask_ratio=0.5), make_inputs(), LABELS)
    assert signs.masked_loss is not None
    assert signs.masked_loss != signs.loss
    assert "mask_too_large" in advice(replace(signs, loss=0.1, masked_loss=1.2), CONFIG)
    assert "mask_too_large" not in advice(replace(signs, loss=0.1, masked_loss=0.3), CONFIG)
    # Nothing learnt yet: a mask can't take anything.
    assert "mask_too_large" not in advice(replace(signs, loss=1.4, masked_loss=2.5), CONFIG)


def test_stuck_accuracy():
    assert "at chance" in (is_stuck([0.25, 0.24, 0.26, 0.25], 4, 0.6) or "")
    assert "at 50%" in (is_stuck([0.5, 0.5, 0.5, 0.5], 4, 0.9) or "")
    assert is_stuck([0.25, 0.24, 0.26, 0.25], 4, 0.3) is None  # too early
    assert is_stuck([0.3, 0.4, 0.5, 0.6], 4, 0.9) is None  # it learns
    assert is_stuck([0.95] * 4, 4, 0.9) is None  # it has learnt


def test_a_run_writes_its_signs_and_warns_once(tmp_path: Path, capsys):
    folder = tmp_path / "run"
    recipe = tiny.recipe(model={"edges": "canny", "edge_options": _deaf()}, steps=4, eval_every=2)
    train(recipe, tiny.manifest(), folder)
    entries = [entry for entry in read_log(folder / "log.jsonl") if entry["kind"] == "signs"]
    assert [entry["step"] for entry in entries] == [2, 4]
    assert all("edges_empty" in entry["found"] for entry in entries)
    assert len(entries[0]["gradient_by_distance"]) == 2
    json.dumps(entries)
    assert capsys.readouterr().err.count("warning (edges_empty)") == 1


def _deaf():
    from videorwkv.preprocess.edges import EdgeOptions

    return EdgeOptions(min_high=1e6)
