"""Does the class hang on the tokens that the maps name? Leave them out and see.

B batch, L tokens of a frame, J those that stay, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studies.attribution import look
from studies.conditions import pack
from studies.design import Measured, Trained
from studies.occlusion import occlude, scan_some
from videorwkv.errors import ConfigError
from videorwkv.models import LCR, Inputs

MOST, RANDOM, LEAST = "most important", "random", "least important"
ORDERS = (MOST, RANDOM, LEAST, "most evidence", "least evidence")
NOTHING = "nothing"


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
