"""Clips in a folder for each class, as a person adds and deletes them in a browser.

The name of a class is that of its folder, as `videorwkv train` reads it. What a browser names is
looked up among the classes and clips that are there; only a new class is made under the name that
was given, after `checked_name`. T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2

from videorwkv.data.formats.rows import check_spelling
from videorwkv.data.formats.tree import Tree, is_video
from videorwkv.data.manifest import SPLIT_NAMES
from videorwkv.errors import DataError, DecodeError, ManifestError, UsageError, VideoRWKVError
from videorwkv.utils.files import is_junk, make_folder, unfinished
from videorwkv.utils.words import counted
from videorwkv.utils.workers import Lost, WorkerPool, one_thread
from videorwkv.video import open_video
from videorwkv.video.base import VIDEO_SUFFIXES
from videorwkv.video.decoding import Decoding

# Without all of these nothing is learnt: two classes, and some clips of each.
FEWEST_CLASSES, FEWEST_CLIPS = 2, 3
# From so many of each class on, a fifth is held back to tell how good the model is.
ENOUGH_CLIPS = 5
# Of a clip: bytes, seconds, frames; and seconds for looking at it.
MOST_BYTES = 100_000_000
LONGEST = 60.0
FEWEST_FRAMES = 4
LOOK_TIMEOUT = 30.0
# Side of a picture of a clip, in pixels.
PICTURE = 240
LONGEST_NAME = 60  # characters; four times as many bytes are a file system's most
# What FFmpeg calls a container -> the suffix of such a file.
SUFFIXES = {
    "matroska,webm": ".mkv", "mov,mp4,m4a,3gp,3g2,mj2": ".mp4", "mpegts": ".ts", "ogg": ".ogv",
    "asf": ".wmv",
}  # fmt: skip
# Codecs that WebM allows.
_WEBM = re.compile(r".*(vp8|vp9|av1|dav1d).*")
_SPECIAL = '/\\:*?"<>|'
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)
# Two that no letter may stand for: they join and part the letters of some scripts.
_JOINERS = "\u200c\u200d"


class Look(NamedTuple):
    """A clip that could be read.

    Args:
        seconds: its length.
        suffix: of the file's name, by its content; empty for a folder of frames.
        picture: the middle frame, JPEG.
    """

    seconds: float
    suffix: str
    picture: bytes


class ClipFolder:
    """Classes and clips of a folder; a context manager. Safe for several threads.

    Clips are decoded in a process of its own, which one that is made to do harm takes along.

    Args:
        root: the folder, made if it is missing.

    Raises:
        UsageError: it is a file, can't be made, or has splits in it.
    """

    def __init__(self, root: str | Path) -> None:
        # Absolute: `motion` alone is a generated data set for `train`.
        self.root = Path(root).absolute()
        make_folder(self.root)
        split = next((name for name in self.classes() if name.lower() in SPLIT_NAMES), None)
        if split is not None:
            raise UsageError(
                f"{root} has a folder {split!r}, which is the name of a split. `teach` wants a "
                f"folder for each class: give {Path(root, split)}, or an empty folder."
            )
        self._looks: dict[tuple[Path, int, int], Look] = {}
        self._numbers = itertools.count()
        self._looking, self._naming = threading.Lock(), threading.Lock()
        self._pool = WorkerPool(look_at, workers=1, timeout=LOOK_TIMEOUT, initializer=one_thread)

    def __enter__(self) -> ClipFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that looks at clips."""
        self._pool.close()

    def classes(self) -> dict[str, dict[str, Path]]:
        """Clips by their names, by class, as they are on disk now.

        Raises:
            ManifestError: a folder can't be listed.
        """
        tree = Tree(self.root)
        found = {}
        for name in tree.entries(self.root).folders:
            inner = tree.entries(self.root / name)
            names = [*filter(is_video, inner.files), *inner.folders]
            found[name] = {clip: self.root / name / clip for clip in sorted(names)}
        return found

    def add_class(self, name: str) -> str:
        """A folder for a class; its name as it is written.

        Raises:
            UsageError: no such name is allowed, or there is such a class.
        """
        name = checked_name(name)
        with self._naming:
            try:
                check_spelling([*((other, other) for other in self.classes()), (name, "new")])
                (self.root / name).mkdir()
            except FileExistsError as error:
                raise UsageError(f"There is a class {name!r} already.") from error
            except ManifestError as error:
                raise UsageError(f"{name!r}: {_after_place(error)}") from error
            except OSError as error:
                raise UsageError(
                    f"{self.root / name}: the folder can't be made ({error.strerror}). Choose "
                    "another name, or make room."
                ) from error
        return name

    def remove_class(self, name: str) -> None:
        """Remove a class without clips.

        Raises:
            UsageError: there is none of that name, or something lies in its folder.
        """
        clips = self._class(name)
        if clips:
            raise UsageError(f"{name!r} has {counted(len(clips), 'clip')}: delete them first.")
        try:
            (self.root / name).rmdir()
        except OSError as error:
            raise UsageError(
                f"{self.root / name} can't be removed ({error.strerror}): see what lies in it."
            ) from error

    def add_clip(self, label: str, content: Iterable[bytes]) -> str:
        """Keep a clip that can be read; its name, which is a number.

        Args:
            label: a class that is there.
            content: the bytes of a video file, in pieces; `MOST_BYTES` is the caller's to see to.

        Raises:
            UsageError: no such class.
            DecodeError: it is no video, or too short, or too long.
            DataError: it can't be written.
        """
        self._class(label)
        try:
            # Hidden, and so no class, until it is known to be a clip.
            with unfinished(self.root) as file:
                for piece in content:
                    file.write(piece)
                file.close()
                seen = self._look(Path(file.name))
                if seen.seconds > LONGEST:
                    raise DecodeError(
                        f"This video has {seen.seconds:.0f} s; a clip of one action has at most "
                        f"{LONGEST:.0f} s. Cut it into such clips."
                    )
                with self._naming:
                    name = f"{_next_name(self.classes().get(label, {}))}{seen.suffix}"
                    target = self.root / label / name
                    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    os.replace(file.name, target)
        except OSError as error:
            raise DataError(
                f"The clip can't be kept in {self.root / label} ({error.strerror or error}). Make "
                "room, or look at the rights of the folder."
            ) from error
        self._looks[_key(target)] = seen
        return name

    def remove_clip(self, label: str, name: str) -> None:
        """Delete a clip.

        Raises:
            UsageError: there is none, or it is a folder of frames, or can't be deleted.
        """
        path = self.clip(label, name)
        try:
            path.unlink()
        except OSError as error:
            raise UsageError(
                f"{path} can't be deleted here ({error.strerror}): delete it in the file manager."
            ) from error

    def clip(self, label: str, name: str) -> Path:
        """Where a clip lies; `UsageError` if there is none."""
        clips = self._class(label)
        if name not in clips:
            raise UsageError(f"{label!r} has no clip {name!r} any more. Load the page again.")
        return clips[name]

    def picture(self, label: str, name: str) -> bytes:
        """A clip's middle frame, JPEG.

        Raises:
            UsageError: there is no such clip.
            DecodeError: it can't be read.
        """
        path = self.clip(label, name)
        key = _key(path)
        if key not in self._looks:
            self._looks[key] = self._look(path)
        return self._looks[key].picture

    def _class(self, name: str) -> dict[str, Path]:
        classes = self.classes()
        if name not in classes:
            raise UsageError(f"There is no class {name!r} any more. Load the page again.")
        return classes[name]

    def _look(self, path: Path) -> Look:
        with self._looking:
            number = next(self._numbers)
            self._pool.submit(number, path)
            # One whose question failed, since the process had died, may still be answered.
            answer = next(answer for key, answer in iter(self._pool.next, None) if key == number)
        if isinstance(answer, Lost):
            raise DecodeError(f"This clip can't be read: {answer.reason}.")
        if isinstance(answer, str):
            raise DecodeError(answer)
        assert isinstance(answer, Look)
        return answer


def missing(classes: dict[str, dict[str, Path]]) -> list[str]:
    """What training still needs, in sentences; nothing if it may begin."""
    if len(classes) < FEWEST_CLASSES:
        return [
            "Name two classes or more. If there is one action, let the other be background: "
            "everything else."
        ]
    lacking = {name: FEWEST_CLIPS - len(clips) for name, clips in classes.items()}
    return [
        f"{name}: {counted(count, 'more clip', 'more clips')} needed."
        for name, count in lacking.items()
        if count > 0
    ]


def checked_name(name: str) -> str:
    """A name for a class that is a folder's name on every system, as it is written.

    Raises:
        UsageError: it can't be one; the message says why.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise UsageError("A class needs a name.")
    if len(name) > LONGEST_NAME:
        raise UsageError(f"The name of a class has at most {LONGEST_NAME} characters.")
    why = ""
    if special := [mark for mark in _SPECIAL if mark in name]:
        why = f"has {' '.join(special)} in it"
    elif any(unicodedata.category(x)[0] == "C" and x not in _JOINERS for x in name):
        why = "has a character in it that can't be seen"
    elif name[0] == "." or name[-1] == ".":
        why = "begins or ends with a dot"
    elif is_junk(name) or _RESERVED.fullmatch(name):
        why = "is reserved by some systems"
    elif name.lower() in SPLIT_NAMES:
        why = "is the name of a split of a data set"
    if why:
        raise UsageError(
            f"{name!r} {why}. A class's name is that of its folder, so it can't be: choose another."
        )
    return name


def look_at(path: Path) -> Look | str:
    """A clip as it is decoded for training, or why it is none."""
    try:
        with open_video(path) as video:
            times = video.times()
            if len(times) < FEWEST_FRAMES:
                return (
                    f"This clip has {counted(len(times), 'frame')}, in which nothing can move; "
                    f"it needs {FEWEST_FRAMES} or more."
                )
            image_HWC = video.read([len(times) // 2]).frames_THWC[0]
        suffix = "" if path.is_dir() else _suffix(path)
    except VideoRWKVError as error:
        return f"This is no clip: {_after_place(error)}"
    height, width = image_HWC.shape[:2]
    scale = min(1.0, PICTURE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small_HWC = cv2.resize(image_HWC[:, :, ::-1], size, interpolation=cv2.INTER_AREA)
    picture = cv2.imencode(".jpg", small_HWC)[1].tobytes()
    seconds = float(times[-1] - times[0]) * len(times) / (len(times) - 1)
    return Look(seconds, suffix, picture)


def _suffix(path: Path) -> str:
    """By what the file is, whatever it was called."""
    with Decoding(str(path), path.name) as decoding:
        kind, codec = decoding.container_name, decoding.codec_name
    if kind in SUFFIXES:
        is_webm = SUFFIXES[kind] == ".mkv" and _WEBM.fullmatch(codec)
        return ".webm" if is_webm else SUFFIXES[kind]
    if f".{kind}" in VIDEO_SUFFIXES:
        return f".{kind}"
    raise DecodeError(f"files of the kind {kind!r} are not taken. Record it as mp4, webm or mkv.")


def _after_place(error: VideoRWKVError) -> str:
    """What an error says, without the path of a file that nobody knows, which it begins with."""
    place, _, rest = str(error).partition(": ")
    return rest if rest and (os.sep in place or place == "new") else str(error)


def _next_name(clips: Iterable[str]) -> str:
    numbers = [int(found[1]) for name in clips if (found := re.match(r"clip-(\d{1,9})\.", name))]
    return f"clip-{max(numbers, default=0) + 1:04d}"


def _key(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path} has gone. Load the page again.") from error
    return path, status.st_mtime_ns, status.st_size
