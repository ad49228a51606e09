"""Run a file that `videorwkv export` wrote: `open_exported("step.onnx")`.

    model = open_exported("step.onnx")
    state = model.init_state(batch_size=1)
    for frame in videorwkv.open_video("wave.mp4"):
        logits_BK, state = model.step(model.preprocess(frame), state)
    print(model.labels[logits_BK.argmax()])

It takes the place of a model in `predict` and `evaluate`: the same methods, no weights of PyTorch.
B streams, T frames, H height, W width, K classes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videorwkv.errors import UsageError
from videorwkv.inference.engines import NEXT, STATE, SUFFIXES, Arrays
from videorwkv.inference.exported_file import ExportedFile, open_clip, step_path
from videorwkv.models.masking import Masks, tube_mask
from videorwkv.preprocess.inputs import Inputs, check_inputs, preprocess
from videorwkv.run.run import Run
from videorwkv.video.base import Clip, Frame


@dataclass(frozen=True, eq=False)
class ExportedState:
    """All that the streams remember. A value: passed in, returned, stored nowhere.

    Args:
        arrays: by the names of the file's inputs, streams first.
    """

    arrays: Mapping[str, NDArray[Any]]

    def reset(self, stream: int) -> ExportedState:
        """The same state with one stream at its start again."""
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        for name, array in arrays.items():
            if name.startswith(STATE):
                array[stream] = 0
        return ExportedState(arrays)

    def select(self, streams: Sequence[int]) -> ExportedState:
        """The state of some of the streams, in that order; one may come twice."""
        return ExportedState({name: array[list(streams)] for name, array in self.arrays.items()})

    def put(self, streams: Sequence[int], part: ExportedState) -> ExportedState:
        """The same state with those of `part` in the place of some streams, each named once."""
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        for name, array in arrays.items():
            array[list(streams)] = part.arrays[name]
        return ExportedState(arrays)

    def to_dict(self) -> dict[str, Tensor]:
        """Its arrays by name, as tensors: all that `from_dict` needs to make it again."""
        return {name: torch.from_numpy(array.copy()) for name, array in self.arrays.items()}

    def from_dict(self, tensors: Mapping[str, Tensor]) -> ExportedState:
        """The state that `to_dict` of one like this one gave; this one comes from `init_state` of
        the same file.

        Raises:
            UsageError: tensors of a state of another kind, or values that are not finite.
        """
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        kinds = [
            {name: (array.shape, array.dtype) for name, array in named.items()}
            for named in (self.arrays, arrays)
        ]
        if kinds[0] != kinds[1]:
            raise UsageError(
                "ExportedState.from_dict: names, shapes or types are not those of the file's "
                "state. A state fits the file that it was made with."
            )
        bad = [
            name for name, array in arrays.items()
            if array.dtype.kind == "f" and not np.isfinite(array).all()
        ]  # fmt: skip
        if bad:
            raise UsageError(f"ExportedState.from_dict: {bad[0]!r} holds NaN or infinity.")
        return ExportedState(arrays)


class ExportedModel(nn.Module):
    """A model whose step runs in ONNX Runtime, OpenVINO or ExecuTorch, on the CPU.

    Args:
        path: a `.onnx` file, an `.xml` file and its `.bin`, or a `.pte` file and its JSON.
        threads: for the runtime's matrix multiplications; None: as many as PyTorch takes.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.threads = threads or torch.get_num_threads()
        self.file = file = ExportedFile(self.path, self.threads)
        if file.frames != 1:
            raise UsageError(
                f"{self.path} takes {file.frames} frames at a time, for clips, and belongs to a "
                f"file of one: give {step_path(self.path).name}, which uses it by itself."
            )
        self.engine, self.metadata, self.precision = file.engine, file.metadata, file.precision
        self.description = file.description
        self.labels, self.recipe = self.description.labels, self.description.recipe
        self.config, self.sampling = self.recipe.model, self.recipe.sampling
        self.height, self.width = file.height, file.width
        self.batch_size, self.kept, self.state_ports = file.batch_size, file.kept, file.state_ports
        # What was chosen for the run, each None where nothing was.
        self.calibration, self.thresholds_K = file.calibration, file.thresholds_K
        self.timeline = file.timeline

    @functools.cached_property
    def clip(self) -> ExportedFile | None:
        """The graph of several frames beside this file, opened when it is first asked for; None:
        there is none (`videorwkv export --frames`).

        Raises:
            CheckpointError: it belongs to another file.
        """
        return open_clip(self.file, self.threads)

    def preprocess(self, clip: Clip | Frame | NDArray[np.uint8] | Tensor) -> Inputs:
        """Frames as decoded -> a batch of one at the file's size, with edge maps.

        Args:
            clip: a Clip, a Frame, or RGB uint8 of [T, H, W, 3] or [H, W, 3], as an array or a
                tensor.

        Raises:
            UsageError: anything else, or no frame.
        """
        config = self.config
        return preprocess(
            clip,
            size=config.image_size,
            edges=config.edges,
            edge_options=config.edge_options,
            frame_fit=config.frame_fit,
        )

    def init_state(
        self,
        batch_size: int = 1,
        *,
        image_size: int | tuple[int, int] | None = None,
        tube_mask_ratio: float | None = None,
        generator: torch.Generator | None = None,
    ) -> ExportedState:
        """The state before the first frame; the arguments of `LCR.init_state`.

        Args:
            batch_size: streams side by side.
            image_size: of the frames to come; it must be the file's.
            tube_mask_ratio: fraction of the patches to drop; it must be the file's.
            generator: source of the mask's randomness.

        Raises:
            UsageError: the file was exported for another number, size or mask ratio.
        """
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if size not in (None, (self.height, self.width)):
            raise UsageError(self._fixed("frames", f"{self.height}x{self.width}", size))
        if self.batch_size not in (None, batch_size):
            raise UsageError(self._fixed("batch_size", self.batch_size, batch_size))
        own_ratio = self.metadata["tube_mask_ratio"]
        if tube_mask_ratio not in (None, own_ratio):
            raise UsageError(self._fixed("tube_mask_ratio", own_ratio, tube_mask_ratio))
        arrays = {
            STATE + port.name: np.zeros((batch_size, *port.shape), port.dtype)
            for port in self.state_ports
        }
        if self.kept is not None:
            p = self.config.patch_size
            patches = (self.height // p) * (self.width // p)
            keep_BK = tube_mask(patches, own_ratio, batch_size, generator=generator)
            arrays["keep"] = keep_BK.numpy()
        return ExportedState(arrays)

    def resolve_masks(self, masks: Masks) -> Masks:
        """The masks that the file applies where `masks` are asked for: those built into it.

        Raises:
            UsageError: the file was made for something else.
        """
        own_ratio: float = self.metadata["tube_mask_ratio"]
        if masks.motion_mask_ratio:
            raise UsageError(
                f"{self.path}: motion_mask_ratio is {masks.motion_mask_ratio}, but an exported "
                "file can't choose patches frame by frame. Give the run's folder, or export with "
                "--tube-mask."
            )
        if masks.tube_mask_ratio not in (0.0, own_ratio):
            raise UsageError(
                f"{self.path}: tube_mask_ratio is {masks.tube_mask_ratio}, but the file was "
                f"exported with {own_ratio}, which is built in. Leave it out, or export again: "
                f"videorwkv export RUN --tube-mask {masks.tube_mask_ratio}"
            )
        return Masks(tube_mask_ratio=own_ratio)

    def batch_for(self, streams: int) -> int:
        """How many streams a step takes at once where there are so many: as many, the file's fixed
        number, or the next power of two, as OpenVINO compiles for each number anew.

        Raises:
            UsageError: the file was exported for fewer.
        """
        if self.batch_size is not None:
            if streams > self.batch_size:
                raise UsageError(self._fixed("batch_size", self.batch_size, streams))
            return self.batch_size
        if self.path.suffix.lower() == SUFFIXES["openvino"]:
            return 1 << (streams - 1).bit_length()
        return streams

    def step(self, inputs: Inputs, state: ExportedState) -> tuple[Tensor, ExportedState]:
        """One frame (inputs with T = 1): logits, float32 [B, K], and the next state.

        Raises:
            UsageError: more than one frame, or frames that the file was not exported for.
        """
        return self._run(self.file, self.feeds(inputs, state))

    def _run(self, file: ExportedFile, feeds: Arrays) -> tuple[Tensor, ExportedState]:
        outputs = file.engine.run(feeds)
        following = {STATE + port.name: outputs[NEXT + port.name] for port in self.state_ports}
        if "keep" in feeds:
            following["keep"] = feeds["keep"]
        return torch.from_numpy(outputs["logits"]), ExportedState(following)

    def feeds(self, inputs: Inputs, state: ExportedState) -> Arrays:
        """What the file takes for one frame, by the names of its inputs; errors as `step`."""
        self._check(inputs)
        if inputs.frames_BTHWC.shape[1] != 1:
            raise UsageError(
                f"step takes one frame; got {inputs.frames_BTHWC.shape[1]}: use ExportedModel.scan."
            )
        return {**state.arrays, **self.file.pixels(inputs)}

    def _check(self, inputs: Inputs) -> None:
        check_inputs(inputs, self.config.patch_size)
        size = list(inputs.frames_BTHWC.shape[2:4])
        if size != [self.height, self.width]:
            raise UsageError(self._fixed("frames", f"{self.height}x{self.width}", size))

    def scan(
        self, inputs: Inputs, state: ExportedState | None = None
    ) -> tuple[Tensor, ExportedState]:
        """Many frames: logits at every frame, float32 [B, T, K], and the state after the last.

        Where a graph of several frames lies beside the file, whole pieces run through that, and
        what is left frame by frame.

        Args:
            inputs: frames [B, T, H, W, 3] and edges [B, T, H, W].
            state: what came before; None starts anew, with a fixed tube mask if the file has one.
        """
        self._check(inputs)
        batch, num_frames = inputs.frames_BTHWC.shape[:2]
        if state is None:
            # The same tube mask every time, so that two evaluations agree.
            state = self.init_state(batch, generator=torch.Generator().manual_seed(0))
        logits, start = [], 0
        if self.clip is not None:
            whole = num_frames - num_frames % self.clip.frames
            for start in range(0, whole, self.clip.frames):
                piece = inputs.at(start, start + self.clip.frames)
                feeds = {**state.arrays, **self.clip.pixels(piece)}
                logits_BNK, state = self._run(self.clip, feeds)
                logits.append(logits_BNK)
            start = whole
        for t in range(start, num_frames):
            logits_BK, state = self.step(inputs.at(t, t + 1), state)
            logits.append(logits_BK[:, None])
        return torch.cat(logits, dim=1), state

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits after the last frame, float32 [B, K]."""
        return self.scan(inputs)[0][:, -1]

    def _fixed(self, what: str, own: object, got: object) -> str:
        return (
            f"{self.path} was exported for {what} {own}; got {got}. Export the run again with "
            "other options: videorwkv export --help"
        )


class ExportedRun(Run):
    """An exported file in a run's place: what `load_run` gives for one."""

    def results(self, split: str, **unusual: Any) -> Path:
        """Beside the file, and apart from the run's own."""
        folder = super().results(split, **unusual)
        return folder.with_name(f"{Path(self.which).stem}-{folder.name}")

    def model(self, device: torch.device | str = "cpu") -> Any:
        """The exported model; it runs on the CPU whatever the device."""
        return ExportedModel(self.folder / self.which).eval()


def open_exported(path: str | Path, *, threads: int | None = None) -> ExportedModel:
    """Open a file that `videorwkv export` wrote.

    Args:
        path: a `.onnx` file, an `.xml` file and its `.bin`, or a `.pte` file and its JSON.
        threads: for the runtime's matrix multiplications; None: as many as PyTorch takes.

    Raises:
        UsageError: no such file, or its runtime is not installed.
        CheckpointError: not a file that `videorwkv export` wrote, or a broken one.
    """
    return ExportedModel(path, threads=threads).eval()


def load_exported_run(path: str | Path) -> ExportedRun:
    """What stands in an exported file about its run.

    Raises:
        UsageError, CheckpointError: as `open_exported`.
    """
    model = open_exported(path)
    return ExportedRun(folder=model.path.parent, which=model.path.name, **vars(model.description))
