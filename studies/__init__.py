"""Studies: a question, variants under an equal budget, and a page with intervals.

`videorwkv study NAME`, or here:

    from studies import Accuracy, Study, Variant

They stand beside the package: nothing of it needs them. The names below are imported on first use.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.design import Budget as Budget
    from studies.design import Measured as Measured
    from studies.design import Study as Study
    from studies.design import Trained as Trained
    from studies.design import Variant as Variant
    from studies.load import STUDIES as STUDIES
    from studies.load import load_study as load_study
    from studies.measures import Accuracy as Accuracy

_HOMES = {
    **dict.fromkeys(("Budget", "Measured", "Study", "Trained", "Variant"), "design"),
    **dict.fromkeys(("STUDIES", "load_study"), "load"),
    "Accuracy": "measures",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'studies' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"studies.{_HOMES[name]}"), name)


# Studies of users import it under the name that it had in version 0.1.
sys.modules.setdefault("videorwkv.study", sys.modules[__name__])
