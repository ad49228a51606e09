from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import videorwkv
from videorwkv.exporting.frames import generated
from videorwkv.models import create_model

Need = Callable[..., None]


def channels(file: Path) -> list[int]:
    """Input channels of all convolutions."""
    import onnx

    graph = onnx.load(file).graph
    sizes = {weight.name: list(weight.dims) for weight in graph.initializer}
    # Those of half precision are widened by an operation first.
    wide = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    names = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    return [sizes[wide.get(name, name)][1] for name in names]


@pytest.mark.parametrize("stem", ["conv", "patch"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_webgpu_is_given_no_six_channels(
    need: Need, tmp_path: Path, stem: str, precision: str
) -> None:
    need("onnx")
    torch.manual_seed(0)
    options: dict[str, Any] = {"depth": 1, "num_classes": 4, "image_size": 32, "stem": stem}
    model = create_model("lcr_nano", **options).eval()
    plain = videorwkv.export(model, tmp_path / "plain.onnx", precision=precision)
    padded = videorwkv.export(model, tmp_path / "padded.onnx", precision=precision, webgpu=True)
    assert 6 in channels(plain.path)
    assert not {6, 9} & set(channels(padded.path))
    inputs = generated(model.config, streams=2, num_frames=3)
    found = [videorwkv.open_exported(one.path).scan(inputs)[0] for one in (plain, padded)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


def test_other_convolutions_stay(need: Need, tmp_path: Path) -> None:
    need("onnx")
    model = create_model("lcr_pico", depth=1, num_classes=4, image_size=32).eval()
    sizes = [
        channels(videorwkv.export(model, tmp_path / f"{webgpu}.onnx", webgpu=webgpu).path)
        for webgpu in (False, True)
    ]
    assert sizes[0] == sizes[1]
