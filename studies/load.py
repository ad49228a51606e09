"""Studies by name, and those of a file of yours."""

from __future__ import annotations

import importlib
from pathlib import Path

from studies.design import Study
from videorwkv.errors import UsageError, did_you_mean
from videorwkv.utils.imports import import_file

# Name -> module with `STUDY`, in the order of the book.
_NAMES = ("ablation", "edges", "masking", "balance", "length", "complexity", "order", "maps")
STUDIES = {name: f"studies.questions.{name}" for name in _NAMES}


def load_study(reference: str | Path) -> Study:
    """A study by its name, or the `STUDY` of a Python file.

    Raises:
        UsageError: no such study or file, or the file defines none or fails.
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
    module = import_file(path, "videorwkv_study_")
    own = getattr(module, "STUDY", None)
    if not isinstance(own, Study):
        raise UsageError(f"{path} defines no STUDY; it must end with STUDY = Study(...).")
    return own
