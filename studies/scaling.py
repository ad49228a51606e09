"""How cost grows with frames and with tokens: LCR beside joint attention, measured, and by formula.

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, F = B * T, K classes;
MACs: multiply-accumulates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studies.timing import interleaved, peak_memory, random_inputs
from videorwkv.errors import NonFiniteError, UsageError
from videorwkv.models import Inputs, LCRConfig, build_model, model_config
from videorwkv.models.config import TIMM
from videorwkv.models.cost import count_macs
from videorwkv.models.pretrained_stem import LITE0_DEPTH, LITE0_FIRST, LITE0_STAGES
from videorwkv.models.stems import PIXEL_MEAN, PIXEL_STD, ConvStem, PatchStem, stem_strides

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

    def call() -> Tensor:
        with torch.inference_mode():
            logits_BK: Tensor = model(inputs)
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


class JointAttention(nn.Module):
    """Joint space-time attention (ViViT's model 1, arXiv 2103.15691) in LCR's size.

    It has LCR's stem without edges, `depth` pre-norm layers of softmax attention over all T * L
    tokens of the clip and of an MLP that makes up for LCR's parameters, and the mean of the tokens
    for the head. Position: a learned table over the frame's grid, sines over time, so that clips of
    any length run.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: LCRConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, joint_hidden(config)
        stem = PatchStem if config.stem == "patch" else ConvStem
        self.stem = stem(3, config.patch_size, width)
        self.position = nn.Parameter(torch.randn(config.num_patches, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "query_key_value": nn.Linear(width, 3 * width, bias=False),
                    "output": nn.Linear(width, width, bias=False),
                    "norm_mix": nn.LayerNorm(width),
                    "mix_in": nn.Linear(width, hidden, bias=False),
                    "mix_out": nn.Linear(hidden, width, bias=False),
                }
            )
            for _ in range(config.depth)
        )
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.num_classes)
        self.register_buffer("pixel_mean", 255 * torch.tensor(PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_std", 255 * torch.tensor(PIXEL_STD), persistent=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of clips [B, K]; the edges are not looked at."""
        frames_BTHWC = inputs.frames_BTHWC
        batch, num_frames = frames_BTHWC.shape[:2]
        pixels_FHWC = (frames_BTHWC.flatten(0, 1) - self.pixel_mean) / self.pixel_std
        x_FLC = self.stem([pixels_FHWC], None) + self.position
        x_BTLC = x_FLC.unflatten(0, (batch, num_frames)) + self._time(num_frames)[:, None]
        x_BNC = x_BTLC.flatten(1, 2)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            x_BNC = x_BNC + self._attend(layer, layer["norm"](x_BNC))
            x_BNC = x_BNC + layer["mix_out"](F.gelu(layer["mix_in"](layer["norm_mix"](x_BNC))))
        logits_BK: Tensor = self.head(self.norm_head(x_BNC.mean(1)))
        return logits_BK

    def _attend(self, layer: nn.ModuleDict, x_BNC: Tensor) -> Tensor:
        heads = self.config.num_heads
        q, k, v = (
            x.unflatten(-1, (heads, -1)).transpose(1, 2)
            for x in layer["query_key_value"](x_BNC).chunk(3, dim=-1)
        )
        read_BHND = F.scaled_dot_product_attention(q, k, v)
        out_BNC: Tensor = layer["output"](read_BHND.transpose(1, 2).flatten(-2))
        return out_BNC

    def _time(self, num_frames: int) -> Tensor:
        """Sines and cosines of the frame's number, [T, C]."""
        half = self.config.width // 2
        rate = 1000.0 ** (-torch.arange(half, device=self.position.device) / half)
        angle = torch.arange(num_frames, device=rate.device)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


# By formula: what `videorwkv.models.cost` counts must agree with.


def stem_macs(config: LCRConfig, channels: int) -> int:
    """A stem of patches or of strided convolutions, for images of this many channels."""
    if config.stem == "patch":
        return config.num_patches * channels * config.patch_size**2 * config.width
    strides, side, total = stem_strides(config.patch_size), config.image_size, 0
    for left, stride in enumerate(strides, start=1 - len(strides)):
        side //= stride
        target = max(8, config.width >> -left)
        total += side**2 * 9 * channels * target
        channels = target
    return total


def lite0_macs(config: LCRConfig) -> int:
    """EfficientNet-Lite0 down to the patches, and its features and their change as tokens."""
    side, source = config.image_size // 2, LITE0_FIRST
    total = side**2 * 9 * 3 * source
    for blocks, kernel, stride, factor, target in LITE0_STAGES[: LITE0_DEPTH[config.patch_size]]:
        for i in range(blocks):
            hidden = source * factor
            if factor > 1:
                total += side**2 * source * hidden
            side //= stride if i == 0 else 1
            total += side**2 * hidden * (kernel**2 + target)
            source = target
    return total + side**2 * source * config.stem_channels // 3 * config.width


def scan_macs(tokens: int, config: LCRConfig) -> int:
    """One head's products over the tokens of a frame, the scan in chunks."""
    width = config.head_width
    if config.mixer == "none":
        return 0
    if config.mixer == "softmax":
        return 2 * tokens**2 * width
    chunks = math.ceil(tokens / 64)
    size = math.ceil(tokens / chunks)
    directions = 2 if config.scan == "bidirectional" else 1
    total = (directions + 1) * chunks * size**2 * width  # receptance on keys; both halves on values
    if chunks > 1:
        total += directions * 2 * chunks * size * width**2  # a chunk's state made, and read
    return total


def frame_macs(config: LCRConfig) -> int:
    """One frame through the whole model."""
    width, mix = config.width, config.mix_width
    tokens = config.num_patches + (config.readout == "cls")
    has_edges = config.edges != "none"
    if config.stem.startswith(TIMM):
        raise UsageError(f"frame_macs has no formula for stem={config.stem!r}; take cost(config).")
    total = (
        lite0_macs(config) if config.is_stem_pretrained else stem_macs(config, config.stem_channels)
    )
    if has_edges:
        total += stem_macs(config, 1) + config.num_patches * width**2
    layer = 2 * width + 2 * width + width  # receptance and gate, key and value, output
    layer += width + mix + mix  # the mixing's receptance and key, then its value
    if config.cell == "gated" and has_edges and config.forget_source == "edges":
        layer += width
    if config.memory_clock == "change":
        layer += 2  # of the own patch and of the whole frame
    if config.cell == "rglru":
        layer += 2 * width  # two gates of A
    if config.is_lstm:
        layer += 8 * width  # four gates, each of A and h
    if config.cell == "convlstm":
        layer += 9  # h of 3 x 3 neighbours, channel by channel
    total += config.depth * (tokens * width * layer + config.num_heads * scan_macs(tokens, config))
    features = (1 if config.cell == "none" else 2) * width
    if config.readout == "cells":
        cells = config.readout_cells**2
        total += cells * features * (tokens + config.readout_width)
        features = cells * config.readout_width
    return total + features * config.num_classes


def joint_macs(config: LCRConfig, frames: int) -> int:
    """A clip through `JointAttention`."""
    width, tokens = config.width, frames * config.num_patches
    hidden = joint_hidden(config)
    total = frames * stem_macs(config, 3)
    total += config.depth * (tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width)
    return total + width * config.num_classes


def joint_hidden(config: LCRConfig) -> int:
    """Hidden width of its MLP that gives a layer the parameters of one of LCR's."""
    return max(8, round((1.5 * config.width + config.mix_width) / 8) * 8)
