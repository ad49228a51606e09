from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

import videorwkv
from videorwkv.exporting import graph
from videorwkv.exporting.step import RecurrentStep

LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip a test where a target's libraries are not installed."""

    def skip(*targets: str) -> None:
        for name in ("onnx", "onnxscript", *(LIBRARIES[target] for target in targets)):
            extra = "openvino" if name == "openvino" else "onnx"
            reason = f"{name} is absent: pip install 'videorwkv[{extra}]'"
            pytest.importorskip(name, reason=reason)

    return skip


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def onnx_file(run: Path, need: Callable[..., None]) -> Path:
    need("onnx")
    return videorwkv.export(run, to="onnx").path


@pytest.fixture(scope="session")
def xml_file(run: Path, need: Callable[..., None]) -> Path:
    need("openvino")
    return videorwkv.export(run, to="openvino").path


@pytest.fixture(params=LIBRARIES)
def file(request: pytest.FixtureRequest) -> Path:
    name = "onnx_file" if request.param == "onnx" else "xml_file"
    path: Path = request.getfixturevalue(name)
    return path


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
