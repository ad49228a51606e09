"""What lies where in a data set's folder, each folder listed once."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.manifest import SPLIT_NAMES
from videorwkv.errors import ManifestError
from videorwkv.utils.files import is_junk
from videorwkv.video.base import VIDEO_SUFFIXES

ANNOTATION_FOLDERS = frozenset({"labels", "label", "annotations", "annotation", "lists"})
# Words beside the split in names such as `train_256`, `videos_val` or `kinetics400_train_list`.
_BESIDE_SPLIT = frozenset(
    {"clips", "compress", "frames", "jester", "k400", "kinetics", "kinetics400", "list",
     "rawframes", "resized", "split", "ssv2", "tiny", "v1", "v2", "video", "videofolder", "videos"}
)  # fmt: skip


class Entries(NamedTuple):
    """Names in a folder, sorted; hidden ones and those of the system are skipped."""

    folders: list[str]
    files: list[str]


class Tree:
    """A folder and those below it. A folder is read from disk once, however often it is asked for.

    Official sets hold up to 240,000 clips in one folder, so nothing is asked about single files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, Entries] = {}

    def entries(self, folder: Path) -> Entries:
        """What is in a folder; `ManifestError` if it can't be listed."""
        if folder not in self._known:
            folders: list[str] = []
            files: list[str] = []
            try:
                with os.scandir(folder) as found:
                    for entry in found:
                        if not entry.name.startswith(".") and not is_junk(entry.name):
                            (folders if _is_folder(entry) else files).append(entry.name)
            except OSError as error:
                raise ManifestError(f"{folder}: can't be listed: {error.strerror}.") from error
            self._known[folder] = Entries(sorted(folders), sorted(files))
        return self._known[folder]

    def below(self, names: Collection[str], *, depth: int = 2) -> list[Path]:
        """The root, then the folders below it with one of `names` (lower case), nearest first.

        A folder deeper down counts only if all above it have such a name, too.
        """
        found = level = [self.root]
        for _ in range(depth):
            level = [
                folder / name
                for folder in level
                for name in self.entries(folder).folders
                if name.lower() in names
            ]
            found = found + level
        return found

    def glance(self) -> str:
        """The first names in the root, for a message about what was not found in it."""
        folders, files = self.entries(self.root)
        names = [*(f"{name}/" for name in folders), *files]
        if not names:
            return "nothing"
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" * (len(names) > 8))

    def name(self, folder: Path) -> str:
        """A folder as messages call it: below the root, or the root's own name."""
        return folder.name if folder == self.root else folder.relative_to(self.root).as_posix()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False for a link that leads nowhere, or where one may not look: a bad clip, and no more."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def video_stem(name: str) -> str | None:
    """A video's name without its suffix; None for any other file."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in VIDEO_SUFFIXES else None


def is_video(name: str) -> bool:
    """Whether a file's name ends as a video's does."""
    return video_stem(name) is not None


def split_in_name(name: str) -> str:
    """`train_256` -> `train`, `kinetics_val_list` -> `validation`; empty if it names none."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    rest = [word for word in words if word not in _BESIDE_SPLIT and not word.isdecimal()]
    return SPLIT_NAMES.get(rest[0], "") if len(rest) == 1 else ""
