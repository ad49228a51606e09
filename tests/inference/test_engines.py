from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import videorwkv
from videorwkv.errors import CheckpointError, UsageError
from videorwkv.exporting import graph
from videorwkv.exporting.frames import generated
from videorwkv.inference.engines import ROOMS
from videorwkv.inference.recogniser import load_run


def test_state_is_a_value(file: Path) -> None:
    exported = videorwkv.open_exported(file)
    inputs = generated(exported.config, streams=2, num_frames=4)
    states = [exported.init_state(2)]
    outputs = []
    for t in range(4):
        found_BK, after = exported.step(inputs.at(t, t + 1), states[-1])
        outputs.append(found_BK)
        states.append(after)
    copies = [{name: array.copy() for name, array in s.arrays.items()} for s in states]
    # Going on from any of them gives what it gave then, and leaves the others alone.
    for t in (2, 0, 3, 1):
        again_BK, _ = exported.step(inputs.at(t, t + 1), states[t])
        torch.testing.assert_close(again_BK, outputs[t], rtol=0, atol=0)
    for state, copied in zip(states, copies, strict=True):
        for name, array in state.arrays.items():
            np.testing.assert_array_equal(array, copied[name])
    # One stream alone begins anew.
    frame = inputs.at(0, 1)
    after_reset_BK, _ = exported.step(frame, states[3].reset(1))
    torch.testing.assert_close(after_reset_BK[1], outputs[0][1], rtol=0, atol=1e-6)
    assert not torch.equal(after_reset_BK[0], outputs[0][0])


def test_openvino_uses_memory_again_only_when_nobody_holds_it(xml_file: Path) -> None:
    exported = videorwkv.open_exported(xml_file)
    inputs = generated(exported.config, streams=1, num_frames=1)
    state = exported.init_state(1)
    for _ in range(10):
        _, state = exported.step(inputs, state)
    engine: Any = exported.engine
    assert len(engine.rooms[1]) <= 3
    held = []
    for _ in range(ROOMS + 2):
        _, state = exported.step(inputs, state)
        held.append(state.arrays["state.memory.0"][0, :1])
    assert len({view.__array_interface__["data"][0] for view in held}) == ROOMS + 2
    assert len(engine.rooms[1]) == ROOMS


def test_openvino_logits_that_are_kept_hold_no_state(xml_file: Path) -> None:
    exported = videorwkv.open_exported(xml_file)
    inputs = generated(exported.config, streams=1, num_frames=1)
    state = exported.init_state(1)
    kept, places = [], set()
    for _ in range(8):
        logits_BK, state = exported.step(inputs, state)
        kept.append(logits_BK)
        places.add(state.arrays["state.memory.0"].__array_interface__["data"][0])
    assert len(places) <= 3
    assert len({logits_BK.data_ptr() for logits_BK in kept}) == 8


def test_files_that_are_none(tmp_path: Path, onnx_file: Path) -> None:
    with pytest.raises(UsageError, match="No file"):
        videorwkv.open_exported(tmp_path / "nothing.onnx")
    with pytest.raises(UsageError, match="must end in"):
        videorwkv.open_exported(tmp_path)
    broken = tmp_path / "broken.onnx"
    for content in (b"", b"no graph at all", onnx_file.read_bytes()[:5000]):
        broken.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a readable ONNX file"):
            videorwkv.open_exported(broken)
    foreign = tmp_path / "foreign.onnx"
    onnx = importlib.import_module("onnx")
    model = onnx.load(onnx_file)
    about = json.loads(model.metadata_props[0].value)
    onnx.helper.set_model_props(model, {})
    foreign.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="carries no metadata"):
        videorwkv.open_exported(foreign)
    onnx.helper.set_model_props(model, {graph.METADATA_KEY: json.dumps({**about, "format": 99})})
    foreign.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="format 99"):
        load_run(foreign)
    for text in ("not json", "[]", "{}"):
        onnx.helper.set_model_props(model, {graph.METADATA_KEY: text})
        foreign.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match="metadata can't be read"):
            load_run(foreign)


def test_a_file_of_another_version(tmp_path: Path, onnx_file: Path) -> None:
    onnx = importlib.import_module("onnx")
    model = onnx.load(onnx_file)
    about = json.loads(model.metadata_props[0].value)
    other = tmp_path / "other.onnx"
    recipe = about["recipe"]
    for changed in (
        {"recipe": {**recipe, "model": {**recipe["model"], "new_option": 1}}},
        {"recipe": {**recipe, "model": {**recipe["model"], "mixer": "newer"}}},
        {"frame_size": 32},
        {"state": None},
    ):
        onnx.helper.set_model_props(model, {graph.METADATA_KEY: json.dumps({**about, **changed})})
        other.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match=r"other\.onnx: .*Export the run again"):
            load_run(other)
    for changed, words in (
        ({"thresholds": [0.5]}, "thresholds: 1, for"),
        ({"thresholds": [2.0] * len(about["labels"])}, r"allowed: each in \[0, 1\]"),
        ({"thresholds": ["half"] * len(about["labels"])}, "allowed: a number"),
        ({"calibration": {"temperature": 0.0, "threshold": 0.5}}, "calibration.temperature"),
        ({"calibration": {"temperature": 1.0, "threshold": 5}}, "calibration.threshold"),
        ({"calibration": {"temperature": 1.0}}, "allowed: two numbers"),
    ):
        onnx.helper.set_model_props(model, {graph.METADATA_KEY: json.dumps({**about, **changed})})
        other.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match=words):
            load_run(other)
    for name in ("kept", "flips"):
        less = {key: value for key, value in about.items() if key != name}
        onnx.helper.set_model_props(model, {graph.METADATA_KEY: json.dumps(less)})
        other.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match=rf"written by videorwkv .*\b{name}\b"):
            load_run(other)


def test_openvino_file_without_its_weights(xml_file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.xml"
    alone.write_bytes(xml_file.read_bytes())
    with pytest.raises(CheckpointError, match=r"its \.bin is missing") as caught:
        videorwkv.open_exported(alone)
    # Nothing of OpenVINO's own sources.
    assert ".cpp" not in str(caught.value)
    assert str(caught.value).endswith("Copy both files, or export the run again.")


def test_openvino_file_with_the_weights_of_another(xml_file: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.xml"
    copied.write_bytes(xml_file.read_bytes())
    weights = bytearray(xml_file.with_suffix(".bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    copied.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"not the one that was written with copied\.xml"):
        videorwkv.open_exported(copied)


SIGNALS = """
import gc, os, signal, sys
from pathlib import Path
from videorwkv.inference.engines import open_engine
import numpy as np
engines = []
for _ in range(2):
    engine = open_engine(Path(sys.argv[1]), 1)
    ports = {x.any_name: list(x.partial_shape)[1:] for x in engine.file.inputs}
    kinds = {x.any_name: x.element_type.to_dtype() for x in engine.file.inputs}
    engine.run({n: np.zeros([1, *(d.get_length() for d in p)], kinds[n]) for n, p in ports.items()})
    engines.append(engine)
del engine
while engines:
    engines.pop(0)
    gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_a_signal_is_heard_after_engines_have_gone(xml_file: Path) -> None:
    """In the order in which they came: OpenVINO handed a freed stack to whoever handles signals."""
    done = subprocess.run([sys.executable, "-c", SIGNALS, str(xml_file)], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"heard\n"), done.stderr.decode()
