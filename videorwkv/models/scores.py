"""What logits mean: classes that exclude each other, or that are answered one by one.

B clips, N logits to learn from, T frames, K classes; leading dimensions are written as ...
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videorwkv.models.config import LCRConfig


def probabilities(logits: Tensor, config: LCRConfig) -> Tensor:
    """Probabilities [..., K] of logits [..., K]: a softmax, whose sum is 1; with
    `config.multilabel` the sigmoid of each, so that several may be near 1, or none."""
    return logits.sigmoid() if config.multilabel else logits.softmax(-1)


def loss(
    logits_NK: Tensor,
    targets: Tensor,
    config: LCRConfig,
    *,
    class_weights_K: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The loss of clips, in nats.

    Cross-entropy; with `config.multilabel` the binary cross-entropy, mean over the classes.

    Args:
        logits_NK: float32.
        targets: classes, int64 [N]; with `config.multilabel` 1 and 0, float32 [N, K].
        config: of the model.
        class_weights_K: weight of a clip by its class, and
        label_smoothing: share of the target that goes to all classes: not with `multilabel`.
        reduction: `mean` or `sum` over the clips, or `none`; the weighted mean is over the weights.
    """
    if config.multilabel:
        if class_weights_K is not None or label_smoothing:
            raise ValueError("class weights and label smoothing are for one class a clip")
        loss_N = F.binary_cross_entropy_with_logits(logits_NK, targets, reduction="none").mean(-1)
        if reduction == "none":
            return loss_N
        return loss_N.mean() if reduction == "mean" else loss_N.sum()
    return F.cross_entropy(
        logits_NK,
        targets,
        weight=class_weights_K,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def named_right(logits_BK: Tensor, targets: Tensor, config: LCRConfig) -> Tensor:
    """Clips whose best class is theirs, or one of theirs: a number."""
    best_B = logits_BK.argmax(-1)
    if config.multilabel:
        return targets.gather(1, best_B[:, None]).gt(0.5).sum()
    return torch.as_tensor((best_B == targets).sum())
