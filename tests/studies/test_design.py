"""What a study of the user's own may say, and what it is told where it may not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from studies import Accuracy, Measured, Study, Variant
from videorwkv.errors import ConfigError


class Plain:
    name = "latency"
    unit = "ms"
    lower_is_better = True
    needs_generated = False

    def measure(self, trained: Any) -> Measured:
        return Measured(1.0)


@dataclass(frozen=True)
class Latency(Plain):
    """The same, as it has to be."""


def study(*variants: Variant, name: str = "mine", **options: Any) -> Study:
    return Study(name, question="?", variants=variants or (Variant("a"),), **options)


@pytest.mark.parametrize("name", ["a/b", "", "index", "two words", "../x"])
def test_a_name_that_is_no_name_of_a_page(name: str) -> None:
    with pytest.raises(ConfigError, match="its page bears the name"):
        study(name=name)


def test_measures_are_looked_at_before_anything_is_trained() -> None:
    assert len(study(measures=(Latency(), Accuracy())).measures) == 2
    with pytest.raises(ConfigError, match=r"Put @dataclass\(frozen=True\) above"):
        study(measures=(Plain(),))
    with pytest.raises(ConfigError, match="two measures are called 'accuracy'"):
        study(measures=(Accuracy(), Accuracy(label="accuracy", frames=2)))

    @dataclass(frozen=True)
    class Half:
        name = "half"

    with pytest.raises(ConfigError, match="Half has no unit, lower_is_better, needs_gen"):
        study(measures=(Half(),))


def test_a_quick_study_has_all_that_its_variants_are_compared_with() -> None:
    with pytest.raises(ConfigError, match="first variant can't be full_only"):
        study(Variant("a", full_only=True))
    with pytest.raises(ConfigError, match="'b', which it is compared with, is not"):
        study(Variant("a"), Variant("b", full_only=True), Variant("c", against="b"))


def test_measured_takes_what_numpy_gives() -> None:
    found = Measured(np.float32(0.5), tuple(np.ones(2, np.float32)), {"a": np.float64(1)})
    assert json.loads(json.dumps(found.to_dict())) == {
        "value": 0.5, "clips": [1.0, 1.0], "parts": {"a": 1.0}, "files": {},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="NaN or infinite"):
        Measured(0.5, (1.0, float("nan")))
