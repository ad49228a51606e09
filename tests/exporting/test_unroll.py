"""The graph of some frames against the step's, frame after frame, in ONNX Runtime.

Every option that adds a state, or a way between frames, is here; the others change what happens
inside a frame, which both graphs share. VIDEORWKV_EVERY_OPTION=1 tries all of test_step.py.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import videorwkv.exporting.graph as graphs
from tests.exporting.test_step import KEPT, OPTIONS, PATCHES, SIZE, model
from videorwkv.exporting.step import RecurrentStep
from videorwkv.exporting.unroll import unroll

FRAMES = 3
PRODUCTS = ("MatMul", "Gemm", "Conv")
# Options, patches that a tube mask keeps, whether the state is float16.
SOME: list[tuple[dict[str, Any], int | None, bool]] = [
    ({"cell": "none", "spatial_shift": "q_shift"}, KEPT, False),
    ({"memory_clock": "change", "readout": "cls", "stem_picture": False}, KEPT, True),
    ({"cell": "convlstm", "stem_flow": True, "readout": "cells"}, None, False),
    ({"stem": "lite0", "stem_picture": False, "position": "learned"}, None, False),
    ({"past": "below", "depth": 3}, KEPT, True),
]
if os.environ.get("VIDEORWKV_EVERY_OPTION"):
    SOME += [(changes, kept, False) for changes in OPTIONS for kept in (None, KEPT)
             if kept is None or changes.get("cell") != "convlstm"]  # fmt: skip


def session(proto: Any) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(proto.SerializeToString())


def check(changes: dict[str, Any], kept: int | None = None, **options: Any) -> Any:
    """Two calls of the clip's graph against six of the step's, two streams; gives the former."""
    pytest.importorskip("onnxscript")
    step = RecurrentStep(model(**changes), height=SIZE, width=SIZE, kept=kept, **options).eval()
    proto = graphs.to_onnx(step)
    clip = unroll(proto, FRAMES)
    one, some = session(proto), session(clip)
    rng = np.random.default_rng(0)
    keep_BK = np.stack([np.sort(rng.permutation(PATCHES)[:KEPT]) for _ in range(2)])
    state: dict[str, NDArray[Any]] = {
        f"state.{port.name}": np.zeros((2, *port.shape), port.dtype) for port in step.state_ports
    }
    states = [state, state]
    for _ in range(2):
        pixels = {
            port.name: rng.integers(0, 256, (2, FRAMES, *port.shape)).astype(np.uint8)
            for port in step.frame_ports
            if port.name != "keep"
        }
        pixels["frame"][:, 1, :16] = pixels["frame"][:, 0, :16]  # something stands still
        fixed = {} if kept is None else {"keep": keep_BK}
        expected = []
        for t in range(FRAMES):
            now = {name: x[:, t] for name, x in pixels.items()}
            logits_BK, *after = one.run(None, {**now, **fixed, **states[0]})
            states[0] = dict(zip(state, after, strict=True))
            expected.append(logits_BK)
        logits_BTK, *after = some.run(None, {**pixels, **fixed, **states[1]})
        states[1] = dict(zip(state, after, strict=True))
        near = {"rtol": 0, "atol": 4e-3 if options.get("half_state") else 2e-5}
        np.testing.assert_allclose(logits_BTK, np.stack(expected, 1), **near)
        for name, wanted in states[0].items():
            assert states[1][name].dtype == wanted.dtype
            np.testing.assert_allclose(states[1][name], wanted, **near)
    return proto, clip


@pytest.mark.parametrize(("changes", "kept", "half_state"), SOME)
def test_equals_the_step_frame_after_frame(
    changes: dict[str, Any], kept: int | None, half_state: bool
) -> None:
    proto, clip = check({"depth": 1, **changes}, kept, half_state=half_state)
    if changes.get("cell") == "none":  # no frame waits for another
        kinds = [Counter(node.op_type for node in x.graph.node) for x in (proto, clip)]
        assert [kinds[1][name] for name in PRODUCTS] == [kinds[0][name] for name in PRODUCTS]


def test_a_layer_that_asks_the_one_below_runs_at_once() -> None:
    proto, clip = check({"past": "below"})
    before, after = (Counter(node.op_type for node in x.graph.node) for x in (proto, clip))
    assert [after[name] for name in PRODUCTS] == [before[name] for name in PRODUCTS]


def test_only_what_waits_is_repeated() -> None:
    proto, clip = check({}, half_state=True)
    before, after = (Counter(node.op_type for node in x.graph.node) for x in (proto, clip))
    depth = 2
    # Stems, and what leads to keys, values and forget gates, once for all frames.
    assert after["Conv"] == before["Conv"]
    # R, G, output, three of the mixing and of the scan three: before, after and the values.
    assert after["MatMul"] == before["MatMul"] + depth * 9 * (FRAMES - 1)
    # A state of float16 is cast where it goes in and where it comes out.
    assert after["Cast"] == before["Cast"]
    assert before["Split"] == 0
    # Left as it was.
    assert proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value == SIZE
