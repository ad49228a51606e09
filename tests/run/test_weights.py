from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.models import LCR, Inputs, LCRConfig, build_model
from videorwkv.run.run import load_weights, read_run, save_weights

CONFIG = LCRConfig(image_size=16, patch_size=8, width=16, head_width=8, depth=2, num_classes=3)


def model(seed: int = 0) -> LCR:
    torch.manual_seed(seed)
    return build_model(CONFIG).eval()


def test_round_trip(tmp_path: Path) -> None:
    one, other = model(0), model(1)
    one.stem.layers[1].running_mean.fill_(0.5)  # a statistic is a weight too
    inputs = Inputs(
        torch.randint(256, (1, 3, 16, 16, 3), dtype=torch.uint8),
        torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8),
    )
    with torch.inference_mode():
        wanted = one(inputs)
        assert not torch.equal(other(inputs), wanted)
        save_weights(one.state_dict(), tmp_path / "weights.safetensors")
        load_weights(other, tmp_path / "weights.safetensors")
        assert torch.equal(other(inputs), wanted)


def missing(weights: dict[str, Tensor]) -> None:
    del weights["head.bias"]


def unknown(weights: dict[str, Tensor]) -> None:
    weights["tail.bias"] = torch.zeros(1)


def reshaped(weights: dict[str, Tensor]) -> None:
    weights["head.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, "1 missing, such as 'head.bias'"),
        (unknown, "1 unknown, such as 'tail.bias'"),
        (reshaped, r"'head.bias' has shape \[7\], the model needs \[3\]"),
    ],
)
def test_weights_of_another_model(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    path = tmp_path / "weights.safetensors"
    weights = model(1).state_dict()
    change(weights)
    save_weights(weights, path)
    target = model(0)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(target, path)
    assert str(path) in str(caught.value)
    # Nothing is half loaded.
    before = model(0).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_no_file_and_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No weights at"):
        load_weights(model(), tmp_path / "gone.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"text" * 100)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_weights(model(), broken)


def test_a_run_that_is_not_there_is_looked_for_where_training_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="`videorwkv train DATA --out RUN` makes one"):
        read_run("waving")
    (tmp_path / "runs" / "wavings").mkdir(parents=True)
    (tmp_path / "runs" / "wavings" / "config.json").touch()
    with pytest.raises(UsageError, match=r"No run at .waving.\..*wavings"):
        read_run("waving")
