"""Small video files of every kind, and ways to ruin them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av

sys.path.append(str(Path(__file__).parents[1] / "video"))
from numbered_video import encode, numbered_frame

__all__ = ["KINDS", "cut", "encode", "make", "numbered_frame", "overwrite", "patch_box", "remux"]

# name: how `encode` makes it
KINDS: dict[str, dict[str, Any]] = {
    "index_first.mp4": {"container_options": {"movflags": "faststart"}},
    "index_last.mp4": {},
    "fragments.mp4": {
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
        "options": {"g": "10"},
    },
    "clip.mov": {},
    "clip.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "vp8.webm": {"codec": "libvpx"},
    "clip.avi": {"codec": "mpeg4"},
    "clip.flv": {"codec": "flv"},
    "clip.ts": {},
    "clip.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


def make(folder: Path, name: str, num_frames: int = 60) -> Path:
    """One of `KINDS` at 10 frames/s, 96x64."""
    return encode(folder / name, num_frames, **KINDS[name])


def remux(source: Path, target: Path) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def overwrite(path: Path, share: float, content: bytes) -> Path:
    """Puts `content` over what stands at that share of the file."""
    whole = bytearray(path.read_bytes())
    start = int(len(whole) * share)
    whole[start : start + len(content)] = content[: len(whole) - start]
    path.write_bytes(whole)
    return path


def patch_box(path: Path, box: bytes, offset: int, values: tuple[int, ...]) -> None:
    """Overwrites 32-bit numbers of an mp4's box."""
    content = bytearray(path.read_bytes())
    start = content.index(box) + offset
    for place, value in enumerate(values):
        field = value.to_bytes(4, "big", signed=value < 0)
        content[start + 4 * place : start + 4 * place + 4] = field
    path.write_bytes(content)
