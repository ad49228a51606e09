"""What is timed: a model of this package, an exported file or a peer, each with a few calls.

`frame` is the next frame of B streams, `clip` is B clips of T frames.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.models.peers import NUM_CLASSES, Peer
from benchmarks.models.peers_conv import MoViNetStream
from benchmarks.models.ways import WAYS, lcr_program, peer_program, prepared
from benchmarks.timing import Case
from videorwkv.inference.exported import ExportedModel
from videorwkv.models import LCR, Inputs
from videorwkv.models.cost import count_macs

Unit = Literal["frame", "clip"]


@dataclass(frozen=True, kw_only=True)
class OwnSubject:
    """A model of this package, or an exported file.

    Args:
        title: as the table names it.
        model: in evaluation mode.
        inputs: B clips with their edges.
        folder: room for exported files.
        tube_mask_ratio: share of the patches to leave out.
        clip_frames: of the graph for clips that files are exported with; None: none.
    """

    title: str
    model: LCR | ExportedModel
    inputs: Inputs
    folder: Path
    tube_mask_ratio: float = 0.0
    clip_frames: int | None = None
    peer: bool = False

    @property
    def image_size(self) -> int:
        """Side of its frames in pixels."""
        return self.inputs.frames_BTHWC.shape[2]

    def ways(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that it can run in."""
        if isinstance(self.model, ExportedModel):
            return ("exported",)
        if self.model.config.mixer == "joint":
            return ("eager",)
        if self.model.config.mixer != "wkv":
            # A comparison of mixers: the exported step is written for the scan.
            return tuple(
                name for name in names if not {"onnx", "onnxruntime"} & {*WAYS[name].needs}
            )
        return names

    def precision(self, way: str) -> str:
        if isinstance(self.model, ExportedModel):
            return str(self.model.precision)
        return WAYS[way].precision

    def cases(self, way: str) -> dict[Unit, Case]:
        """Its calls in this way; the first call of each may take long.

        Raises:
            UsageError, CheckpointError: it can't be exported.
        """
        program: Any = self.model
        if isinstance(self.model, LCR):
            program = lcr_program(
                self.model, way, self.folder, self.tube_mask_ratio, self.clip_frames
            )
        start = program.init_state(
            len(self.inputs.frames_BTHWC), tube_mask_ratio=self.tube_mask_ratio
        )
        frames = [self.inputs.at(t, t + 1) for t in range(self.inputs.frames_BTHWC.shape[1])]
        numbers, state = itertools.cycle(range(len(frames))), [start]

        def frame() -> None:
            with torch.inference_mode():
                _, state[0] = program.step(frames[next(numbers)], state[0])

        def clip() -> None:
            with torch.inference_mode():
                program.scan(self.inputs, start)

        return {"frame": frame, "clip": clip}

    def parameters(self) -> int | None:
        if isinstance(self.model, ExportedModel):
            return None
        return sum(x.numel() for x in self.model.parameters())

    def macs(self) -> dict[Unit, int]:
        """Multiply-accumulates of each call."""
        if isinstance(self.model, ExportedModel):
            return {}
        return {unit: count_macs(case) for unit, case in self.cases("eager").items()}


@dataclass(frozen=True, kw_only=True)
class PeerSubject:
    """A model to compare with.

    Args:
        peer: which.
        inputs: B clips.
    """

    peer_model: Peer
    inputs: Inputs
    peer: bool = True

    @property
    def title(self) -> str:
        return self.peer_model.title

    def ways(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that it can run in."""
        return tuple(name for name in names if WAYS[name].peers)

    def precision(self, way: str) -> str:
        return WAYS[way].precision

    def cases(self, way: str) -> dict[Unit, Case]:
        """Its calls in this way; the first call of each may take long.

        Raises:
            UsageError: it needs a library that is not installed.
        """
        peer = self.peer_model
        network = peer.network(num_frames=self._num_frames)
        tensors = peer.inputs(self.inputs, network)
        convolutions = peer.convolutions
        program = peer_program(network, way, tensors, convolutions)
        first, *state = prepared(tensors, way, convolutions)
        if peer.kind == "clip":
            return {"clip": lambda: program(first)}
        if peer.kind == "stream":
            states = [state]

            def frame() -> None:
                _, *states[0] = program(first, *states[0])

            def frames_in_turn() -> None:
                for _ in range(self._num_frames):
                    frame()

            return {"frame": frame, "clip": frames_in_turn}
        batch = len(self.inputs.frames_BTHWC)
        every = self.inputs.frames_BTHWC.flatten(0, 1)[:, None]
        clip_tensors = peer.inputs(Inputs(every, self.inputs.edges_BTHW), network)
        clip_program = peer_program(network, way, clip_tensors, convolutions)
        (frames,) = prepared(clip_tensors, way, convolutions)

        def clip() -> Any:
            logits_FK = clip_program(frames)
            logits_FK = logits_FK[0] if isinstance(logits_FK, tuple) else logits_FK
            return logits_FK.reshape(batch, -1, NUM_CLASSES).mean(1)

        return {"frame": lambda: program(first), "clip": clip}

    def parameters(self) -> int | None:
        with torch.device("meta"):
            network = self.peer_model.network(num_frames=self._num_frames)
        return sum(x.numel() for x in network.parameters())

    def macs(self) -> dict[Unit, int]:
        """Multiply-accumulates of each call, without a number computed."""
        peer, batch = self.peer_model, len(self.inputs.frames_BTHWC)
        side = self.inputs.frames_BTHWC.shape[2]
        with torch.device("meta"):
            network = peer.network(num_frames=self._num_frames)
            if peer.kind == "clip":
                clip = torch.zeros(batch, 3, self._num_frames, side, side)
                return {"clip": count_macs(lambda: network(clip))}
            frame = torch.zeros(batch, 3, side, side)
            state: tuple[Tensor, ...] = ()
            if isinstance(network, MoViNetStream):
                state = network.init_state(batch, side)
            macs = count_macs(lambda: network(frame, *state))
        return {"frame": macs, "clip": macs * self._num_frames}

    @property
    def image_size(self) -> int:
        """Side of its frames in pixels."""
        return self.inputs.frames_BTHWC.shape[2]

    @property
    def _num_frames(self) -> int:
        return self.inputs.frames_BTHWC.shape[1]


Subject = OwnSubject | PeerSubject
