"""What the last layer of a model does at each token of each frame, and what it adds to a class.

B batch, T frames, L tokens of a frame, C channels, F features of a token, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from videorwkv.errors import UsageError
from videorwkv.models import LCR, Inputs, LCRConfig
from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.state import LCRState


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen in a batch; all on the CPU, in float32.

    Args:
        gate_BTL: size of what the CrossRWKV gate adds to the token: root mean square over channels.
        forget_BTL: share of its memory that the token keeps, the mean over channels; None where
            the cell has no forget signal of its own.
        change_BTL: root mean square over channels of c_t - c_(t-1); None without memory.
        evidence_BTLK: what the token adds to each class's logit after the frame, beyond what it
            adds to the mean of all classes and beyond the average clip of the training (batch
            norm); its sum over tokens is the centred logit but for a constant of the class.
        logits_BTK: after each frame.
        remembers: whether a frame's evidence holds all frames before it.
    """

    gate_BTL: Tensor
    forget_BTL: Tensor | None
    change_BTL: Tensor | None
    evidence_BTLK: Tensor
    logits_BTK: Tensor
    remembers: bool

    def said(self) -> Tensor:
        """The class that the model names after the last frame: [B]."""
        return self.logits_BTK[:, -1].argmax(-1)

    def evidence_of_said(self) -> Tensor:
        """What each token adds to that class in the whole clip: [B, L]."""
        evidence_BTL = self.of_class(self.said())
        return evidence_BTL[:, -1] if self.remembers else evidence_BTL.mean(1)

    def of_class(self, class_B: Tensor) -> Tensor:
        """The evidence for one class of each clip, [B, T, L]."""
        index_BTL1 = class_B[:, None, None, None].expand(*self.evidence_BTLK.shape[:3], 1)
        return self.evidence_BTLK.gather(-1, index_BTL1)[..., 0]


def check(config: LCRConfig) -> None:
    """`UsageError` where the logits are no sum over tokens."""
    if config.readout != "mean":
        raise UsageError(
            f"Maps of tokens: readout={config.readout!r} leaves no token a part of its own in the "
            "logits; train with model.readout=mean."
        )


@torch.no_grad()
def look(model: LCR, inputs: Inputs, state: LCRState | None = None) -> Looked:
    """Run clips through a model and keep what its last layer does.

    Args:
        model: in evaluation mode, not made for inference.
        inputs: a batch on the model's device.
        state: to begin with; None starts anew.

    Raises:
        UsageError: the model reads out `[CLS]`, to which no token adds by itself.
    """
    config = model.config
    check(config)
    with _watched(model) as seen:
        logits_BTK, _ = model.scan(inputs, state)
    features_TBLF = torch.cat(seen["features"])
    evidence_TBLK = _evidence(model, features_TBLF)
    forget = torch.cat(seen["forget"]) if seen["forget"] else None
    change = torch.cat(seen["change"]) if seen["change"] else None
    gate_TBL = torch.stack(seen["gate"])
    if forget is None and config.cell == "gated":
        rate = cast(CrossRWKVLayer, model.layers[-1]).forget_rate.detach()
        forget = torch.sigmoid(rate).mean().expand_as(gate_TBL)
    return Looked(
        gate_BTL=_clips_first(gate_TBL),
        forget_BTL=None if forget is None else _clips_first(forget),
        change_BTL=None if change is None else _clips_first(change),
        evidence_BTLK=_clips_first(evidence_TBLK),
        logits_BTK=logits_BTK.float().cpu(),
        remembers=config.cell != "none",
    )


def _evidence(model: LCR, features_TBLF: Tensor) -> Tensor:
    """The head's linear map of each token's features, [T, B, L, K]: with a mean over tokens the
    logits are the sum of these and of a constant."""
    norm = model.norm_head
    if isinstance(norm, nn.BatchNorm1d):
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        centred = features_TBLF - mean
    else:
        assert isinstance(norm, nn.LayerNorm)
        # The scale is the pooled token's; the centre is each token's own, which adds up.
        variance = features_TBLF.mean(2, keepdim=True).var(-1, keepdim=True, unbiased=False)
        centred = features_TBLF - features_TBLF.mean(-1, keepdim=True)
    scaled = centred * norm.weight / (variance + norm.eps).sqrt()
    weight_KF = model.head.weight - model.head.weight.mean(0)
    return scaled @ weight_KF.T / features_TBLF.shape[2]


@contextmanager
def _watched(model: LCR) -> Iterator[dict[str, list[Tensor]]]:
    """Collects what the last layer does: by frame (gate) or by piece of a clip (the others)."""
    layer = cast(CrossRWKVLayer, model.layers[-1])
    cell = model.config.cell
    seen: dict[str, list[Tensor]] = {"gate": [], "forget": [], "change": [], "features": []}

    def after_gate(module: nn.Module, args: object, out: Tensor) -> None:
        seen["gate"].append(_size(out))

    def after_forget(module: nn.Module, args: object, out: Tensor) -> None:
        seen["forget"].append(torch.sigmoid(out.float() + layer.forget_rate).mean(-1))

    def after_layer(module: nn.Module, args: tuple[Any, ...], out: tuple[Any, ...]) -> None:
        y_TBLC, hiddens, memories, _ = out
        if cell == "none":
            seen["features"].append(y_TBLC.float())
            return
        # The fifth argument is c before the first frame of this piece.
        memory_TBLC = torch.stack([args[4], *memories])
        seen["change"].append(_size(memory_TBLC[1:] - memory_TBLC[:-1]))
        seen["features"].append(torch.cat([torch.stack(hiddens), torch.stack(memories)], -1))

    handles = [
        layer.output.register_forward_hook(after_gate),
        layer.register_forward_hook(after_layer),
    ]
    if hasattr(layer, "forget"):
        handles.append(layer.forget.register_forward_hook(after_forget))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _size(x: Tensor) -> Tensor:
    """Root mean square over channels."""
    return x.float().square().mean(-1).sqrt()


def _clips_first(x_TB: Tensor) -> Tensor:
    return x_TB.transpose(0, 1).float().cpu()
