"""Clips anywhere below a folder, whose names say what they show: `--label-by REGEX`.

ROOT/S001C001P001R001A007_rgb.avi        NTU RGB+D: --label-by 'A(\\d{3})'
ROOT/day1/anna-waving-03.mp4             --label-by '-([a-z]+)-'
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from videorwkv.data.folds import group_pattern
from videorwkv.data.formats.label_names import count_labels, read_label_names
from videorwkv.data.formats.rows import check_labels
from videorwkv.data.formats.tree import Tree, is_video
from videorwkv.data.manifest import Manifest, Row, make_manifest
from videorwkv.errors import ManifestError
from videorwkv.video.base import IMAGE_SUFFIXES

# Folders below each other that are looked into.
DEPTH = 8


def read(root: Path, label_by: str, label_names: Path | None = None) -> Manifest:
    """The videos below `root`, and the folders of frames; the first capture group of `label_by`,
    searched for in each path below `root`, is the label.

    Raises:
        UsageError: not a regular expression, or one without a capture group.
        ManifestError: no clip, one whose path has no label, or labels that are not what they seem.
    """
    pattern = group_pattern(f"--label-by {label_by!r}", label_by, names="label")
    rows = []
    for path in _clips(Tree(root), root, DEPTH):
        name = path.relative_to(root).as_posix()
        match = pattern.search(name)
        if match is None or not match[1]:
            raise ManifestError(
                f"{path}: --label-by {label_by!r} finds no label in {name!r}. Every clip needs "
                "one: change the expression, or move the clip away."
            )
        rows.append(Row(str(path), match[1]))
    if not rows:
        raise ManifestError(f"{root}: no video in it, nor a folder of frames.")
    notes = [f"labels from the names by {label_by!r}, as {rows[0].label!r} of {rows[0].path}"]
    if label_names is None:
        check_labels([(row.label or "", row.path) for row in rows])
        return make_manifest("named", rows, root=root, notes=notes)
    names = read_label_names(label_names)
    names, counted = count_labels(names, [(row.label or "", row.path) for row in rows], root)
    rows = [row._replace(label=names.name(row.label or "", row.path)) for row in rows]
    manifest = make_manifest("named", rows, root=root, notes=[*notes, *counted])
    return manifest.with_labels(names.names)


def _clips(tree: Tree, folder: Path, depth: int) -> Iterator[Path]:
    entries = tree.entries(folder)
    videos = [name for name in entries.files if is_video(name)]
    yield from (folder / name for name in videos)
    is_frames = any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in entries.files)
    if is_frames and not videos and not entries.folders:
        yield folder
    elif depth:
        for name in entries.folders:
            yield from _clips(tree, folder / name, depth - 1)
