"""How well a few examples of each class name other clips, by their vectors.

N known and M asked vectors, E features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DataError, UsageError
from videorwkv.utils.words import counted


class FewShots(NamedTuple):
    """How well a few examples of each class do.

    Args:
        shots: examples of a class.
        accuracy: mean over the draws of examples.
        lowest, highest: over the draws.
        draws: how often examples were drawn.
        clips: that were named.
    """

    shots: int
    accuracy: float
    lowest: float
    highest: float
    draws: int
    clips: int

    def summary(self) -> str:
        """One line."""
        return (
            f"{counted(self.shots, 'example')} a class: {self.accuracy:.4f} (of {self.draws} draws "
            f"{self.lowest:.4f} to {self.highest:.4f}, {counted(self.clips, 'clip')})"
        )


def few_shots(
    known_NE: NDArray[np.float32],
    known_labels: Sequence[str],
    asked_ME: NDArray[np.float32],
    asked_labels: Sequence[str],
    shots: Sequence[int],
    *,
    draws: int = 20,
    seed: int = 0,
) -> list[FewShots]:
    """Name clips by the class whose mean of a few examples is nearest by cosine, as in prototypical
    networks (Snell et al. 2017) without their training.

    Features are centred and scaled by what all known clips are like, without their labels.

    Args:
        known_NE: vectors that examples are drawn from.
        known_labels: N.
        asked_ME: vectors to be named.
        asked_labels: M.
        shots: examples of a class, 1 or more each.
        draws: how often they are drawn.
        seed: of the draws.

    Raises:
        UsageError: no shots, or below 1.
        DataError: a class that is asked for has fewer examples.
    """
    if not shots or min(shots) < 1:
        raise UsageError(f"shots {tuple(shots)}: wanted numbers of examples of 1 or more.")
    classes, known = np.unique(np.asarray(known_labels), return_inverse=True)
    absent = sorted(set(asked_labels) - set(classes.tolist()))
    if absent or not len(asked_labels):
        raise DataError(
            f"No example of {absent[0]!r}, which is asked for."
            if absent
            else "No clip is asked for."
        )
    counts = np.bincount(known)
    if counts.min() < max(shots):
        few = classes[counts.argmin()]
        raise DataError(
            f"{few!r} has {counted(int(counts.min()), 'example')}, {max(shots)} are wanted; ask "
            f"for {counts.min()} at most."
        )
    asked = np.searchsorted(classes, np.asarray(asked_labels))
    mean_E, scale_E = known_NE.mean(0), known_NE.std(0) + 1e-6
    known_NE, asked_ME = ((x - mean_E) / scale_E for x in (known_NE, asked_ME))
    asked_ME = asked_ME / (np.linalg.norm(asked_ME, axis=1, keepdims=True) + 1e-6)
    places = [np.flatnonzero(known == k) for k in range(len(classes))]
    found = []
    for count in shots:
        rng = np.random.default_rng([seed, count])
        accuracies = []
        for _ in range(draws):
            mean_KE = np.stack(
                [known_NE[rng.choice(p, count, replace=False)].mean(0) for p in places]
            )
            mean_KE /= np.linalg.norm(mean_KE, axis=1, keepdims=True) + 1e-6
            accuracies.append(float(((asked_ME @ mean_KE.T).argmax(1) == asked).mean()))
        found.append(
            FewShots(
                *(count, float(np.mean(accuracies)), min(accuracies), max(accuracies)),
                *(draws, len(asked)),
            )
        )
    return found
