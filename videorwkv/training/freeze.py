"""Parameters that keep the values they start with, and norms that keep their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from videorwkv.errors import ConfigError, did_you_mean

# Parts of a classifier that not every model has: a recipe may take them out of what it freezes.
_CLASSIFIER = ("head", "norm_head", "cells")


def freeze(model: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Take parameters out of training.

    Args:
        model: whose parameters lose `requires_grad`.
        patterns: names or patterns of parameters or of what holds them (`stem`, `layers.0`,
            `*.norm_*`); one with `!` before it takes out again what those before it named.

    Returns:
        Names of the parameters that the patterns froze.

    Raises:
        ConfigError: a pattern that names nothing, or all of them together name everything.
    """
    if not patterns:
        return set()
    names = [name for name, _ in model.named_parameters()]
    frozen: set[str] = set()
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        named = {n for n in names if fnmatchcase(n, bare) or fnmatchcase(n, f"{bare}.*")}
        if not named and not (pattern != bare and bare in _CLASSIFIER):
            parts = dict.fromkeys(name.partition(".")[0] for name in names)
            raise ConfigError(
                f"freeze {pattern!r} names no parameter of the model. "
                f"{did_you_mean(bare, parts, lead='Its parts')}"
            )
        frozen = frozen | named if pattern == bare else frozen - named
    left = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if left <= frozen:
        raise ConfigError(
            f"freeze {', '.join(patterns)} leaves nothing to train: take the classifier out with "
            "'!head', or freeze less."
        )
    for name, parameter in model.named_parameters():
        if name in frozen:  # a pretrained stem's may be out of it already
            parameter.requires_grad_(False)
    return frozen


def train_mode(model: nn.Module) -> None:
    """`model.train()`, but batch norms whose parameters are frozen keep their statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
