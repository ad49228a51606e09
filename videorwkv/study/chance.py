"""Whether a default has learned at all: below that, differences between variants mean nothing."""

from __future__ import annotations

from videorwkv.study.design import Measure
from videorwkv.study.results import Results


def chance(results: Results, variant: str) -> float:
    """Accuracy of a guess: one over the number of classes."""
    return 1 / results.of(variant)[0].training.recipe.model.num_classes


def unlearned(results: Results, variant: str, measure: Measure) -> list[str]:
    """A warning for the page where a variant is not shown to beat chance; else nothing."""
    estimate, level = results.estimate(variant, measure.name), chance(results, variant)
    # With two seeds an interval may hold chance though every clip of both speaks against it.
    if estimate.low > level or estimate.value > 2 * level:
        return []
    return [
        f"{variant} reaches {100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, "
        f"{100 * estimate.high:.1f}], chance is {100 * level:.1f} %: it has hardly learned at this "
        "budget, so comparisons with it say little."
    ]
