"""Studies: a question, variants under an equal budget, and a page with intervals.

`videorwkv study NAME`, or here:

    from videorwkv.study import Accuracy, Study, Variant
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.study.design import Budget as Budget
from videorwkv.study.design import Measured as Measured
from videorwkv.study.design import Study as Study
from videorwkv.study.design import Trained as Trained
from videorwkv.study.design import Variant as Variant
from videorwkv.study.measures import Accuracy as Accuracy

# Name -> module with `STUDY`, in the order of the book.
_NAMES = (*("ablation", "edges", "masking", "balance", "length", "complexity", "order", "maps"),)
STUDIES = {name: f"videorwkv.study.studies.{name}" for name in _NAMES}


def load_study(reference: str | Path) -> Study:
    """A study by its name, or the `STUDY` of a Python file.

    Raises:
        UsageError: no such study or file, or the file defines none.
    """
    name = str(reference)
    if name in STUDIES:
        found: Study = importlib.import_module(STUDIES[name]).STUDY
        return found
    path = Path(reference)
    if path.suffix != ".py":
        raise UsageError(
            f"Unknown study {name!r}. {did_you_mean(name, STUDIES)} Or a Python file of yours."
        )
    if not path.is_file():
        raise UsageError(f"No study at {name!r}.")
    spec = importlib.util.spec_from_file_location(f"videorwkv_study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass of its own looks for itself there
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {type(error).__name__}: {error}.") from error
    own = getattr(module, "STUDY", None)
    if not isinstance(own, Study):
        raise UsageError(f"{path} defines no STUDY; it must end with STUDY = Study(...).")
    return own
