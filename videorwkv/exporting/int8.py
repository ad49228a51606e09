"""Products and convolutions in 8 bits: ONNX Runtime's static quantisation (QDQ).

Weights are signed and scaled per output channel, activations unsigned and scaled per tensor, by
the range that they take on the calibration frames. Everything else, the scan and the recurrent
state too, stays float32. OpenVINO reads the same graph.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from videorwkv.utils.optional import load, quiet

if TYPE_CHECKING:
    import onnx

Feeds = dict[str, NDArray[Any]]


def quantise(float32: Path, feeds: Iterable[Feeds]) -> onnx.ModelProto:
    """The model in 8 bits.

    Args:
        float32: the file to quantise.
        feeds: all inputs of one frame each, the state of a stream under way included.

    Raises:
        UsageError: onnxruntime is not installed.
    """
    onnx = load("onnx", "export --precision int8")
    tools = load("onnxruntime.quantization", "export --precision int8")
    shapes = load("onnxruntime.quantization.shape_inference", "export --precision int8")

    with tempfile.TemporaryDirectory() as folder, quiet(), _silent():
        prepared, out = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        shapes.quant_pre_process(str(float32), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        constants = {weight.name for weight in graph.initializer}
        nodes = [
            node.name
            for node in graph.node
            if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants
        ]
        tools.quantize_static(
            str(prepared),
            str(out),
            _Reader(iter(feeds)),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            nodes_to_quantize=nodes,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
        return onnx.load(out)


class _Reader:
    """The quantiser's own protocol of an iterator."""

    def __init__(self, feeds: Iterator[Feeds]) -> None:
        self.feeds = feeds

    def get_next(self) -> Feeds | None:
        return next(self.feeds, None)

    def __iter__(self) -> Iterator[Feeds]:
        return self.feeds


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The quantiser prints and logs to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
