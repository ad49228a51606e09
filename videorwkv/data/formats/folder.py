"""A folder per class: `root/<class>/clip.mp4`, or `root/{train,validation,test}/<class>/clip.mp4`.

A clip is a video file or a folder of JPEG or PNG frames.
"""

from __future__ import annotations

from pathlib import Path

from videorwkv.data.formats.tree import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from videorwkv.data.formats.tree import VIDEO_SUFFIXES as VIDEO_SUFFIXES
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row, make_manifest
from videorwkv.errors import ManifestError

LAYOUTS = {"classes": "<class>/clip.mp4", "splits": "{train,validation,test}/<class>/clip.mp4"}

# Folders with something odd in them that the notes name.
SHOWN = 5


def read(root: Path, layout: str | None = None) -> Manifest:
    """The clips below `root`; `layout` decides where classes are called as splits are.

    Raises:
        ManifestError: no class folder, or no clip in any of them.
    """
    folders = _folders(root)
    if not folders:
        raise ManifestError(
            f"{root}: no class folder in it. One is wanted for each class, with the clips inside: "
            f"{root.name}/<class>/clip.mp4."
        )
    rows: list[Row] = []
    notes: list[str] = []
    # A class may be called `train` beside `car` and `bus`: only split names alone make splits.
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    if layout == "splits" and len(splits) < len(folders):
        strange = next(folder for folder in folders if folder not in splits)
        raise ManifestError(f"{strange}: no split is called so; wanted train, validation or test.")
    if layout != "classes" and len(splits) == len(folders):
        for part in folders:
            for folder in _folders(part):
                _read_class(folder, SPLIT_NAMES[part.name.lower()], rows, notes)
    else:
        for folder in folders:
            _read_class(folder, "", rows, notes)
    if len(notes) > SHOWN:
        # A wrong root may hold thousands of folders without a clip.
        notes[SHOWN:] = [f"and {len(notes) - SHOWN:,} more folders like these"]
    if not rows:
        raise ManifestError(
            f"{root}: no clip in its {len(folders)} folders. Wanted: <class>/clip.mp4 or "
            f"<class>/<clip>/00001.jpg. {' '.join(f'{n}.' for n in notes)}".rstrip()
        )
    return make_manifest("folder", rows, root=root, notes=notes)


def _read_class(folder: Path, split: str, rows: list[Row], notes: list[str]) -> None:
    found: list[Row] = []
    skipped: list[Path] = []
    for item in sorted(folder.iterdir()):
        if item.name.startswith("."):
            continue
        is_clip = _holds_images(item) if item.is_dir() else item.suffix.lower() in VIDEO_SUFFIXES
        if is_clip:
            found.append(Row(str(item), folder.name, split))
        else:
            skipped.append(item)
    rows += found
    if skipped:
        notes.append(
            f"{folder}: {len(skipped)} left out, neither a video nor a folder of frames "
            f"({', '.join(item.name for item in skipped[:3])}{', ...' * (len(skipped) > 3)})"
        )
    elif not found:
        notes.append(f"{folder}: empty")


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _holds_images(folder: Path) -> bool:
    return any(item.suffix.lower() in IMAGE_SUFFIXES for item in folder.iterdir())
