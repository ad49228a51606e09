"""A folder per class: `root/<class>/clip.mp4`, or `root/{train,validation,test}/<class>/clip.mp4`.

A clip is a video file or a folder of JPEG, PNG, BMP or WebP frames, which may lie in a folder `rgb`
or `frames` in it. Beside splits, a folder of annotations is skipped, and any that holds neither a
video nor a folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from videorwkv.data.formats.rows import check_spelling
from videorwkv.data.formats.tree import ANNOTATION_FOLDERS, Tree, is_video
from videorwkv.data.manifest import SPLIT_NAMES, Manifest, Row, make_manifest
from videorwkv.errors import ManifestError
from videorwkv.utils.words import counted
from videorwkv.video.base import IMAGE_SUFFIXES
from videorwkv.video.frames_folder import frame_series, not_read, several_series

LAYOUTS = {"classes": "<class>/clip.mp4", "splits": "{train,validation,test}/<class>/clip.mp4"}

# What the folder of a clip's frames is called beside others, of flow for example.
FRAME_FOLDERS = frozenset({"rgb", "frames", "frame", "images", "image", "img", "color", "colour"})
# Folders with something odd in them that the notes name.
SHOWN = 5


def read(root: Path, layout: str | None = None) -> Manifest:
    """The clips below `root`; `layout` decides where classes have the names of splits.

    Raises:
        ManifestError: no class folder, no clip in any of them, or a folder that can't be listed.
    """
    tree = Tree(root)
    folders = _folders(tree, root)
    if not folders:
        raise ManifestError(
            f"{root}: no class folder in it. One is wanted for each class, with the clips inside: "
            f"{root.name}/<class>/clip.mp4."
        )
    rows: list[Row] = []
    notes: list[str] = []
    # Lists beside the splits are no class.
    parts = [folder for folder in folders if folder.name.lower() not in ANNOTATION_FOLDERS]
    # A class may be called `train` beside `car` and `bus`: only split names alone make splits.
    strange = [folder for folder in parts if folder.name.lower() not in SPLIT_NAMES]
    splits = [folder for folder in parts if folder.name.lower() in SPLIT_NAMES]
    if layout != "classes" and any(tree.entries(folder).folders for folder in splits):
        idle = [folder for folder in strange if not _may_hold_clips(tree, folder)]
        strange = [folder for folder in strange if folder not in idle]
        if not strange:
            parts = splits
            notes += [f"{folder}: skipped, neither a video nor a folder in it" for folder in idle]
    if layout == "splits" and (strange or not parts):
        folder = (strange or folders)[0]
        raise ManifestError(
            f"{folder}: unknown split folder {folder.name!r}; wanted train, validation or test."
        )
    _note_loose(tree, root, notes)
    if layout != "classes" and parts and not strange:
        for part in parts:
            _note_loose(tree, part, notes)
            for folder in _folders(tree, part):
                _read_class(tree, folder, SPLIT_NAMES[part.name.lower()], rows, notes)
    else:
        for folder in folders:
            _read_class(tree, folder, "", rows, notes)
    if len(notes) > SHOWN:
        # A wrong root may hold thousands of folders without a clip.
        notes[SHOWN:] = [f"and {len(notes) - SHOWN:,} more folders like these"]
    if not rows:
        raise ManifestError(
            f"{root}: no clip in its {len(folders)} folders. Wanted: <class>/clip.mp4 or "
            f"<class>/<clip>/00001.jpg. {' '.join(f'{n}.' for n in notes)}".rstrip()
        )
    check_spelling({row.label or "": os.path.dirname(row.path) for row in rows}.items())
    return make_manifest("folder", rows, root=root, notes=notes)


def _may_hold_clips(tree: Tree, folder: Path) -> bool:
    entries = tree.entries(folder)
    return bool(entries.folders) or any(map(is_video, entries.files))


def _read_class(tree: Tree, folder: Path, split: str, rows: list[Row], notes: list[str]) -> None:
    found: list[Row] = []
    skipped: list[str] = []
    nested: list[str] = []
    deeper: list[str] = []
    images: list[str] = []
    entries = tree.entries(folder)
    is_folder = {**dict.fromkeys(entries.files, False), **dict.fromkeys(entries.folders, True)}
    for name in sorted(is_folder):
        if not is_folder[name]:
            if is_video(name):
                found.append(Row(str(folder / name), folder.name, split))
            else:
                (images if _is_image(name) else skipped).append(name)
        elif _holds_images(folder / name):
            found.append(Row(str(folder / name), folder.name, split))
        elif any(map(is_video, tree.entries(folder / name).files)):
            nested.append(name)
        else:
            inner = _frame_folders(tree, folder / name)
            if len(inner) == 1:
                found.append(Row(str(folder / name / inner[0]), folder.name, split))
            else:
                (deeper if inner else skipped).append(name)
    _look_at_frames(found, notes)
    rows += found
    if len(images) > 1 or (images and not found):
        clip = re.sub(r"[-_ .]*\d+$", "", os.path.splitext(images[0])[0]) or "clip1"
        place = f"{folder.name}/{clip}/{images[0]}"
        notes.append(
            f"{folder}: {len(images)} images skipped, in no folder of their clip {_some(images)}: "
            f"put the frames of each clip into a folder of its own, {place}"
        )
    else:
        skipped += images
    if deeper:
        notes.append(
            f"{folder}: {len(deeper)} skipped, with several folders of frames in them "
            f"{_some(deeper)}: list those that are clips in a CSV, or put the frames into "
            f"{deeper[0]} itself or a folder rgb in it"
        )
    if nested:
        what = "a folder of videos" if len(nested) == 1 else "folders of videos"
        notes.append(
            f"{folder}: {len(nested)} skipped, {what} {_some(nested)}: put the videos into "
            f"{folder.name} itself or list them in a CSV; or give {folder} as the data if "
            "its folders are the classes"
        )
    if skipped:
        notes.append(
            f"{folder}: {len(skipped)} skipped, neither a video nor a folder of frames "
            f"{_some(skipped)}"
        )
    elif not (found or nested or deeper or images):
        notes.append(f"{folder}: empty")


def _frame_folders(tree: Tree, clip: Path) -> list[str]:
    """The folders of frames in a clip's folder; the one that is called so, if there is one."""
    inner = [name for name in tree.entries(clip).folders if _holds_images(clip / name)]
    named = [name for name in inner if name.lower() in FRAME_FOLDERS]
    return named if len(named) == 1 else inner


def _note_loose(tree: Tree, folder: Path, notes: list[str]) -> None:
    """Notes the videos that lie beside class folders."""
    videos = [name for name in tree.entries(folder).files if is_video(name)]
    if videos:
        notes.append(
            f"{folder}: {counted(len(videos), 'video')} skipped, in no class folder {_some(videos)}"
        )


def _some(names: list[str]) -> str:
    return f"({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def _folders(tree: Tree, root: Path) -> list[Path]:
    return [root / name for name in tree.entries(root).folders]


def _look_at_frames(found: Sequence[Row], notes: list[str]) -> None:
    """Note what lies beside the frames of the first clip, as in all of a data set.

    Raises:
        ManifestError: it holds several series of frames.
    """
    first = next((row.path for row in found if not is_video(row.path)), None)
    if first is None:
        return
    series = frame_series(Path(first))
    if series.clash:
        raise ManifestError(f"{first}: {several_series(series.clash)}.")
    if series.left_out:
        note = not_read(series.left_out)
        if not any(note in other for other in notes):
            notes.append(f"{first}: {note}")


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _holds_images(folder: Path) -> bool:
    """Up to the first one: a folder of frames may hold thousands, which nobody asks for again."""
    try:
        with os.scandir(folder) as found:
            names = (one.name for one in found if not one.name.startswith("."))
            return any(map(_is_image, names))
    except OSError as error:
        raise ManifestError(f"{folder}: can't be listed: {error.strerror}.") from error
