"""What a class loses without a token, for any model of the package, whatever it reads out.

B batch, T frames, L tokens of a frame, J those that stay, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from videorwkv.models import LCR, Inputs

# Larger grids are left out in squares of tokens, so that a pass a square stays affordable.
MOST_PASSES = 64


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
