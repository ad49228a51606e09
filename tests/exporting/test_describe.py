from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import videorwkv
from videorwkv.exporting.frames import generated
from videorwkv.inference.recogniser import load_run


def described(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.with_name(f"{file.name}.json").read_text("utf-8"))
    return found


def test_the_json_says_what_the_file_is(run: Path, file: Path) -> None:
    about, trained = described(file), load_run(run)
    assert about["file"] == file.name
    assert about["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert about["bytes"] == file.stat().st_size
    assert about["labels"] == list(trained.labels)
    config = trained.recipe.model
    assert about["frame"]["height"] == about["frame"]["width"] == config.image_size
    assert about["frame"]["fit"] == config.frame_fit
    assert about["edges"]["method"] == "canny"
    assert about["edges"]["options"]["min_high"] == config.edge_options.min_high
    # Three frames, spread over clips of three seconds, as `stream` takes them.
    assert about["stream"]["fps"] == 1.0
    assert about["stream"]["reset_every"] is None
    assert about["stream"]["threshold"] == 0.5
    assert [one["streams"] for one in about["verification"]] == [1, 2]
    # What tells nothing about how to run it stays with the run: a site shows this file to anybody.
    assert "data" not in about


def test_the_json_alone_is_enough_to_run_it(run: Path, onnx_file: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    about = described(onnx_file)
    session = runtime.InferenceSession(onnx_file.read_bytes())
    kinds = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}
    for ports, named in ((session.get_inputs(), "inputs"), (session.get_outputs(), "outputs")):
        assert [(port.name, kinds[port.type]) for port in ports] == [
            (port["name"], port["dtype"]) for port in about[named]
        ]
        assert [port.shape[1:] for port in ports] == [port["shape"][1:] for port in about[named]]
    ports = {port["name"]: port for port in about["inputs"]}
    state = {
        one["input"]: np.zeros([2, *ports[one["input"]]["shape"][1:]], ports[one["input"]]["dtype"])
        for one in about["state"]
    }
    model = load_run(run).model()
    inputs = generated(model.config, streams=2, num_frames=4, seed=5)
    with torch.inference_mode():
        wanted_BTK, _ = model.scan(inputs)
    for t in range(4):
        frame = {
            "frame": inputs.frames_BTHWC[:, t].numpy(),
            "edges": inputs.edges_BTHW[:, t].numpy(),
        }
        outputs = dict(
            zip([port["name"] for port in about["outputs"]], session.run(None, frame | state),
                strict=True)
        )  # fmt: skip
        np.testing.assert_allclose(outputs["logits"], wanted_BTK[:, t], atol=1e-5)
        state = {one["input"]: outputs[one["output"]] for one in about["state"]}


def test_a_cell_that_cannot_forget_says_when_to_begin_anew(tmp_path: Path, need: Any) -> None:
    need("onnx")
    run = tiny.trained(tmp_path / "run", steps=1, model={"cell": "lstm"})
    about = described(videorwkv.export(run, batch_size=3).path)
    assert about["stream"]["reset_every"] == 3.0  # a training clip's length
    assert {port["shape"][0] for port in about["inputs"]} == {3}
