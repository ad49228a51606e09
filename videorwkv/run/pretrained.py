"""Weights to start from: reading them, and filling a model with those that fit.

A tensor fits where name and shape are the same. The classifier's rows go by the names of the
classes, so that a run on other classes keeps those that it shares.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.models.config import LCRConfig
from videorwkv.models.shipped import START_LR, shipped_folder
from videorwkv.models.vrwkv6 import convert
from videorwkv.run.description import Description, read_description
from videorwkv.run.run import read_run
from videorwkv.run.tensors import (
    DESCRIPTION,
    read_metadata,
    read_tensors,
    require_finite_tensors,
)
from videorwkv.utils.hub import is_hub
from videorwkv.utils.values import parse_json

# Tensors that are named before the rest are counted.
NAMED = 4
# The classifier: one row a class.
HEAD = ("head.weight", "head.bias")
# Before the path of a file with the weights of another project's model.
VRWKV6 = "vrwkv6:"


@dataclass(frozen=True)
class Pretrained:
    """Weights that a model may start from.

    Args:
        source: where they are from, as the user gave it.
        sha256: of the file.
        weights: by name, as `LCR.state_dict` has them.
        config: of the model that they belong to; None where nothing says.
        labels: its classes, in the order of the classifier's rows; None where nothing says.
        lr: the learning rate that they were trained with; None where nothing says.
        left_out: names in the file that were left out when it was converted.
        note: what else there is to know of them; one line, or empty.
    """

    source: str
    sha256: str
    weights: Mapping[str, Tensor]
    config: LCRConfig | None = None
    labels: tuple[str, ...] | None = None
    lr: float | None = None
    left_out: tuple[str, ...] = ()
    note: str = ""


def read_pretrained(source: str | Path) -> Pretrained:
    """Read a run (`runs/a`, `runs/a/last`, `hf:owner/name`), a bare safetensors file, the weights
    that come with the package (`scenes`), or with `vrwkv6:FILE` the checkpoint of a Vision-RWKV
    classifier, as it is distributed.

    Raises:
        UsageError: nothing is there, or a file of another kind.
        CheckpointError: it can't be read, or holds a weight that is not finite.
    """
    if str(source).startswith(VRWKV6):
        return _read_vrwkv6(str(source))
    if (shipped := shipped_folder(str(source))) is not None:
        # Under its name: where the package lies says nothing to whoever reads config.json.
        return replace(read_pretrained(shipped), source=str(source), lr=START_LR)
    path, config, labels, lr = Path(source), None, None, None
    is_named = is_hub(source)  # its name may end in anything
    if not is_named and path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl"):
        raise UsageError(
            f"{path}: weights to start from are a run's folder or a safetensors file; reading "
            f"{path.suffix} files can run code that is hidden in them. Convert it with "
            f"safetensors.torch.save_file; one of Vision-RWKV is read as {VRWKV6}{path}."
        )
    is_file = path.suffix == ".safetensors" and not is_named
    is_bare = is_file and not (path.parent / "config.json").is_file()
    if is_bare and not path.is_file():
        raise UsageError(f"No weights at {str(source)!r}: give a run's folder or a file.")
    if not is_bare:
        run = read_run(source)
        path, config, labels = run.weights, run.recipe.model, run.labels
        lr = run.recipe.lr
    weights = read_tensors(path)
    if is_bare and (said := _said(path)) is not None:
        config, labels = said.recipe.model, said.labels
    return Pretrained(str(source), _sha256(path), weights, config, labels, lr)


def _read_vrwkv6(source: str) -> Pretrained:
    path = Path(source.removeprefix(VRWKV6))
    if not path.is_file():
        raise UsageError(
            f"No file at {str(path)!r}: {VRWKV6}FILE wants a checkpoint of Vision-RWKV, such as "
            "vrwkv6_tiny_in1k_224.pth."
        )
    try:
        # Tensors and plain values only: no code of the file is run.
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, OSError),
        *(pickle.UnpicklingError, struct.error, ArithmeticError, AssertionError, MemoryError),
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} can't be read as a checkpoint of tensors and plain values ({reason}). Is it "
            "whole?"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise CheckpointError(f"{path} holds no state dict: names and tensors are wanted.")
    require_finite_tensors(path, state)
    try:
        config, weights, left_out, clipped = convert(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    note = f"{clipped} decays are clipped to the strongest that the scan allows" if clipped else ""
    return Pretrained(source, _sha256(path), weights, config, left_out=left_out, note=note)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _said(path: Path) -> Description | None:
    """What a file of weights says of its model, as those of `save_pretrained` do."""
    try:
        return read_description(parse_json(read_metadata(path)[DESCRIPTION]))
    except (KeyError, AttributeError, ValueError):
        return None  # of another program, and weights all the same


@dataclass(frozen=True)
class Fit:
    """What a model took over.

    Args:
        source: where the weights are from.
        sha256: of their file.
        taken: names of the tensors that were taken over whole.
        tensors: how many the model has.
        parameters: numbers that were taken over, and numbers of the model.
        classes: labels whose rows of the classifier were taken over.
        num_classes: of the model.
        anew: tensors of the model that start at random -> why.
        unused: names of tensors that the model has no place for.
        note: of the weights.
    """

    source: str
    sha256: str
    taken: tuple[str, ...]
    tensors: int
    parameters: tuple[int, int]
    classes: tuple[str, ...]
    num_classes: int
    anew: Mapping[str, str]
    unused: tuple[str, ...]
    note: str = ""

    def summary(self) -> str:
        """One line: how much was taken over, and what was left out."""
        taken, total = self.parameters
        parts = [
            f"starts from {self.source}: {len(self.taken)} of {self.tensors} tensors, "
            f"{taken / 1e6:.2f} of {total / 1e6:.2f} M parameters"
        ]
        if len(self.classes) < self.num_classes:
            parts.append(f"the classifier knows {len(self.classes)} of {self.num_classes} labels")
        rest = [f"{name} ({why})" for name, why in self.anew.items() if name not in HEAD]
        if rest:
            parts.append(f"starts at random: {_shortened(rest)}")
        if self.unused:
            parts.append(f"left out, as the model lacks it: {_shortened(self.unused)}")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """For config.json: enough to tell whether the same weights are given again."""
        return {
            "source": self.source,
            "sha256": self.sha256,
            "tensors": [len(self.taken), self.tensors],
            "parameters": list(self.parameters),
            "classes": list(self.classes),
            "anew": dict(self.anew),
            "unused": list(self.unused),
        }


def _resized(table_1CHW: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(table_1CHW.float(), size, mode="bicubic")


def _shortened(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(list(names)[:NAMED]) + more


def fitting_names(model: nn.Module, pretrained: Pretrained | None) -> set[str]:
    """Names of the tensors of `model` that the weights have in the same shape."""
    weights = {} if pretrained is None else pretrained.weights
    return {
        name
        for name, tensor in model.state_dict().items()
        if name in weights and weights[name].shape == tensor.shape
    }


@torch.no_grad()
def load_pretrained(
    model: nn.Module, pretrained: Pretrained, labels: Sequence[str], keep: Collection[str] = ()
) -> Fit:
    """Fill `model` with all that fits; the rest stays as it is.

    Args:
        model: whose weights are set, with a classifier `head`.
        pretrained: where from.
        labels: the model's classes, one for each row of its classifier.
        keep: names of tensors that have weights from elsewhere, and keep them.

    Raises:
        UsageError: not one matrix of a layer fits, so that nothing would be gained.
    """
    weights, wanted = pretrained.weights, model.state_dict()
    known = {label: row for row, label in enumerate(pretrained.labels or ())}
    shared = [label for label in labels if label in known]
    whole = {name: weights[name].shape[1:] for name in HEAD if name in weights}
    if whole != {name: wanted[name].shape[1:] for name in HEAD} or any(
        len(weights[name]) != len(known) for name in HEAD
    ):
        shared = []
    rows, sources = [labels.index(x) for x in shared], [known[x] for x in shared]
    taken, anew, numbers = [], {}, 0
    for name, target in wanted.items():
        if name in keep:
            continue
        source = weights.get(name)
        if name in HEAD:
            for row, known_row in zip(rows, sources, strict=True):
                target[row] = weights[name][known_row].to(target.dtype)
            numbers += len(rows) * target[0].numel()
            if len(rows) == len(labels):
                taken.append(name)
            else:
                anew[name] = f"{len(labels) - len(rows)} of {len(labels)} rows"
        elif source is None:
            anew[name] = "not there"
        elif name == "position" and source.ndim == 4 and source.shape[:2] == target.shape[:2]:
            # As the model itself does for frames of another size.
            size = list(target.shape[2:])
            resized = source if size == list(source.shape[2:]) else _resized(source, size)
            target.copy_(resized)
            taken.append(name)
            numbers += target.numel()
        elif source.shape != target.shape:
            anew[name] = f"{list(source.shape)} there, {list(target.shape)} here"
        elif source.is_floating_point() != target.is_floating_point():
            anew[name] = f"{source.dtype} there, {target.dtype} here"
        else:
            target.copy_(source)
            taken.append(name)
            numbers += target.numel()
    # The first convolution of a stem has as many channels in models of other widths.
    if not any(wanted[name].ndim > 1 and name.startswith("layers.") for name in taken):
        fresh, where = [f"{name} ({why})" for name, why in anew.items() if name not in HEAD], ""
        if pretrained.config is not None:
            there, here = pretrained.config.width, getattr(model, "config", pretrained.config).width
            where = f" (width {there} there, {here} here)"
        raise UsageError(
            f"No layer of {pretrained.source} fits this model{where}: {_shortened(fresh)}. Leave "
            "--model out to take the model of the weights, or choose one of the same width."
        )
    note = "the stem keeps the weights that it was pretrained with" * bool(keep)
    return Fit(
        source=pretrained.source,
        sha256=pretrained.sha256,
        taken=tuple(taken),
        tensors=len(wanted),
        parameters=(numbers, sum(tensor.numel() for tensor in wanted.values())),
        classes=tuple(shared),
        num_classes=len(labels),
        anew=anew,
        unused=(*sorted(weights.keys() - (wanted.keys() - set(keep))), *pretrained.left_out),
        note="; ".join(filter(None, [pretrained.note, note])),
    )
