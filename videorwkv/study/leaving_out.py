"""Does the class hang on the tokens that the evidence names? Leave them out and see.

B batch, L tokens of a frame, J those that stay, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from videorwkv.errors import ConfigError
from videorwkv.models import LCR, Inputs
from videorwkv.study.conditions import pack
from videorwkv.study.design import Measured, Trained
from videorwkv.study.looking import look

ORDERS = ("most important", "random", "least important")
NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class LeavingOut:
    """Accuracy with some tokens left out of every frame: the most important ones first, the least
    important ones first, or random ones.

    Importance is the evidence for the class that the model names when it sees everything, so the
    true class is not looked at. A clip that can't be read counts as wrong throughout.

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
        from videorwkv.scoring import autocast, make_dataset, pick_device

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
        with torch.inference_mode(), autocast(device, run.recipe.precision):
            for batch in make_loader(dataset, batch_size=run.recipe.batch_size):
                if batch.inputs is None:
                    continue
                inputs = batch.inputs.to(device)
                looked = look(model, inputs)
                rows = batch.indices.numpy()
                right_B = looked.logits_BTK[:, -1].argmax(-1) == batch.labels
                found[NOTHING][rows] = right_B.double().numpy()
                falling_BL = looked.importance().argsort(dim=1, descending=True, stable=True)
                for share in self.shares:
                    for order in ORDERS:
                        orders = self._orders(order, falling_BL, rows.tolist())
                        for order_BL in orders:
                            said_B = classify(model, inputs, order_BL, share).argmax(-1)
                            found[condition(order, share)][rows] += (
                                said_B == batch.labels
                            ).double().numpy() / len(orders)
        return pack({name: values.tolist() for name, values in found.items()})

    def _orders(self, order: str, falling_BL: Tensor, rows: list[int]) -> list[Tensor]:
        """Tokens in the order in which they are left out, one [B, L] for each draw."""
        if order == "most important":
            return [falling_BL]
        if order == "least important":
            return [falling_BL.flip(1)]
        tokens = falling_BL.shape[1]
        return [
            torch.from_numpy(
                # By clip and draw: the same tokens in every variant and at every share.
                np.stack([np.random.default_rng([row, draw]).permutation(tokens) for row in rows])
            )
            for draw in range(self.draws)
        ]


def condition(order: str, share: float) -> str:
    """Name of a condition of `LeavingOut`."""
    return f"{order}, {100 * share:g} %"


def classify(model: LCR, inputs: Inputs, order_BL: Tensor, share: float) -> Tensor:
    """Logits [B, K], on the CPU, without the first `share` of the tokens in each frame."""
    batch, _, height, width = inputs.edges_BTHW.shape
    state = model.init_state(batch, image_size=(height, width), tube_mask_ratio=share)
    assert state.keep_BK is not None
    kept = state.keep_BK.shape[1]
    keep_BJ = order_BL[:, order_BL.shape[1] - kept :].sort(1).values
    state = state._replace(keep_BK=keep_BJ.to(state.keep_BK.device))
    return model.scan(inputs, state)[0][:, -1].float().cpu()
