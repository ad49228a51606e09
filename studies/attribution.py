"""What a model looks at: what its last layer does at each token of each frame and adds to a class,
what the class loses without the token, and whether the answer hangs on the tokens so named.

B batch, T frames, L tokens of a frame, J those that stay, C channels, E features of a token,
K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from studies.design import Measured, Trained
from studies.results import pack
from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import LCR, Inputs, LCRConfig
from videorwkv.models.layer import CrossRWKVLayer

# Larger grids are left out in squares of tokens, so that a pass a square stays affordable.
MOST_PASSES = 64
MOST, RANDOM, LEAST = "most important", "random", "least important"
ORDERS = (MOST, RANDOM, LEAST, "most evidence", "least evidence")
NOTHING = "nothing"


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen in a batch; all on the CPU, in float32.

    Args:
        gate_BTL: size of what the CrossRWKV gate adds to the token: root mean square over channels.
        forget_BTL: share of its memory that the token keeps, the mean over channels; None where
            the cell has no forget gate of its own.
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
def look(model: LCR, inputs: Inputs) -> Looked:
    """Run clips through a model and keep what its last layer does.

    Args:
        model: in evaluation mode, not made for inference.
        inputs: a batch on the model's device.

    Raises:
        UsageError: the model reads out `[CLS]`, to which no token adds by itself.
    """
    config = model.config
    check(config)
    with _watched(model) as seen:
        logits_BTK, _ = model.scan(inputs)
    features_TBLE = torch.cat(seen["features"])
    evidence_TBLK = _evidence(model, features_TBLE)
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


def _evidence(model: LCR, features_TBLE: Tensor) -> Tensor:
    """The head's linear map of each token's features, [T, B, L, K]: with a mean over tokens the
    logits are the sum of these and of a constant."""
    norm = model.norm_head
    if isinstance(norm, nn.BatchNorm1d):
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        centred = features_TBLE - mean
    else:
        assert isinstance(norm, nn.LayerNorm)
        # The scale is the pooled token's; the centre is each token's own, which adds up.
        variance = features_TBLE.mean(2, keepdim=True).var(-1, keepdim=True, unbiased=False)
        centred = features_TBLE - features_TBLE.mean(-1, keepdim=True)
    scaled = centred * norm.weight / (variance + norm.eps).sqrt()
    weight_KE = model.head.weight - model.head.weight.mean(0)
    return scaled @ weight_KE.T / features_TBLE.shape[2]


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
        seen["features"].append(torch.cat([torch.stack([*x]) for x in (hiddens, memories)], -1))

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


@torch.no_grad()
def occlude(model: LCR, inputs: Inputs, class_B: Tensor) -> Tensor:
    """What the logit of a class loses when a token is left out of every frame, less what the mean
    of all classes loses: occlusion (Zeiler & Fergus 2014, section 4.2) by the model's own masks,
    so that nothing stands in the token's place. It costs a pass a token; of more than `MOST_PASSES`
    tokens squares are left out, and their tokens share the loss.

    Args:
        model: in evaluation mode.
        inputs: a batch on the model's device.
        class_B: a class for each clip.

    Returns:
        [B, T, L] on the CPU in float32: after frame t, without token l; below zero where the
        class gains. A model that sees one token a frame gives zeros.
    """
    height, width = inputs.edges_BTHW.shape[2:]
    size = model.config.patch_size
    squares = _squares(height // size, width // size)
    whole_BT = _margin(model.scan(inputs)[0], class_B)
    tokens = sum(map(len, squares))
    fallen_BTL = torch.zeros(*whole_BT.shape, tokens)
    if tokens == 1:
        return fallen_BTL
    for square in squares:
        rest_J = torch.tensor([token for token in range(tokens) if token not in square])
        without_BTK = scan_some(model, inputs, rest_J.expand(len(class_B), -1))
        loss_BT = whole_BT - _margin(without_BTK, class_B)
        fallen_BTL[..., square] = loss_BT[..., None] / len(square)
    return fallen_BTL


def _squares(rows: int, columns: int) -> list[list[int]]:
    """The grid's tokens in squares as small as `MOST_PASSES` allows; cut off at the borders."""
    side = 1
    while -(-rows // side) * -(-columns // side) > MOST_PASSES:
        side += 1
    return [
        [
            row * columns + column
            for row in range(top, min(top + side, rows))
            for column in range(left, min(left + side, columns))
        ]
        for top in range(0, rows, side)
        for left in range(0, columns, side)
    ]


def scan_some(model: LCR, inputs: Inputs, keep_BJ: Tensor) -> Tensor:
    """Logits [B, T, K] with these tokens of every frame alone.

    Args:
        model: in evaluation mode.
        inputs: a batch on the model's device.
        keep_BJ: rising numbers of tokens.
    """
    height, width = inputs.edges_BTHW.shape[2:]
    keep_BJ = keep_BJ.to(inputs.edges_BTHW.device)
    state = model.init_state(len(keep_BJ), image_size=(height, width), keep_BK=keep_BJ)
    return model.scan(inputs, state)[0]


def _margin(logits_BTK: Tensor, class_B: Tensor) -> Tensor:
    centred_BTK = (logits_BTK - logits_BTK.mean(-1, keepdim=True)).float().cpu()
    index_BT1 = class_B.cpu()[:, None, None].expand(-1, centred_BTK.shape[1], 1)
    return centred_BTK.gather(-1, index_BT1)[..., 0]


@dataclass(frozen=True, kw_only=True)
class LeavingOut:
    """Accuracy with some tokens left out of every frame: the most important ones first, the least
    important ones first, those with most or least evidence, or random ones.

    Important is what the class that the model names loses most by, if that token alone is left out
    (`occlude`); evidence is what the token itself adds to that class (`Looked`). Both are of the
    class that is named when everything is seen, so the true class is not looked at. A clip that
    can't be read counts as wrong throughout.

    Args:
        shares: of the tokens, each in (0, 1).
        draws: of random tokens for each clip, averaged.
    """

    shares: tuple[float, ...] = (0.125, 0.25, 0.5)
    draws: int = 4

    name = "accuracy with tokens left out"
    unit = "share"
    lower_is_better = False
    needs_generated = False

    def __post_init__(self) -> None:
        if not all(0 < share < 1 for share in self.shares):
            raise ConfigError(f"LeavingOut: shares {self.shares} must each lie in (0, 1).")
        if self.draws < 1:
            raise ConfigError(f"LeavingOut: draws ({self.draws}) must be at least 1.")

    def measure(self, trained: Trained) -> Measured:
        from videorwkv.data import make_loader
        from videorwkv.data.dataset import make_dataset
        from videorwkv.utils.device import autocast, pick_device

        run, device = trained.run, pick_device(trained.device)
        model = run.model(device)
        dataset = make_dataset(
            model.config,
            trained.test.with_labels(run.labels),
            run.recipe.sampling,
            cache=trained.cache,
        )
        names = [NOTHING, *(condition(o, s) for s in self.shares for o in ORDERS)]
        found = {name: np.zeros(len(dataset)) for name in names}
        for batch in make_loader(dataset, batch_size=run.recipe.batch_size):
            if batch.inputs is None:
                continue
            inputs, rows = batch.inputs.to(device), batch.indices.numpy()
            with torch.inference_mode():
                # Not in the training's precision, which a single token hardly moves.
                looked = look(model, inputs)
                important_BL = occlude(model, inputs, looked.said())[:, -1]
                orders = self._orders(important_BL, looked.evidence_of_said(), rows.tolist())
                right_B = looked.said() == batch.labels
                found[NOTHING][rows] = right_B.double().numpy()
                for share in self.shares:
                    for order, draws in orders.items():
                        for order_BL in draws:
                            with autocast(device, run.recipe.precision):
                                said_B = classify(model, inputs, order_BL, share).argmax(-1)
                            found[condition(order, share)][rows] += (
                                said_B == batch.labels
                            ).double().numpy() / len(draws)
        return pack({name: values.tolist() for name, values in found.items()})

    def _orders(
        self, important_BL: Tensor, evidence_BL: Tensor, rows: list[int]
    ) -> dict[str, list[Tensor]]:
        """Tokens in the order in which they are left out, one [B, L] for each draw."""
        tokens = important_BL.shape[1]
        important_BL, evidence_BL = (
            x.argsort(dim=1, descending=True, stable=True) for x in (important_BL, evidence_BL)
        )
        random = [
            torch.from_numpy(
                # By clip and draw: the same tokens in every variant and at every share.
                np.stack([np.random.default_rng([row, draw]).permutation(tokens) for row in rows])
            )
            for draw in range(self.draws)
        ]
        ordered = (
            [important_BL], random, [important_BL.flip(1)], [evidence_BL], [evidence_BL.flip(1)]
        )  # fmt: skip
        return dict(zip(ORDERS, ordered, strict=True))


def condition(order: str, share: float) -> str:
    """Name of a condition of `LeavingOut`."""
    return f"{order}, {100 * share:g} %"


def classify(model: LCR, inputs: Inputs, order_BL: Tensor, share: float) -> Tensor:
    """Logits [B, K], on the CPU, without the first `share` of the tokens in each frame."""
    tokens = order_BL.shape[1]
    kept = max(1, round(tokens * (1 - share)))
    return (
        scan_some(model, inputs, order_BL[:, tokens - kept :].sort(1).values)[:, -1].float().cpu()
    )
