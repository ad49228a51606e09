"""Modules under the name that they had before, for one version."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any


class _Alias(ModuleType):
    """Stands for a module that has another name now; says so when something is taken from it."""

    def __init__(self, old: str, new: str | None) -> None:
        super().__init__(old, f"Moved to {new}." if new else None)
        self._new = new
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self._new is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        warnings.warn(
            f"{self.__name__} is now {self._new}; the old name goes with version 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(self._new), name)


def alias(old: str, new: str | None = None) -> None:
    """Let `from OLD import name` give what the module `new` has; nothing is imported before.

    Args:
        old: the name of a module that is no more.
        new: what it is called now; None: it holds other aliases and nothing else.
    """
    sys.modules.setdefault(old, _Alias(old, new))
