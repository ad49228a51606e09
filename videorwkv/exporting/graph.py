"""RecurrentStep -> ONNX graph; weights stored in half precision or 8 bits; metadata in the file.

OpenVINO's form is made of the same ONNX graph, so there is one graph to understand. ExecuTorch
takes the step itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.exporting.step import RecurrentStep
from videorwkv.inference.engines import (
    BIN_DIGEST,
    METADATA_KEY,
    NEXT,
    STATE,
    beside_path,
    openvino_core,
)
from videorwkv.utils.optional import load, quiet

if TYPE_CHECKING:
    import onnx
    import openvino

# The newest that both runtimes have known for a year.
OPSET = 20
BATCH = "batch"
Feeds = dict[str, NDArray[Any]]


def to_onnx(step: RecurrentStep) -> onnx.ModelProto:
    """The step, in evaluation mode, as an ONNX model for any number of streams.

    Raises:
        UsageError: onnx or onnxscript is not installed.
    """
    load("onnx", "export")
    load("onnxscript", "export")
    ports = (*step.frame_ports, *step.state_ports)
    names = [port.name for port in step.state_ports]
    # Two streams, because torch.export takes one for a constant.
    example = tuple(torch.zeros((2, *p.shape), dtype=getattr(torch, p.dtype)) for p in ports)
    batch = torch.export.Dim(BATCH, min=1)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            step,
            example,
            dynamo=True,
            input_names=[*(p.name for p in step.frame_ports), *(STATE + name for name in names)],
            output_names=["logits", *(NEXT + name for name in names)],
            dynamic_shapes={"inputs": tuple({0: batch} for _ in ports)},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    # Source lines of every node: half of a small file.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return model


def fix_batch(model: onnx.ModelProto, batch_size: int) -> onnx.ModelProto:
    """Say how many streams there are, in place, for devices that want fixed shapes."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch_size
    # What was inferred for any number.
    del model.graph.value_info[:]
    return model


def pad_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give convolutions a multiple of 4 input channels, in place, with zeros for those that miss.

    ONNX Runtime's WebGPU (1.30) computes something else for 6 or 9 of them. Two pictures of three
    channels, the frame and its change, are 6.
    """
    onnx = load("onnx", "export")
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    nodes = []
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        missing = 0 if weight is None or weight.dims[1] in (1, 3) else -weight.dims[1] % 4
        if weight is not None and missing:
            values = onnx.numpy_helper.to_array(weight)
            wide = np.pad(values, [(0, 0), (0, missing), (0, 0), (0, 0)])
            name, source = f"{node.output[0]}.padded", node.input[0]
            weight.CopyFrom(onnx.numpy_helper.from_array(wide, weight.name))
            # Channels alone, before and after: ONNX takes all the fronts and then all the ends.
            ends = np.array([0, 0, 0, 0, 0, missing, 0, 0])
            graph.initializer.append(onnx.numpy_helper.from_array(ends, f"{name}.ends"))
            nodes.append(onnx.helper.make_node("Pad", [source, f"{name}.ends"], [name], name=name))
            node.input[0] = name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def halve(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Store the weights of matrix multiplications and convolutions in `precision`, in place.

    They are widened to float32 in the graph, which runtimes do once, when they load it. The scan's
    tables stay: powers of a decay reach beyond float16.
    """
    onnx = load("onnx", "export")
    kind = getattr(onnx.TensorProto, precision.upper())
    half = getattr(torch, precision)
    readers = {
        node.input[1]
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv") and len(node.input) > 1
    }
    casts = []
    for weight in model.graph.initializer:
        if weight.name not in readers or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        values = torch.from_numpy(onnx.numpy_helper.to_array(weight).copy()).to(half)
        name = weight.name
        weight.CopyFrom(
            onnx.TensorProto(
                name=f"{name}.{precision}",
                data_type=kind,
                dims=values.shape,
                raw_data=values.view(torch.int16).numpy().tobytes(),
            )
        )
        casts.append(
            onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def quantise(float32: Path, feeds: Iterable[Feeds]) -> onnx.ModelProto:
    """Matrix multiplications and convolutions in 8 bits: ONNX Runtime's static quantisation (QDQ).

    Weights are signed and scaled per output channel, activations unsigned and scaled per tensor, by
    the range that they take on the calibration frames. Everything else, the scan and the recurrent
    state too, stays float32. OpenVINO reads the same graph.

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
        float_graph = onnx.load(prepared).graph
        constants = {weight.name for weight in float_graph.initializer}
        nodes = [
            node.name
            for node in float_graph.node
            if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants
        ]
        tools.quantize_static(
            str(prepared),
            str(out),
            _CalibrationReader(iter(feeds)),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            nodes_to_quantize=nodes,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
        return onnx.load(out)


class _CalibrationReader:
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


def save_onnx(model: onnx.ModelProto, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write one .onnx file that carries its metadata."""
    onnx = load("onnx", "export")
    text = json.dumps(metadata, ensure_ascii=False)
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    path.write_bytes(model.SerializeToString())


def to_openvino(model: onnx.ModelProto) -> openvino.Model:
    """The same graph for OpenVINO, weights as they are."""
    load("openvino", "export --to openvino")
    return openvino_core().read_model(model.SerializeToString())


def to_executorch(step: RecurrentStep, batch_size: int) -> bytes:
    """The step, in evaluation mode, as an ExecuTorch program for so many streams, its convolutions
    and matrix multiplications handed to XNNPACK.

    Raises:
        UsageError: executorch is not installed.
    """
    exir = load("executorch.exir", "export --to executorch")
    xnnpack = load(
        "executorch.backends.xnnpack.partition.xnnpack_partitioner", "export --to executorch"
    )
    ports = (*step.frame_ports, *step.state_ports)
    example = tuple(
        torch.zeros((batch_size, *p.shape), dtype=getattr(torch, p.dtype)) for p in ports
    )
    with quiet(), torch.no_grad():
        program = torch.export.export(step, example, strict=False)
        edge = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        content: bytes = edge.to_executorch().buffer
    return content


def save_executorch(content: bytes, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write path.pte and, beside it, a JSON with its metadata."""
    path.write_bytes(content)
    beside = {"sha256": hashlib.sha256(content).hexdigest(), "metadata": dict(metadata)}
    beside_path(path).write_text(json.dumps(beside, ensure_ascii=False), encoding="utf-8")


def save_openvino(model: openvino.Model, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write path.xml, which carries the metadata, and path.bin, the weights.

    Raises:
        OSError: OpenVINO can't write them.
    """
    openvino = load("openvino", "export --to openvino")

    def save(text: str) -> None:
        model.set_rt_info(text, [METADATA_KEY])
        try:
            openvino.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(f"OpenVINO says {' '.join(str(error).split())!r}") from error

    save("")  # for the digest of the weights
    digest = hashlib.sha256(path.with_suffix(".bin").read_bytes()).hexdigest()
    save(json.dumps({**metadata, BIN_DIGEST: digest}, ensure_ascii=False))
