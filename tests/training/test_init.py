"""Training that starts from weights: --init, frozen parameters, rates by layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import build_model
from videorwkv.run.recipes import finetune, linear_probe
from videorwkv.run.run import read_run
from videorwkv.training.freeze import freeze, train_mode
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.optim import make_optimizer, parameter_groups, set_rate


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "last.safetensors")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "old", seed=3)


def test_the_first_step_is_taken_from_the_weights(old: Path, tmp_path: Path) -> None:
    # So small a rate that nothing moves: what is saved is what was started from.
    recipe = tiny.recipe(steps=1, lr=1e-12, weight_decay=0.0, ema=0.5)
    train(recipe, tiny.manifest(), tmp_path / "new", init=f"{old}/last", quiet=True)
    before, after = weights(old), weights(tmp_path / "new")
    for name in (n for n in before if "running" not in n and "num_batches" not in n):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)


def test_a_run_notes_what_it_started_from(old: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    train(tiny.recipe(steps=1), tiny.manifest(), folder, init=old, quiet=True)
    noted = read_run(folder).init
    assert noted is not None
    assert noted["source"] == str(old)
    assert len(noted["sha256"]) == 64
    assert noted["tensors"][0] == noted["tensors"][1]
    assert "init" not in json.loads((old / "config.json").read_text())
    assert read_run(old).init is None


def test_a_resumed_run_does_not_start_from_the_weights_again(old: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(steps=4, eval_every=4, freeze=("stem",), layer_decay=0.5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, tiny.manifest(), whole, init=old, quiet=True)

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    train(recipe, tiny.manifest(), parts, init=old, quiet=True, on_step=stop)
    train(None, tiny.manifest(), parts, init=old, resume=True, quiet=True)
    for name, value in weights(whole).items():
        assert torch.equal(weights(parts)[name], value), name


def test_resuming_from_other_weights_is_refused(old: Path, tmp_path: Path) -> None:
    new, other = tmp_path / "new", tiny.trained(tmp_path / "other", steps=1)
    train(tiny.recipe(steps=1), tiny.manifest(), new, init=old, quiet=True)
    with pytest.raises(UsageError, match=r"started from those of .*old, not from .*other"):
        train(None, tiny.manifest(), new, init=other, resume=True, quiet=True)
    with pytest.raises(UsageError, match="started from random weights"):
        train(None, tiny.manifest(), other, init=old, resume=True, quiet=True)
    # The same weights by another name.
    (old / "../copy.safetensors").resolve().write_bytes((old / "best.safetensors").read_bytes())
    copied = old.parent / "copy.safetensors"
    train(None, tiny.manifest(), new, init=copied, resume=True, quiet=True)


def test_resume_points_to_init_where_it_refuses(tmp_path: Path) -> None:
    folder = tiny.trained(tmp_path / "run", steps=1)
    fewer = replace(tiny.manifest(), rows=tiny.manifest().rows[1:])
    for recipe, manifest in (
        (tiny.recipe(steps=2), tiny.manifest()),
        (tiny.recipe(steps=1, lr=0.5), tiny.manifest()),
        (None, fewer),
    ):
        with pytest.raises(UsageError, match=f"--init {folder} with another --out"):
            train(recipe, manifest, folder, resume=True, quiet=True)


def test_frozen_weights_and_statistics_stay(old: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    recipe = linear_probe(tiny.recipe(steps=3, eval_every=1))
    train(recipe, tiny.manifest(), folder, init=f"{old}/last", quiet=True)
    before, after = weights(old), weights(folder)
    changed = {
        name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert changed == {"head", "norm_head"}
    # Signs of failure are looked for in frozen layers, too.
    assert any(entry["kind"] == "signs" for entry in read_log(folder / "log.jsonl"))


def test_random_weights_are_not_frozen(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"freeze \(stem\) without weights.*random values \(stem\..*--init\."
    ):
        train(tiny.recipe(freeze=("stem",)), tiny.manifest(), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_patterns() -> None:
    model = build_model(tiny.recipe(model={"depth": 2}).model)
    names = {name for name, _ in model.named_parameters()}

    def frozen(*patterns: str) -> set[str]:
        model.requires_grad_(True)
        freeze(model, patterns)
        return {name for name, p in model.named_parameters() if not p.requires_grad}

    assert frozen() == set()
    assert frozen("stem") == {n for n in names if n.startswith("stem.")}
    assert frozen("layers.0") == {n for n in names if n.startswith("layers.0.")}
    assert frozen("*.norm_*") == {n for n in names if ".norm_" in n}
    assert frozen("*", "!head") == {n for n in names if not n.startswith("head.")}
    assert frozen("layers", "!layers.1", "layers.1.decay") == {
        n for n in names if n.startswith("layers.0.")
    } | {"layers.1.decay"}
    with pytest.raises(ConfigError, match=r"'stm' names no parameter.*Did you mean 'stem'\?"):
        frozen("stem", "stm")
    for wrong in (("*", "!haed"), ("*", "!head", "!cell")):
        with pytest.raises(ConfigError, match=r"'!\w+' names no parameter.*Its parts: stem"):
            frozen(*wrong)
    assert frozen("*", "!head", "!cells") == frozen("*", "!head")  # no model of this kind has it
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        frozen("*")


def test_only_frozen_norms_keep_their_statistics() -> None:
    model = nn.Sequential(
        nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False), nn.Dropout()
    )
    freeze(model, ["0"])
    train_mode(model.eval())
    assert [m.training for m in model] == [False, True, True, True]


def test_rates_by_layer() -> None:
    model = build_model(tiny.recipe(model={"depth": 2, "position": "learned"}).model)
    optimizer = make_optimizer(model, lr=1.0, weight_decay=0.3, betas=(0.9, 0.98), layer_decay=0.5)
    set_rate(optimizer, 8.0)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert {found[n] for n in found if n.startswith(("head", "norm_head"))} == {8.0}
    assert {found[n] for n in found if n.startswith("layers.1.")} == {4.0}
    assert {found[n] for n in found if n.startswith("layers.0.")} == {2.0}
    assert {found[n] for n in found if "stem" in n or n in ("position", "zero_conv.bias")} == {1.0}
    assert len(rates) == len(found)


def test_one_rate_is_two_groups_as_ever() -> None:
    model = build_model(tiny.recipe().model)
    assert [g["weight_decay"] for g in parameter_groups(model, 0.3)] == [0.3, 0.0]


def test_recipes_lay_themselves_over_others() -> None:
    parent = tiny.recipe(steps=77)
    for recipe in (finetune(parent), linear_probe(parent)):
        assert (recipe.steps, recipe.model, recipe.sampling) == (77, parent.model, parent.sampling)
    assert finetune().layer_decay < 1
    with pytest.raises(ConfigError, match=r"layer_decay \(0\.0\) must lie in \(0, 1\]"):
        tiny.recipe(layer_decay=0.0)
