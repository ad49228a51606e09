"""The optimiser's parameter groups and the learning-rate schedule. Both are pure functions."""

from __future__ import annotations

import math

import torch
from torch import nn

from videorwkv.models.pretrained_stem import PretrainedStem

# Pulling the scan's decays and bonuses to zero would change how far a token sees, not how large its
# weights are; the others stand in for an input.
UNDECAYED = frozenset({"decay", "bonus", "cls_token", "cls_edge", "position"})


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, object]]:
    """AdamW's groups: matrices and kernels with weight decay, everything else without.

    Biases, norms and anything else with fewer than two dimensions are never decayed, nor are
    parameters named in `UNDECAYED`, whatever their shape. With a `layer_decay` below 1 (ELECTRA,
    arXiv 2003.10555, section A) each layer has groups of its own, whose `scale` is a factor on the
    learning rate: 1 for the classifier and its norm, `layer_decay` for the last layer, and for the
    stems that of the first layer times `layer_decay`; then on through the blocks of a pretrained
    stem, from its last one.
    """
    top = 1 + len(getattr(model, "layers", ()))
    stem = getattr(model, "stem", None)
    blocks = stem.network.blocks() if isinstance(stem, PretrainedStem) else []
    below = {id(p): len(blocks) - i for i, block in enumerate(blocks) for p in block.parameters()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        last = name.rsplit(".", 1)[-1]
        plain = parameter.ndim < 2 or last in UNDECAYED
        scale = layer_decay ** (top - _height(name, top) + below.get(id(parameter), 0))
        groups.setdefault((scale, not plain), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decayed else 0.0, "scale": scale}
        for (scale, decayed), parameters in groups.items()
        if parameters or scale == 1
    ]


def _height(name: str, top: int) -> int:
    """Where a parameter stands: stems and positions at 0, layer n at n + 1, the classifier at
    `top`."""
    first, _, rest = name.partition(".")
    if first == "layers":
        return 1 + int(rest.partition(".")[0])
    return top if first in ("head", "norm_head", "cells") else 0


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    layer_decay: float = 1.0,
    fused: bool = False,
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; `set_rate` sets the learning rate before every step.

    `fused` updates all parameters of a group at once, to rounding: on a GPU in one launch.
    """
    groups = parameter_groups(model, weight_decay, layer_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, **({"fused": True} if fused else {}))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Learning rate of the next step: `lr` times the scale of each group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)  # a state from before scales has none


def learning_rate(
    step: int, *, total_steps: int, peak: float, warmup: float, min_lr: float
) -> float:
    """Linear warm-up, then half a cosine down to the floor: a pure function of the step.

    Args:
        step: the step about to be taken, in [0, total_steps).
        total_steps: steps of the whole run.
        peak: the highest learning rate.
        warmup: fraction of the steps spent rising to it, in [0, 1).
        min_lr: the floor, as a fraction of `peak`, reached at the last step.
    """
    warmup_steps = round(warmup * total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    remaining = max(1, total_steps - 1 - warmup_steps)
    progress = min(1.0, (step - warmup_steps) / remaining)
    floor = peak * min_lr
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
