"""How cost grows with frames and with tokens, measured: LCR beside joint attention."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from studies.formula import frame_macs, joint_macs
from studies.joint import JointAttention
from studies.timing import interleaved, peak_memory, random_inputs
from videorwkv.errors import NonFiniteError
from videorwkv.models import LCRConfig, build_model, model_config
from videorwkv.models.cost import count_macs

LCR_NAME, JOINT_NAME = "LCR", "joint attention"
# A curve ends where one call would take longer than this, in seconds.
PATIENCE = {True: 2.0, False: 60.0}


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Time, memory and MACs of a clip without gradients, over one of its sizes.

    Args:
        over: `frames` of a clip, or `tokens` of a frame (its side in pixels grows).
        model: preset whose shape both have.
        sizes: frames, or pixels.
        quick_sizes: the same for a quick study.
        other: what stays: pixels for `frames`, frames for `tokens`.
    """

    over: Literal["frames", "tokens"]
    model: str = "lcr_nano"
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]
    other: int

    @property
    def name(self) -> str:
        return f"scaling over {self.over}"

    def probe(self, *, quick: bool, device: str) -> Mapping[str, Any]:
        """`{"over", "other", "model", "clock", "rows": {name: [{"size", "ms", "mib", "macs"},
        ...]}}`; a size is a number of frames or of tokens, the clock `CPU` or `wall`."""
        from videorwkv.utils.device import pick_device

        where = pick_device(device)
        clock, key = ("wall", "least") if where.type == "cuda" else ("CPU", "cpu")
        rows: dict[str, list[dict[str, float]]] = {LCR_NAME: [], JOINT_NAME: []}
        going = dict.fromkeys(rows, True)
        for size in self.quick_sizes if quick else self.sizes:
            frames, side = (size, self.other) if self.over == "frames" else (self.other, size)
            config = model_config(self.model, image_size=side, num_frames=frames)
            makers = _makers(config, where)
            cases = {}
            for name, make in makers.items():
                if going[name]:
                    case = make()
                    seconds = _seconds(case)
                    going[name] = seconds < PATIENCE[quick]
                    cases[name] = case
            times = interleaved(cases, seconds=0.5 if quick else 4.0, least=3)
            for name in cases:
                macs = frames * frame_macs(config)
                rows[name].append(
                    {
                        "size": frames if self.over == "frames" else config.num_patches,
                        "ms": times[name][key],
                        "mib": peak_memory(makers[name], where),
                        "macs": macs if name == LCR_NAME else joint_macs(config, frames),
                    }
                )
        return {
            "over": self.over,
            "other": self.other,
            "model": self.model,
            "clock": clock,
            "rows": rows,
        }


@dataclass(frozen=True, kw_only=True)
class MacsAgreement:
    """MACs as PyTorch's counter sees them beside those of the formula.

    Args:
        configurations: name -> options of a preset, as (preset, ((option, value), ...)).
    """

    configurations: tuple[tuple[str, str, tuple[tuple[str, Any], ...]], ...]
    name = "MACs counted and by formula"

    def probe(self, *, quick: bool, device: str) -> Mapping[str, Any]:
        """name -> counted, formula, share by which they differ."""
        from videorwkv.models.cost import cost

        rows = {}
        for name, preset, options in self.configurations:
            config = model_config(preset, num_frames=2, **dict(options))
            counted, formula = cost(config).macs_per_frame, frame_macs(config)
            rows[name] = {
                "counted": counted,
                "formula": formula,
                "difference": counted / formula - 1,
            }
        joint = model_config("lcr_nano", num_frames=2)
        counted = _count(JointAttention(joint).eval(), joint)
        formula = joint_macs(joint, 2)
        rows[JOINT_NAME] = {
            "counted": counted,
            "formula": formula,
            "difference": counted / formula - 1,
        }
        return rows


def _makers(
    config: LCRConfig, device: torch.device
) -> dict[str, Callable[[], Callable[[], object]]]:
    """How to make a call of each model with its inputs."""

    def make(model: Callable[[LCRConfig], nn.Module]) -> Callable[[], Callable[[], object]]:
        return lambda: _call(model(config).to(device).eval(), config, device)

    return {LCR_NAME: make(build_model), JOINT_NAME: make(JointAttention)}


def _call(model: nn.Module, config: LCRConfig, device: torch.device) -> Callable[[], object]:
    inputs = random_inputs(config, 1, config.num_frames).to(device)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            logits_BK: torch.Tensor = model(inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if not bool(logits_BK.isfinite().all()):
            raise NonFiniteError(f"{type(model).__name__} gave NaN or infinity while timed.")
        return logits_BK

    return call


def _count(model: nn.Module, config: LCRConfig) -> int:
    return count_macs(partial(model, random_inputs(config, 1, config.num_frames)))


def _seconds(case: Callable[[], object]) -> float:
    start = time.perf_counter()
    case()
    return time.perf_counter() - start
