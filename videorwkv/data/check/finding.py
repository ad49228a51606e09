"""What can be said of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

VERDICTS = {
    "ok": "every frame can be decoded",
    "damaged": "frames are lost or had to be repaired, but at least half of them can be decoded",
    "truncated": "the end is missing",
    "unreadable": "not a video that can be decoded, or less than half of its frames can",
    "no video": "the file has no video stream",
    "empty": "a file of 0 bytes, or a folder without frames",
    "missing": "there is no such file",
    "timed out": "decoding took longer than the time limit",
    "crashed": "the decoder's process died",
    "duplicate": "the same clip is in another split, or has two labels",
}
# What `ok` means if only first frames were decoded.
QUICK_OK = "the first frame can be decoded, and no bytes are missing"
USABLE = ("ok", "damaged")
# Shorter sides below this are remarked upon.
SMALL = 64


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about one file or folder of frames.

    Args:
        verdict: a key of `VERDICTS`.
        detail: reason or extent, for a reader.
        remarks: `kind` or `kind: detail`; what is odd without being wrong.
        frames: those that can be decoded.
        seconds: from the beginning of the first to the end of the last; None without a clock.
        fps: mean rate; None with fewer than two frames or without a clock.
        width, height: as shown, turned if the file says so; 0 if unknown.
        codec: FFmpeg's name of the decoder, or the frames' kind.
        content_hash: of the bytes: of the file, or of the frames' files in order.
        frames_hash: of the decoded pictures, which a copy in another container shares.
    """

    verdict: str
    detail: str = ""
    remarks: tuple[str, ...] = ()
    frames: int = 0
    seconds: float | None = None
    fps: float | None = None
    width: int = 0
    height: int = 0
    codec: str = ""
    content_hash: str = ""
    frames_hash: str = ""

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS, self.verdict


def size_remarks(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Remarks on the sizes (width, height) that a clip's frames have, each once."""
    remarks = []
    if min(sizes[0]) < SMALL:
        remarks.append(f"very small: {sizes[0][0]}x{sizes[0][1]}")
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sizes[:4])
        remarks.append(f"changing resolution: {listed}{', ...' * (len(sizes) > 4)}")
    return remarks
