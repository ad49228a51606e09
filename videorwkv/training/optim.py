"""The optimiser's parameter groups and the learning-rate schedule. Both are pure functions."""

from __future__ import annotations

import math

import torch
from torch import nn

# Pulling the scan's decays and bonuses to zero would change how far a token sees, not how large its
# weights are; the others stand in for an input.
UNDECAYED = frozenset({"decay", "bonus", "cls_token", "cls_edge", "position"})


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two AdamW groups: matrices and kernels with weight decay, everything else without.

    Biases, norms and anything else with fewer than two dimensions are never decayed, nor are
    parameters named in `UNDECAYED`, whatever their shape.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        last = name.rsplit(".", 1)[-1]
        plain = parameter.ndim < 2 or last in UNDECAYED
        (free if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def make_optimizer(
    model: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; the learning rate is set anew before every step."""
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=betas)


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
