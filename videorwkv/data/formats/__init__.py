"""One reader a layout: root -> `Manifest`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from videorwkv.data.formats import csv, folder
from videorwkv.data.manifest import Manifest

READERS: dict[str, Callable[[Path], Manifest]] = {"folder": folder.read, "csv": csv.read}
