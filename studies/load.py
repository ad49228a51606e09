"""Studies by name, and those of a file of yours."""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
import traceback
from pathlib import Path

from studies.design import Study
from videorwkv.errors import UsageError, VideoRWKVError, did_you_mean

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
    spec = importlib.util.spec_from_file_location(f"videorwkv_study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    # A measure is known by its text (`object_key`): by the one that runs here, also if the file is
    # edited meanwhile. Without a time of change, `linecache` does not look at the file again.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    linecache.cache[str(spec.origin)] = (len(lines), None, lines, str(spec.origin))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass of its own looks for itself there
    try:
        spec.loader.exec_module(module)
    except VideoRWKVError:
        raise
    except Exception as error:
        said = error.msg if isinstance(error, SyntaxError) else error  # not the place once more
        words = f"{type(error).__name__}: {said}".rstrip(".: ")
        raise UsageError(f"{path}{_line(error, spec.origin)}: {words}.") from error
    own = getattr(module, "STUDY", None)
    if not isinstance(own, Study):
        raise UsageError(f"{path} defines no STUDY; it must end with STUDY = Study(...).")
    return own


def _line(error: Exception, file: str | None) -> str:
    """`, line 7`: the last line of the file on the way to the error."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    return f", line {lines[-1]}" if lines else ""
