"""Results that were never trained: outcomes of clips as a test wants them. S seeds, M clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from studies import load_study, timing
from studies.results import Results

SEEDS, CLIPS = 3, 200


@dataclass(frozen=True)
class FakeResults(Results):
    """Shares of right clips by (variant, measure), alike for all seeds; else those of `plain`."""

    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)
    plain: float = 0.8
    classes: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def variants(self) -> Any:
        return tuple(v for v in self.study.variants if not self.names or v.name in self.names)

    def clips(self, variant: str, measure: str) -> NDArray[np.float64]:
        right = round(self.shares.get((variant, measure), self.plain) * CLIPS)
        clips_M = (np.arange(CLIPS) < right).astype(float)
        return np.tile(clips_M, (SEEDS, 1))

    def of(self, variant: str) -> Any:
        model = SimpleNamespace(num_classes=self.classes.get(variant, 8))
        return (SimpleNamespace(training=SimpleNamespace(recipe=SimpleNamespace(model=model))),)


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is called a few times only: no test asks how long it takes."""
    whole = timing.interleaved

    def few(cases: Any, *, seconds: float, least: int = 5) -> Any:
        return whole(cases, seconds=0.0, least=1)

    monkeypatch.setattr(timing, "interleaved", few)


def results(study: str, shares: Mapping[tuple[str, str], float], **options: Any) -> FakeResults:
    empty: Any = None
    return FakeResults(load_study(study), empty, (), {}, {}, {}, shares=shares, **options)
