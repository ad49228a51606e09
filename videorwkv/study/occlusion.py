"""What a class loses without a token, for any model of the package, whatever it reads out.

B batch, T frames, L tokens of a frame, J those that stay, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from videorwkv.models import LCR, Inputs


@torch.no_grad()
def occlude(model: LCR, inputs: Inputs, class_B: Tensor) -> Tensor:
    """What the logit of a class loses when a token is left out of every frame, less what the mean
    of all classes loses: occlusion (Zeiler & Fergus 2014, section 4.2) by the model's own masks,
    so that nothing stands in the token's place. It costs as many passes as a frame has tokens.

    Args:
        model: in evaluation mode.
        inputs: a batch on the model's device.
        class_B: a class for each clip.

    Returns:
        [B, T, L] on the CPU in float32: after frame t, without token l; below zero where the
        class gains. A model that sees one token a frame gives zeros.
    """
    height, width = inputs.edges_BTHW.shape[2:]
    tokens = (height // model.config.patch_size) * (width // model.config.patch_size)
    whole_BT = _margin(model.scan(inputs)[0], class_B)
    if tokens == 1:
        return torch.zeros(*whole_BT.shape, 1)
    fallen = []
    for left_out in range(tokens):
        rest_J = torch.tensor([token for token in range(tokens) if token != left_out])
        without_BTK = scan_some(model, inputs, rest_J.expand(len(class_B), -1))
        fallen.append(whole_BT - _margin(without_BTK, class_B))
    return torch.stack(fallen, -1)


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
