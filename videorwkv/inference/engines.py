"""ONNX Runtime, OpenVINO and ExecuTorch behind one signature: arrays by name, in and out."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.utils.optional import load

# What an exported file says of itself stands under this key of its metadata.
METADATA_KEY = "videorwkv"
# In the metadata of an .xml: the hash of its .bin, as the two are copied apart.
BIN_DIGEST = "bin_sha256"
# The graph's inputs of a frame keep their names; a state's are state.NAME in and next.NAME out.
STATE, NEXT = "state.", "next."
Arrays = dict[str, NDArray[Any]]

# Target -> what its files are called.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "executorch": ".pte"}
# Kept for states to come: enough for one of each of several streams, few enough to be forgotten.
ROOMS = 16


@dataclass(frozen=True)
class Port:
    """An input of the graph; what is fed back is the output of the same name.

    Args:
        name: such as `frame` or `hidden.0`.
        shape: without the batch, which comes first.
        dtype: NumPy's name: float32, float16, int64 or uint8.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class Engine(Protocol):
    """A runtime with a file open."""

    metadata: str | None
    precision: str

    def run(self, feeds: Arrays) -> Arrays:
        """All inputs by name -> all outputs by name, in arrays of their own."""
        ...


def open_engine(path: Path, threads: int) -> Engine:
    """The runtime that a file's name asks for.

    Raises:
        UsageError: no such file, or its runtime is not installed.
        CheckpointError: the runtime can't read it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES.values():
        allowed = " or ".join(SUFFIXES.values())
        raise UsageError(f"{path} is no exported file: its name must end in {allowed}.")
    if not path.is_file():
        raise UsageError(f"No file {path}. `videorwkv export RUN --to onnx` writes one.")
    if suffix == SUFFIXES["executorch"]:
        return _ExecuTorchEngine(path)
    engine = _OnnxEngine if suffix == SUFFIXES["onnx"] else _OpenVinoEngine
    return engine(path, threads)


class _OnnxEngine:
    """ONNX Runtime; matrix multiplications in the precision that the file names."""

    precision = ""

    def __init__(self, path: Path, threads: int) -> None:
        runtime = load("onnxruntime", f"running {path}")
        errors = load("onnxruntime.capi.onnxruntime_pybind11_state", f"running {path}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except (
            errors.Fail,
            errors.InvalidArgument,
            errors.InvalidGraph,
            errors.InvalidProtobuf,
        ) as error:
            raise CheckpointError(f"{path} is not a readable ONNX file: {error}.") from error
        self.metadata = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        return dict(zip(self.names, self.session.run(None, feeds), strict=True))


@functools.cache
def openvino_core() -> Any:
    """The one core of this process, which is never taken down.

    A core that has compiled something takes over the stack on which signals are handled. Where two
    of them go in the order in which they came, that stack is one that has been freed, and the next
    signal, such as the end of a child process, ends this process (SIGSEGV, OpenVINO 2026.4).
    """
    return load("openvino", "running it").Core()


class _OpenVinoEngine:
    """OpenVINO; compiled at the first frame for its number of streams."""

    def __init__(self, path: Path, threads: int) -> None:
        openvino = load("openvino", f"running {path}")
        self.openvino = openvino
        self.core = openvino_core()
        try:
            self.file = self.core.read_model(path)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} is not a readable OpenVINO file, or its .bin is missing or another's. "
                "Copy both files, or export the run again."
            ) from error
        self.metadata: str | None = None
        if self.file.has_rt_info([METADATA_KEY]):
            self.metadata = self.file.get_rt_info([METADATA_KEY]).astype(str)
        self.threads = threads
        # Left unsaid, OpenVINO takes bfloat16 wherever the CPU has it.
        self.precision = "f32"
        self.requests: dict[int, Any] = {}
        self.rooms: dict[int, list[_Room]] = {}

    def run(self, feeds: Arrays) -> Arrays:
        streams = len(feeds["frame"])
        if streams not in self.requests:
            self.requests[streams] = self._compile(streams).create_infer_request()
        request = self.requests[streams]
        room = self._room(streams)
        for name, tensor in room.tensors.items():
            request.set_tensor(name, tensor)
        request.infer(feeds, share_inputs=True, share_outputs=True)
        # Whoever collects logits must not hold the state that lies in the same room.
        return {
            name: array if name.startswith(NEXT) else array.copy()
            for name, array in room.arrays.items()
        }

    def _room(self, streams: int) -> _Room:
        rooms = self.rooms.setdefault(streams, [])
        for room in rooms:
            if room.is_free():
                return room
        # Those left out stay with whoever holds their arrays, and go with the last of them.
        rooms[:] = [*rooms[1 - ROOMS :], _Room(self.openvino, self.file.outputs, streams)]
        return rooms[-1]

    def _compile(self, streams: int) -> Any:
        file = self.file.clone()
        # With the number left open, a frame takes a third longer.
        file.reshape({x.any_name: [streams, *list(x.partial_shape)[1:]] for x in file.inputs})
        options = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
        }
        return self.core.compile_model(file, "CPU", options)


class _ExecuTorchEngine:
    """ExecuTorch, whose files have no room for metadata: it stands in the JSON beside the file."""

    precision = ""

    def __init__(self, path: Path) -> None:
        runtime = load("executorch.runtime", f"running {path}")
        content = path.read_bytes()
        self.metadata: str | None = None
        try:
            beside = json.loads(beside_path(path).read_text(encoding="utf-8"))
            if beside["sha256"] != hashlib.sha256(content).hexdigest():
                raise ValueError("it is another file's")
            self.metadata = json.dumps(beside["metadata"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"{beside_path(path)}, which says how {path.name} is run, can't be used ({error}). "
                "Copy both files, or export the run again."
            ) from error
        try:
            # The program lies in these bytes for as long as it runs.
            self.program = runtime.Runtime.get().load_program(content)
            self.method = self.program.load_method("forward")
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not a readable ExecuTorch file: {error}.") from error

    def run(self, feeds: Arrays) -> Arrays:
        frame = [name for name in ("frame", "edges", "keep") if name in feeds]
        state = [name for name in feeds if name.startswith(STATE)]
        inputs = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in frame + state]
        names = ["logits", *(NEXT + name.removeprefix(STATE) for name in state)]
        # Its memory is used again at the next frame.
        outputs = [tensor.numpy().copy() for tensor in self.method.execute(inputs)]
        return dict(zip(names, outputs, strict=True))


def beside_path(file: Path) -> Path:
    """The JSON beside an exported file: `wave.onnx` -> `wave.onnx.json`."""
    return file.with_name(f"{file.name}.json")


class _Room:
    """Arrays that OpenVINO writes a frame's outputs to, so that nobody copies the state.

    A room is used again once nobody holds one of its arrays, or a view into it: new arrays at every
    frame would cost as much as copying, in page faults.
    """

    def __init__(self, openvino: Any, outputs: list[Any], streams: int) -> None:
        self.arrays: Arrays = {}
        self.tensors: dict[str, Any] = {}
        for output in outputs:
            shape = [streams, *(int(str(size)) for size in list(output.partial_shape)[1:])]
            self.arrays[output.any_name] = np.empty(shape, output.element_type.to_dtype())
        for name, array in self.arrays.items():
            self.tensors[name] = openvino.Tensor(array, shared_memory=True)
        del array  # it would count as a holder
        self.own = self._holders()

    def is_free(self) -> bool:
        return self._holders() == self.own

    def _holders(self) -> list[int]:
        return [sys.getrefcount(array) for array in self.arrays.values()]
