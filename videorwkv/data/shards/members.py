"""Which members of a tar make a clip, by WebDataset's rule: all up to the first dot of their names
is the clip's key, what follows says what they are.

    000017.mp4  000017.cls  000017.json          a video, the number of its class, more about it
    000018.00001.jpg  000018.00002.jpg  ...      the frames of a clip
    n01440764/10026.jpg  n01440764/10026.cls     a picture: a clip of one frame
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from videorwkv.utils.files import is_junk, natural_key
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES


class Group(NamedTuple):
    """The members of one clip.

    Args:
        key: what their names have in common.
        video: name of its video; None of a clip of frames, or of one picture.
        frames: names of its frames, in order.
        others: the names by which the rest ends, such as `cls` -> whole names.
    """

    key: str
    video: str | None
    frames: tuple[str, ...]
    others: dict[str, str]

    @property
    def name(self) -> str:
        """Of the clip in its shard."""
        alone = len(self.frames) == 1 and "." not in split_name(self.frames[0])[1]
        return self.video or (self.frames[0] if alone else self.key)


def split_name(name: str) -> tuple[str, str]:
    """`a.b/000017.left.mp4` -> `a.b/000017` and `left.mp4`."""
    folder, slash, base = name.rpartition("/")
    key, _, ending = base.partition(".")
    return f"{folder}{slash}{key}", ending.lower()


def group_members(names: Iterable[str]) -> Iterator[Group]:
    """The clips of a tar, from the names of its members in order; those without a picture, too."""
    kept = (name for name in names if not is_junk(name))
    for key, found in groupby(kept, key=lambda name: split_name(name)[0]):
        video: str | None = None
        frames: list[str] = []
        others: dict[str, str] = {}
        for name in found:
            ending = split_name(name)[1]
            suffix = f".{ending.rpartition('.')[2]}"
            if suffix in VIDEO_SUFFIXES and video is None:
                video = name
            elif suffix in IMAGE_SUFFIXES:
                frames.append(name)
            else:
                others[ending] = name
        # A picture beside a video is its thumbnail.
        ordered = () if video else tuple(sorted(frames, key=lambda name: (natural_key(name), name)))
        yield Group(key, video, ordered, others)
