"""Python files of the user's: presets, edge methods, recipes and studies of their own."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import traceback
from pathlib import Path
from types import ModuleType

from videorwkv.errors import UsageError, VideoRWKVError


def import_file(path: str | Path, prefix: str = "videorwkv_own_") -> ModuleType:
    """Run a Python file as a module named `prefix` and the file's stem.

    Raises:
        UsageError: there is no such file, or it fails; the message names file, line and error.
        VideoRWKVError: what the file raises of the package's own.
    """
    path = Path(path)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"{path}: wanted a Python file, name.py, that exists.")
    spec = importlib.util.spec_from_file_location(f"{prefix}{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    # A function is known by its text: by the one that runs here, also if the file is edited
    # meanwhile. Without a time of change, `linecache` does not look at the file again.
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
    return module


def _line(error: Exception, file: str | None) -> str:
    """`, line 7`: the last line of the file on the way to the error."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    return f", line {lines[-1]}" if lines else ""
