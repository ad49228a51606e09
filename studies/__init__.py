"""Studies: a question, variants under an equal budget, and a page with intervals.

`videorwkv study NAME`, or here:

    from studies import Accuracy, Study, Variant

They stand beside the package: nothing of it needs them. The names below are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from videorwkv.utils.moved import alias

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


# Studies of users import these as `videorwkv.study.OLD`, their names in version 0.1, until 0.3.
_MOVED = {
    **{"book": "index", "changes": "corruptions", "page": "report", "running": "lengths"},
    **{"chance": "compare", "conditions": "results", "formula": "scaling", "joint": "scaling"},
    **dict.fromkeys(("leaving_out", "looking", "occlusion"), "attribution"),
}
_SAME = (
    *("compare", "data", "design", "extraction", "map_pictures", "masks", "measures", "pictures"),
    *("plan", "report", "results", "runner", "scaling", "sentences", "statistics", "timing"),
)
_QUESTIONS = ("ablation", "balance", "complexity", "edges", "length", "maps", "masking", "order")
_MOVED |= {name: name for name in _SAME}
_MOVED |= {f"studies.{name}": f"questions.{name}" for name in _QUESTIONS}
alias("videorwkv.study", "studies")
alias("videorwkv.study.studies")
for _old, _new in _MOVED.items():
    alias(f"videorwkv.study.{_old}", f"studies.{_new}")
