from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from videorwkv.export import graph
from videorwkv.export.step import RecurrentStep


@pytest.fixture(autouse=True, scope="session")
def _each_graph_once() -> Iterator[None]:
    """PyTorch takes seconds to write a graph, and most tests want the same one."""
    made: dict[str, bytes] = {}
    to_onnx = graph.to_onnx

    def remembered(step: RecurrentStep) -> Any:
        digest = hashlib.sha256(repr((step, step.state_ports)).encode())
        for _, value in (*step.named_parameters(), *step.named_buffers()):
            digest.update(value.detach().numpy().tobytes())
        key = digest.hexdigest()
        if key not in made:
            made[key] = to_onnx(step).SerializeToString()
        import onnx

        return onnx.load_from_string(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "to_onnx", remembered)
        yield
