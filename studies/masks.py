"""Masks at inference and what they save.

B batch, T frames, L patches of a frame, J those that are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from studies import timing
from studies.design import Trained
from studies.measures import Accuracy
from videorwkv.errors import ConfigError, UsageError, did_you_mean
from videorwkv.models import LCR, Inputs, LCRConfig, build_model, model_config
from videorwkv.models.masking import COUNT_DECAY, NO_MASKS, Masks, tube_mask
from videorwkv.models.state import LCRState

Kind = Literal["tube", "random", "motion"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NO_MASK = "no mask"
# A frame under random masks has the products of one under motion masks.
_COUNTED_AS = {"random": "motion_mask_ratio", "motion": "motion_mask_ratio"}
Make = Callable[[], Callable[[], object]]


class RandomMask(NamedTuple):
    """Other patches in every frame, drawn as a tube is; what the model takes for a `MotionMask`.

    Args:
        count_BL: in how many frames each patch was computed, old frames counting less.
        ratio: mask ratio, the fraction of the patches that a frame drops.
        generator: source of the draws.
    """

    count_BL: Tensor
    ratio: float
    generator: torch.Generator

    def choose(self, inputs: Inputs, patch_size: int) -> tuple[Tensor, Tensor, RandomMask]:
        """As `videorwkv.models.masking.MotionMask.choose`: patches [T, B, J], weights [T, B, L]."""
        batch, num_frames = inputs.frames_BTHWC.shape[:2]
        count_BL = self.count_BL
        keeps, weights = [], []
        for _ in range(num_frames):
            keep_BJ = tube_mask(
                count_BL.shape[1],
                self.ratio,
                batch,
                generator=self.generator,
                device=count_BL.device,
            )
            count_BL = (count_BL * COUNT_DECAY).scatter_add(
                1, keep_BJ, torch.ones_like(keep_BJ, dtype=count_BL.dtype)
            )
            keeps.append(keep_BJ)
            weights.append(count_BL / count_BL.sum(1, keepdim=True))
        motion = self._replace(count_BL=count_BL)
        return torch.stack(keeps), torch.stack(weights), motion


class RandomMasked(nn.Module):
    """A model that computes other random patches in every frame; the memory of the rest stays.

    Args:
        model: in evaluation mode.
        ratio: mask ratio, the fraction of the patches to drop.
    """

    def __init__(self, model: LCR, ratio: float) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.ratio = ratio
        self.generator = torch.Generator().manual_seed(0)  # the same masks at every evaluation

    def forward(self, inputs: Inputs) -> Tensor:
        return self.scan(inputs)[0][:, -1]

    def scan(self, inputs: Inputs, state: LCRState | None = None) -> tuple[Tensor, LCRState]:
        if state is None:
            state = random_start(self.model, inputs, self.ratio, self.generator)
        return self.model.scan(inputs, state)

    def resolve_masks(self, masks: Masks) -> Masks:
        if masks != NO_MASKS:
            raise UsageError("RandomMasked: it has a mask of its own; leave the others out.")
        return masks


def random_start(model: LCR, inputs: Inputs, ratio: float, generator: torch.Generator) -> LCRState:
    """The state before the first frame of `inputs` under an independent random mask."""
    batch, _, height, width = inputs.frames_BTHWC.shape[:4]
    count = (height // model.config.patch_size) * (width // model.config.patch_size)
    motion = RandomMask(
        torch.zeros(batch, count, device=model.head.weight.device), ratio, generator
    )
    state = model.init_state(batch, image_size=(height, width))
    return state._replace(motion=cast(Any, motion))


@dataclass(frozen=True, kw_only=True)
class MaskedAccuracy(Accuracy):
    """Accuracy with masked patches at inference.

    Args:
        kind: `tube`: the same ones in all frames of a clip; `random`: others in every frame,
            whatever is in them; `motion`: those that changed least of late.
        ratio: mask ratio.
    """

    kind: Kind
    ratio: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"MaskedAccuracy: kind {self.kind!r}. {did_you_mean(self.kind, KINDS)}"
            )
        if not 0 < self.ratio < 1:
            raise ConfigError(f"MaskedAccuracy: ratio ({self.ratio}) must lie between 0 and 1.")
        object.__setattr__(self, "label", self.label or f"{self.kind} {self.ratio:g}")
        if self.kind != "random":
            option = (f"{self.kind}_mask_ratio", self.ratio)
            object.__setattr__(self, "options", (*self.options, option))

    def model(self, trained: Trained) -> Any:
        model = super().model(trained)
        return RandomMasked(model, self.ratio).eval() if self.kind == "random" else model


@dataclass(frozen=True, kw_only=True)
class MaskCost:
    """Time and memory of masks: of a clip's training step, and of a clip without gradients.

    Args:
        ratios: mask ratios, 0 first.
        model: preset.
        size, quick_size: side of the frames in pixels.
        frames: of a clip.
        batch_size: clips of a training step; inference has one.
    """

    ratios: tuple[float, ...]
    model: str = "lcr_nano"
    size: int = 224
    quick_size: int = 112
    frames: int = 8
    batch_size: int = 4
    name = "cost of masks"

    def probe(self, *, quick: bool, device: str) -> Mapping[str, Any]:
        """`{"tokens", ..., "rows": {case: {"ratio", "ms", "mib", "macs"}}}`; a case is `training`,
        or a kind of mask, with its ratio."""
        from videorwkv.models.cost import cost
        from videorwkv.utils.device import pick_device

        where = pick_device(device)
        clock = "least" if where.type == "cuda" else "cpu"
        side = self.quick_size if quick else self.size
        config = model_config(self.model, image_size=side, num_frames=self.frames)
        training = {("training", r): self._step(config, r, where) for r in self.ratios}
        clips = {(NO_MASK, 0.0): self._clip(config, "tube", 0.0, where)}
        for kind in KINDS:
            clips |= {(kind, r): self._clip(config, kind, r, where) for r in self.ratios if r}
        rows: list[dict[str, Any]] = []
        for part in (training, clips):
            cases = {f"{case} {ratio}": make() for (case, ratio), make in part.items()}
            times = timing.interleaved(cases, seconds=1.0 if quick else 10.0, least=3)
            for (case, ratio), make in part.items():
                counted = Masks(**{_COUNTED_AS.get(case, "tube_mask_ratio"): ratio})
                rows.append(
                    {
                        "case": case,
                        "ratio": ratio,
                        "ms": times[f"{case} {ratio}"][clock],
                        "mib": timing.peak_memory(make, where),
                        "macs": cost(config, counted).macs_per_clip,
                    }
                )
        return {
            "model": self.model,
            "size": side,
            "tokens": config.num_patches,
            "frames": self.frames,
            "batch_size": self.batch_size,
            "clock": "wall" if where.type == "cuda" else "CPU",
            "rows": rows,
        }

    def _step(self, config: LCRConfig, ratio: float, device: torch.device) -> Make:
        def make() -> Callable[[], object]:
            model = build_model(replace(config, tube_mask_ratio=ratio)).to(device).train()
            inputs = timing.random_inputs(config, self.batch_size, self.frames).to(device)

            def call() -> None:
                model.zero_grad(set_to_none=True)
                model.scan(inputs)[0].square().mean().backward()
                _wait(device)

            return call

        return make

    def _clip(self, config: LCRConfig, kind: Kind, ratio: float, device: torch.device) -> Make:
        def make() -> Callable[[], object]:
            model = build_model(config).to(device).eval()
            inputs = timing.random_inputs(config, 1, self.frames).to(device)
            generator = torch.Generator().manual_seed(0)

            def call() -> None:
                with torch.inference_mode():
                    if kind == "random":
                        state = random_start(model, inputs, ratio, generator)
                    else:
                        masks = Masks(**{f"{kind}_mask_ratio": ratio})
                        state = masks.start(model, inputs, generator)
                    model.scan(inputs, state)
                _wait(device)

            return call

        return make


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
