"""What has to be said before any comparison: at chance, differences mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

from studies import sentences
from studies.design import Measure
from studies.results import Results


def chance(results: Results, variant: str) -> float:
    """Accuracy of a guess: one over the number of classes."""
    return 1 / results.of(variant)[0].training.recipe.model.num_classes


def cautions(results: Results, variants: Sequence[str], measure: Measure) -> list[str]:
    """What a reader has to know first: one seed alone, or a default that did not learn."""
    found = []
    if len(results.values(variants[0], measure.name)) == 1:
        found.append(
            "One seed: the intervals hold what other clips would change, not what another training "
            "would."
        )
    return found + [text for variant in variants for text in _unlearned(results, variant, measure)]


def _unlearned(results: Results, variant: str, measure: Measure) -> list[str]:
    estimate, level = results.estimate(variant, measure.name), chance(results, variant)
    # With two seeds an interval may hold chance though both are far above it.
    if estimate.low > level or estimate.value > level + 0.25 * (1 - level):
        return []
    return [
        f"{variant} reaches {sentences.with_interval(estimate, 'share')}, chance is "
        f"{100 * level:.1f} %: it has hardly learned at this budget, so comparisons with it say "
        "little."
    ]
