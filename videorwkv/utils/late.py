"""What a room offers and a room above it does: named by the package, imported at its first use.

A model has `from_pretrained`, but what a run is stands above the models. So the package itself
(videorwkv/__init__.py), which knows all rooms, binds the name, and no room imports one above it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES: dict[str, str] = {}


def bind(name: str, home: str) -> None:
    """Let `late(name)` be the module `home`."""
    _HOMES[name] = home


def late(name: str) -> Any:
    """The module that is bound to `name`."""
    return import_module(_HOMES[name])
