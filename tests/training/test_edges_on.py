"""Edges of training clips that are made where the model is: the same run, to the bit; a quarter
of its clips have an erased part."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError


@pytest.mark.parametrize("edges", ["canny", "sobel"])
def test_the_same_run_wherever_edges_are_made(tmp_path, edges):
    weights, signs = [], []
    for where in ("cpu", "device"):
        run = tiny.trained(tmp_path / where, model={"edges": edges}, edges_on=where)
        weights.append(load_file(run / "last.safetensors"))
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        signs.append([line["edges_empty"] for line in lines if "edges_empty" in line])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())
    assert signs[0] == signs[1] != []


def test_the_same_with_negatives(tmp_path):
    augmentation = Augmentation(negatives=0.3)
    weights = [
        load_file(
            tiny.trained(tmp_path / where, augmentation=augmentation, edges_on=where)
            / "last.safetensors"
        )
        for where in ("cpu", "device")
    ]
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())


def test_a_gpu_makes_them_where_it_can():
    recipe = tiny.recipe()
    assert recipe.makes_edges_on("cuda")
    assert not recipe.makes_edges_on("cpu")
    assert not replace(recipe, edges_on="cpu").makes_edges_on("cuda")
    # Apple's GPUs have no float64.
    assert not replace(recipe, edges_on="device").makes_edges_on("mps")
    none = replace(recipe, model=replace(recipe.model, edges="scattered"))
    assert not none.makes_edges_on("cuda")
    with pytest.raises(ConfigError, match=r"got model.edges='scattered': choose edges_on='cpu'"):
        replace(none, edges_on="device")
