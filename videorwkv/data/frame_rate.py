"""Whether the rate of folders of frames matters, which no folder tells."""

from __future__ import annotations

import os

from videorwkv.data.formats.tree import is_video
from videorwkv.data.manifest import Manifest
from videorwkv.video.base import Sampling
from videorwkv.video.frames_folder import FOLDER_FPS

# Clips that are looked at.
LOOKED_AT = 20
# Their frames were cut at the rate that is taken.
_KNOWN = ("jester", "ssv2", "charades")


def frame_rate_note(manifest: Manifest, sampling: Sampling) -> str:
    """What to say where frames are chosen by time and clips are folders of frames; else nothing.

    Args:
        manifest: the clips.
        sampling: how frames are chosen; with `fps` None, times do not matter.
    """
    if sampling.fps is None or manifest.opener is not None or manifest.name in _KNOWN:
        return ""
    rows = manifest.rows[:: len(manifest.rows) // LOOKED_AT + 1]
    in_shards = manifest.shards is not None
    if not any(not is_video(row.path) and (in_shards or os.path.isdir(row.path)) for row in rows):
        return ""
    rate = FOLDER_FPS if manifest.frame_rate is None else manifest.frame_rate
    how = "--frame-rate gives another" if manifest.frame_rate is None else "as --frame-rate says"
    return (
        f"frames are chosen by time (sampling.fps={sampling.fps:g}), and folders of frames are "
        f"taken for {rate:g} frames a second; {how}"
    )
