from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import tiny_models
import torch
from mutants import flipped_bits
from safetensors.torch import load_file, save_file

from videorwkv.errors import CheckpointError
from videorwkv.models import build_model, list_models, model_config
from videorwkv.run.run import read_run
from videorwkv.run.tensors import fewest_weights, read_tensors, tensors_bytes


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_every_flipped_bit_of_weights_is_told(run: Path) -> None:
    path = run / "best.safetensors"
    content = path.read_bytes()
    whole = read_run(run).model().state_dict()
    told = 0
    for changed in flipped_bits(content, 60, seed=0):
        path.write_bytes(changed)
        try:
            found = read_run(run).model().state_dict()
        except CheckpointError:
            told += 1
            continue
        assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())
    assert told >= 50


def test_equal_weights_are_equal_files_that_anybody_reads(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3), "a": torch.zeros(()), "c": torch.ones(2, 2).bfloat16()}
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors_bytes(tensors))
    assert {tensors_bytes(tensors) for _ in range(8)} == {path.read_bytes()}
    found = load_file(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert read_tensors(path, tensors).keys() == tensors.keys()


@pytest.mark.parametrize(
    ("kind", "part"),
    [(torch.int64, "of type I64, the model needs float32"), (torch.bool, "of type BOOL")],
)
def test_weights_that_are_no_numbers_with_fractions(
    run: Path, kind: torch.dtype, part: str
) -> None:
    path = run / "best.safetensors"
    save_file({name: tensor.to(kind) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(CheckpointError, match=part):
        read_run(run).model()


def test_halved_weights_are_weights(run: Path) -> None:
    path = run / "best.safetensors"
    halved = {n: t.half() if t.is_floating_point() else t for n, t in load_file(path).items()}
    save_file(halved, path)
    assert read_run(run).model().head.weight.dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(run: Path, value: float) -> None:
    path = run / "best.safetensors"
    tensors = load_file(path)
    tensors["head.weight"][0, 0] = value
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"'head\.weight' holds NaN or infinity"):
        read_run(run).model()


def test_a_pipe_is_not_waited_for(run: Path) -> None:
    (run / "best.safetensors").unlink()
    os.mkfifo(run / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"best\.safetensors"):
        read_run(run / "best").model()


@pytest.mark.parametrize("name", list_models())
def test_fewest_weights_are_a_near_bound(name: str) -> None:
    config = model_config(name)
    held = sum(tensor.numel() for tensor in build_model(config).state_dict().values())
    assert fewest_weights(config) <= held < 8 * fewest_weights(config)


@pytest.mark.parametrize("name", tiny_models.VARIANTS)
def test_fewest_weights_of_variants(name: str) -> None:
    config = tiny_models.VARIANTS[name]
    held = sum(tensor.numel() for tensor in build_model(config).state_dict().values())
    assert fewest_weights(config) <= held
