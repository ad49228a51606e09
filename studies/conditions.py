"""One measure under several conditions: a clip scored at many lengths, say, in one pass.

S seeds, M clips, N conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from studies.design import Measured
from studies.results import Results
from studies.statistics import Estimate, clips_interval

Outcomes = NDArray[np.float64]


def pack(outcomes: Mapping[str, Sequence[float]]) -> Measured:
    """Outcomes of the same clips, by condition -> a measure's result.

    Its parts are the means of the conditions, its value is the mean of those, and its clips are
    all outcomes, one condition after the other.
    """
    parts = {name: float(np.mean(values)) for name, values in outcomes.items()}
    clips = tuple(float(value) for values in outcomes.values() for value in values)
    return Measured(float(np.mean(clips)), clips, parts)


def unpack(results: Results, variant: str, measure: str) -> dict[str, Outcomes]:
    """Condition -> outcomes [S, M], the folds' clips one after the other.

    A training that ended in NaN measured nothing: its outcomes are zero.
    """
    names: list[str] = []
    for other in results.variants:
        for done in results.of(other.name):
            names = names or list(done.measured[measure].parts)
    sizes: dict[int, int] = {}
    for other in results.variants:
        for done in results.of(other.name):
            if done.measured[measure].parts:
                sizes[done.training.fold] = len(done.measured[measure].clips) // len(names)
    by_seed: dict[int, list[Outcomes]] = {}
    for done in results.of(variant):
        found = done.measured[measure]
        values_NM = np.zeros((len(names), sizes.get(done.training.fold, 0)))
        if found.parts:
            values_NM = np.array(found.clips).reshape(len(names), -1)
        by_seed.setdefault(done.training.seed, []).append(values_NM)
    values_SNM = np.stack([np.concatenate(folds, axis=1) for folds in by_seed.values()])
    return {name: values_SNM[:, i] for i, name in enumerate(names)}


def difference(a_SM: Outcomes, b_SM: Outcomes) -> Estimate:
    """`a` minus `b` with its interval, paired by seed and by clip."""
    return clips_interval(a_SM - b_SM)


def cell(values_SM: Outcomes) -> str:
    """`90.3 [79.3, 100.0]`: an accuracy in per cent; its interval ends where accuracies do."""
    estimate = clips_interval(values_SM).possible()
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
