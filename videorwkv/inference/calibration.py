"""How far a model's probabilities can be trusted: expected calibration error, temperature, and the
probability from which on a class is named. K classes, N clips, M bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import background_places
from videorwkv.errors import DataError, UsageError
from videorwkv.inference.kept import Kept
from videorwkv.utils.interval import interval_text
from videorwkv.utils.values import brief
from videorwkv.utils.words import counted

BINS = 15
# Share of the clips that are recognised and must stay named.
KEEP = 0.95
# Beyond these a temperature says that the model is useless, and no search is needed.
COLDEST, HOTTEST = 0.05, 20.0
_GOLDEN = (math.sqrt(5) - 1) / 2


def calibration_error(
    scores_NK: NDArray[np.float64], truth_N: NDArray[np.int64], bins: int = BINS
) -> float:
    """Expected calibration error: the mean distance between how sure a model is and how often it is
    right, over M bins of equal width, each weighted by its clips (Naeini et al. 2015; M = 15 as in
    Guo et al. 2017, arXiv 1706.04599).

    Args:
        scores_NK: probabilities.
        truth_N: numbers of the true classes.
        bins: M; bin m holds the clips whose highest probability lies in ((m-1)/M, m/M].

    Returns:
        In [0, 1]; NaN without clips.
    """
    if not len(truth_N):
        return math.nan
    sure_N = scores_NK.max(1)
    right_N = scores_NK.argmax(1) == truth_N
    place_N = np.clip(np.ceil(sure_N * bins) - 1, 0, bins - 1).astype(int)
    gap_M = np.bincount(place_N, sure_N - right_N, minlength=bins)
    return float(np.abs(gap_M).sum() / len(truth_N))


def tempered(scores_K: NDArray[Any], temperature: float) -> NDArray[Any]:
    """Probabilities [..., K] as of logits that were divided by a temperature: above 1 less sure,
    below 1 surer, always in the same order."""
    if temperature == 1.0:
        return scores_K
    tiny = np.finfo(scores_K.dtype).tiny
    logits_K = np.log(np.maximum(scores_K, tiny)) / temperature
    powers_K = np.exp(logits_K - logits_K.max(-1, keepdims=True))
    found: NDArray[Any] = (powers_K / powers_K.sum(-1, keepdims=True)).astype(scores_K.dtype)
    return found


def fit_temperature(scores_NK: NDArray[np.float64], truth_N: NDArray[np.int64]) -> float:
    """The temperature that makes the true classes most likely (Guo et al. 2017).

    The negative logarithm of the likelihood is convex in 1 / temperature, and so has one minimum.
    """
    rows_N = np.arange(len(truth_N))

    def loss(log_temperature: float) -> float:
        own_N = tempered(scores_NK, math.exp(log_temperature))[rows_N, truth_N]
        return -float(np.log(np.maximum(own_N, 1e-12)).mean())

    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(60):  # golden section: to 1e-12 of the range
        step = _GOLDEN * (high - low)
        if loss(high - step) <= loss(low + step):
            high = low + step
        else:
            low = high - step
    return math.exp((low + high) / 2)


def choose_threshold(
    scores_NK: NDArray[np.float64], truth_N: NDArray[np.int64], keep: float = KEEP
) -> float:
    """The highest threshold at which a share `keep` of the clips that are recognised stays named.

    Args:
        scores_NK: probabilities.
        truth_N: numbers of the true classes.
        keep: in (0, 1].

    Raises:
        DataError: not one clip is recognised.
    """
    right_N = scores_NK.argmax(1) == truth_N
    sure_N = np.sort(scores_NK.max(1)[right_N])[::-1]
    if not len(sure_N):
        raise DataError(
            "No clip is recognised, so no threshold can be chosen: train longer, or evaluate on "
            "clips of the classes that the run knows."
        )
    chosen = float(sure_N[math.ceil(keep * len(sure_N)) - 1])
    # A little below, as the file rounds: the clip that decides stays named.
    return math.floor(chosen * 1e4) / 1e4


class Chosen(NamedTuple):
    """What of a `Calibration` is needed to use a model.

    Args:
        temperature: divides the logits.
        threshold: probability, after that, from which on a class is named.
    """

    temperature: float
    threshold: float

    @classmethod
    def parse(cls, values: Any) -> Chosen | None:
        """Out of an exported file's metadata; None where nothing was chosen; `ValueError` else."""
        if values is None:
            return None
        try:
            found = cls(float(values["temperature"]), float(values["threshold"]))
        except (LookupError, TypeError) as error:
            raise ValueError(f"calibration: got {brief(values)}; allowed: two numbers") from error
        if not COLDEST / 2 <= found.temperature <= HOTTEST * 2:
            raise ValueError(
                f"calibration.temperature: got {found.temperature}; allowed: {COLDEST / 2} to "
                f"{HOTTEST * 2}"
            )
        if not 0 <= found.threshold <= 1:
            raise ValueError(f"calibration.threshold: got {found.threshold}; allowed: 0 to 1")
        return found


@dataclass(frozen=True, kw_only=True)
class Calibration(Kept):
    """The temperature and the threshold that were chosen on validation clips.

    Args:
        temperature: divides the logits.
        threshold: probability, after that, from which on a class is named.
        keep: share of the recognised clips that were to stay named.
        labels, weights_sha256, data: as in `Kept`.
        clips: how many they were.
        recognised: how many of them were recognised without a threshold, those of a background
            class aside.
        wrongly_named: how many of the others are named all the same.
        error_before: expected calibration error at temperature 1.
        error_after: the same at `temperature`, on the clips that chose it.
    """

    NAME = "calibration"

    temperature: float
    threshold: float
    keep: float
    clips: int
    recognised: int
    wrongly_named: int
    error_before: float
    error_after: float

    def __post_init__(self) -> None:
        if not COLDEST / 2 <= self.temperature <= HOTTEST * 2:
            raise UsageError(f"temperature ({self.temperature}) is none that is ever chosen.")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold ({self.threshold}) must lie in [0, 1].")

    @classmethod
    def choose(
        cls,
        scores_NK: NDArray[np.float64],
        truth_N: NDArray[np.int64],
        *,
        labels: Sequence[str],
        weights_sha256: str,
        data: Mapping[str, str],
        keep: float = KEEP,
    ) -> Calibration:
        """Fit the temperature, then choose the threshold; see `choose_threshold` for the errors.

        Raises:
            UsageError: `keep` outside of (0, 1].
        """
        if not 0 < keep <= 1:
            raise UsageError(f"--keep-recall {keep}: a share above 0, at most 1.")
        temperature = round(fit_temperature(scores_NK, truth_N), 4)
        fitted_NK = tempered(scores_NK, temperature)
        # A background class is never named, so no threshold keeps or prevents that.
        action_N = ~np.isin(fitted_NK.argmax(1), background_places(labels))
        threshold = choose_threshold(fitted_NK[action_N], truth_N[action_N], keep)
        right_N = fitted_NK.argmax(1) == truth_N
        named_N = (fitted_NK.max(1) >= threshold) & action_N
        return cls(
            temperature=temperature,
            threshold=threshold,
            keep=keep,
            labels=tuple(labels),
            weights_sha256=weights_sha256,
            data=dict(data),
            clips=len(truth_N),
            recognised=int((right_N & action_N).sum()),
            wrongly_named=int((named_N & ~right_N).sum()),
            error_before=round(calibration_error(scores_NK, truth_N), 4),
            error_after=round(calibration_error(fitted_NK, truth_N), 4),
        )

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.temperature, self.threshold)

    def summary(self) -> str:
        """What was chosen, and on what, in two lines."""
        named = interval_text(self.recognised, self.clips)
        wrong = self.clips - self.recognised
        return (
            f"threshold {self.threshold:.4f} at temperature {self.temperature:.3f}: "
            f"{self.keep:.0%} of the {counted(self.recognised, 'recognised clip')} stay named "
            f"({named} recognised), and {self.wrongly_named} of the {wrong} others\n"
            f"expected calibration error {self.error_before:.3f}, and {self.error_after:.3f} at "
            "that temperature, on the clips that chose it"
        )
