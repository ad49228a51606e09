"""What the runs of a study gave, as tables and sentences ask for it; also of one measure under
several conditions: a clip scored at many lengths, say, in one pass.

S seeds, M clips, N conditions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.design import Measure, Measured, Study, Variant
from studies.plan import Plan, Training
from studies.statistics import Estimate, clips_interval, mean_interval

Outcomes = NDArray[np.float64]


@dataclass(frozen=True)
class Done:
    """A training with all that was measured of it.

    Args:
        training: which one.
        folder: its run.
        record: what study.json says: seconds, steps, parameters, machine.
        measured: name of the measure -> what it gave.
    """

    training: Training
    folder: Path
    record: Mapping[str, Any]
    measured: Mapping[str, Measured]

    def file(self, measure: str, name: str) -> Path:
        """Where a file of a measure lies."""
        return self.folder / self.measured[measure].files[name]


@dataclass(frozen=True)
class Results:
    """All of a study.

    Args:
        study: what was asked.
        plan: what was trained.
        done: every training.
        probes: name of the probe -> its values.
        times: name of the variant -> milliseconds a frame, the median and the least.
        machine: where it ran, and with which versions.
    """

    study: Study
    plan: Plan
    done: tuple[Done, ...]
    probes: Mapping[str, Mapping[str, Any]]
    times: Mapping[str, Mapping[str, float]]
    machine: Mapping[str, str]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Those that were trained, in the study's order."""
        return self.plan.variants

    @property
    def measures(self) -> tuple[Measure, ...]:
        return self.plan.measures

    def of(self, variant: str) -> tuple[Done, ...]:
        """The trainings of a variant by seed, then fold."""
        found = [done for done in self.done if done.training.variant == variant]
        return tuple(sorted(found, key=lambda done: (done.training.seed, done.training.fold)))

    def clips(self, variant: str, measure: str) -> NDArray[np.float64] | None:
        """Outcomes [S, M], the folds' clips one after the other; None without clips.

        Of a training that ended in NaN no clip is right.
        """
        sizes = {
            done.training.fold: len(done.measured[measure].clips)
            for done in self.done
            if done.measured[measure].clips
        }
        by_seed: dict[int, list[float]] = {}
        for done in self.of(variant):
            found = done.measured[measure]
            outcomes = found.clips
            if not outcomes and found.value == 0 and done.record["failure"]:
                outcomes = (0.0,) * sizes.get(done.training.fold, 0)
            if not outcomes:
                return None
            by_seed.setdefault(done.training.seed, []).extend(outcomes)
        return np.array(list(by_seed.values()))

    def values(self, variant: str, measure: str) -> list[float]:
        """One value a seed: the mean over its folds' clips, or over its folds; NaN if unknown."""
        clips_SM = self.clips(variant, measure)
        if clips_SM is not None:
            return [float(value) for value in clips_SM.mean(1)]
        by_seed: dict[int, list[float]] = {}
        for done in self.of(variant):
            by_seed.setdefault(done.training.seed, []).append(done.measured[measure].value)
        return [float(np.mean(values)) for values in by_seed.values()]

    def known(self, variant: str, measure: str) -> list[float]:
        """`values` without those that are unknown."""
        return [value for value in self.values(variant, measure) if not math.isnan(value)]

    def estimate(self, variant: str, measure: str) -> Estimate:
        """Mean over seeds and clips with its interval."""
        clips_SM = self.clips(variant, measure)
        if clips_SM is not None:
            return clips_interval(clips_SM)
        return mean_interval(self.known(variant, measure))

    def difference(
        self, variant: str, reference: str, measure: str, reference_measure: str | None = None
    ) -> Estimate:
        """`variant` minus `reference`, paired by seed, and by clip where both saw the same clips.

        Args:
            variant, reference: names.
            measure: name.
            reference_measure: another one for the reference, such as the same clips forwards.
        """
        other = reference_measure or measure
        a_SM, b_SM = self.clips(variant, measure), self.clips(reference, other)
        if a_SM is not None and b_SM is not None and a_SM.shape == b_SM.shape:
            return clips_interval(a_SM - b_SM)
        return mean_interval(self.differences(variant, reference, measure, other))

    def differences(
        self, variant: str, reference: str, measure: str, reference_measure: str | None = None
    ) -> list[float]:
        """`variant` minus `reference`, one value for each seed of which both are known."""
        other = self.values(reference, reference_measure or measure)
        pairs = zip(self.values(variant, measure), other, strict=True)
        return [a - b for a, b in pairs if not math.isnan(a - b)]

    def parts(self, variant: str, measure: str) -> dict[str, list[float]]:
        """Part (a class, say) -> one value for each training."""
        found: dict[str, list[float]] = {}
        for done in self.of(variant):
            for name, value in done.measured[measure].parts.items():
                found.setdefault(name, []).append(value)
        return found

    def parameters(self, variant: str) -> int:
        return int(self.of(variant)[0].record["parameters"])

    def macs(self, variant: str) -> int:
        """Multiply-accumulates of a frame."""
        return int(self.of(variant)[0].record["macs_per_frame"])

    def training_time(self, variant: str) -> float:
        """CPU seconds of a training, the mean; NaN where all were resumed at their end."""
        seconds = [done.record["cpu_seconds"] for done in self.of(variant)]
        known = [value for value in seconds if value is not None]
        return float(np.mean(known)) if known else math.nan


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
