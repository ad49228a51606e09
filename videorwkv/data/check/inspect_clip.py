"""One clip -> what is wrong with it: opened, read from the first frame to the last, judged.

H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from videorwkv.data.check.inspect_video import (
    Reading,
    announced_size,
    read_packets,
    read_pictures,
)
from videorwkv.data.check.report import Finding
from videorwkv.errors import DecodeError
from videorwkv.utils.values import open_regular
from videorwkv.video.decoding import NoVideoError
from videorwkv.video.frames_folder import (
    decode_image,
    frame_series,
    no_frames,
    not_read,
    read_file,
    several_series,
)

# Shorter sides below this are remarked upon.
SMALL = 64
# Frames a second outside of these are remarked upon.
USUAL_FPS = (5.0, 120.0)
# Times between frames that differ from the usual one by more than this factor are not one rate.
STEADY = 1.9
# So many packets at the end that can't be decoded, and the end counts as missing.
TAIL = 3
CHUNK = 1 << 20


def inspect_clip(path: str | Path, *, quick: bool = False) -> Finding:
    """Read a clip from beginning to end.

    Nothing is raised for a clip that is bad in whatever way. A decoder may still crash or hang, so
    call this in a process of its own.

    Args:
        path: a video file, or a folder of frames.
        quick: read all bytes and packets, but decode the first picture alone: a cut file is found,
            a damaged one mostly isn't, and `frames_hash` is empty.
    """
    path = Path(path)
    try:
        if path.is_dir():
            try:
                return inspect_frames(path, quick=quick)
            except DecodeError as error:  # a picture of too many pixels
                return Finding(verdict="unreadable", detail=str(error).rstrip("."))
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            return Finding(verdict="unreadable", detail="a pipe, a socket or a device, not a file")
        if size == 0:
            return Finding(verdict="empty", detail="0 bytes")
        with open_regular(path) as file:
            announced = announced_size(file, size)
            file.seek(0)
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return Finding(verdict="missing", detail="no such file")
    except OSError as error:
        return Finding(verdict="unreadable", detail=error.strerror or str(error))
    is_short = announced is not None and announced > size
    shortfall = f"the file has {size:,} of {announced:,} bytes" if is_short else ""
    content_hash = digest.hexdigest()
    try:
        reading = read_packets(path) if quick else read_pictures(path)
    except DecodeError as error:
        detail = str(error).removeprefix(f"{path.name}: ").rstrip(".")
        verdict = "no video" if isinstance(error, NoVideoError) else "unreadable"
        if shortfall and verdict == "unreadable":
            verdict, detail = "truncated", f"at frame 0: {shortfall}"
        return Finding(verdict=verdict, detail=detail, content_hash=content_hash)
    verdict, detail = judge(reading, shortfall)
    width, height = reading.shown_size
    return Finding(
        verdict=verdict,
        detail=detail,
        remarks=_remarks(reading, shortfall if verdict != "truncated" else ""),
        frames=reading.frames,
        seconds=reading.seconds if reading.frames else None,
        fps=reading.fps,
        width=width,
        height=height,
        codec=reading.codec_name,
        content_hash=content_hash,
        frames_hash=reading.frames_hash,
    )


def judge(reading: Reading, shortfall: str = "") -> tuple[str, str]:
    """Verdict and detail.

    Args:
        reading: what was met.
        shortfall: says by how much the file falls short of its announced size, if it does.
    """
    if extent := _truncation(reading, is_short=bool(shortfall)):
        return "truncated", f"{extent}; {shortfall}" if shortfall else extent
    faults = []
    if reading.num_lost:
        first = "" if reading.first_loss is None else f", the first at {reading.first_loss:.1f} s"
        faults.append(f"frames lost: {reading.num_lost:,} of {reading.total:,}{first}")
    if reading.num_repaired:
        faults.append(f"frames repaired: {reading.num_repaired:,}")
    if reading.num_refused:
        faults.append(f"packets refused by a stricter decoder: {reading.num_refused:,}")
    if reading.num_holes:
        faults.append(f"packets with holes of zeros: {reading.num_holes:,}")
    if reading.complaints:
        faults.append(f"FFmpeg: {reading.complaints[0]}")
    if 2 * reading.frames < reading.total or not reading.frames:
        return "unreadable", "; ".join(faults) or "there is no frame in it"
    return ("damaged", "; ".join(faults)) if faults else ("ok", "")


def _truncation(reading: Reading, *, is_short: bool) -> str:
    """How much of a file is there whose end is missing; empty if it isn't."""
    is_short |= bool(reading.broken_off)
    is_short |= any("ended prematurely" in complaint for complaint in reading.complaints)
    at = f"at frame {reading.frames:,}"
    if reading.num_announced:
        tail = reading.num_lost_at_end
        if reading.num_lost and (reading.num_unread or tail >= TAIL or (tail and is_short)):
            # Not the container's duration where it can be helped: FFmpeg takes some from the size.
            of = reading.total * reading.step or reading.duration or 0.0
            return f"{at} of {reading.total:,} (second {reading.seconds:.1f} of {of:.1f})"
        return ""
    if not is_short and not (reading.frames and reading.num_lost_at_end):
        return ""
    if reading.duration is None or not reading.step:
        return f"{at} (second {reading.seconds:.1f})"
    # Without a count the duration has to tell: an index that is cut off at the end harms nothing.
    left = round((reading.duration - reading.seconds) / reading.step)
    if left <= 1:
        return ""
    return (
        f"{at} of about {reading.frames + left:,} "
        f"(second {reading.seconds:.1f} of {reading.duration:.1f})"
    )


def _remarks(reading: Reading, shortfall: str) -> tuple[str, ...]:
    """What is odd without being wrong."""
    if not reading.frames:
        return ()
    remarks = _size_remarks([reading.shown_size, *reading.sizes[1:]])
    if reading.frames == 1:
        remarks.append("single frame")
    if reading.num_guessed:
        remarks.append(
            f"no times: {reading.num_guessed:,} frames, taken as {reading.rate:g} a second"
        )
    if not reading.num_announced:
        remarks.append("no frame count in the header")
    if reading.pixel_aspect not in (0, 1):
        remarks.append(f"non-square pixels: {reading.pixel_aspect}")
    if reading.matrix is not None:
        (a, b), (c, d) = reading.matrix.tolist()
        if angle := round(math.degrees(math.atan2(b, a))) % 360:
            remarks.append(f"rotated: {angle} degrees clockwise")
        if a * d < b * c:
            remarks.append("mirrored")
    if reading.fps is not None and not USUAL_FPS[0] <= reading.fps <= USUAL_FPS[1]:
        remarks.append(f"odd rate: {reading.fps:.4g} frames/s")
    if reading.num_alike:
        remarks.append(f"equal times: {reading.num_alike:,} frames")
    if reading.steps and not reading.num_lost:
        slow, fast = max(reading.steps), min(reading.steps)
        if slow > STEADY * reading.step or fast < reading.step / STEADY:
            remarks.append(f"variable rate: {1 / slow:.4g} to {1 / fast:.4g} frames/s")
    if shortfall:
        remarks.append(f"cut off behind the frames: {shortfall}")
    return tuple(remarks)


def _size_remarks(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Remarks on the sizes (width, height) that a clip's frames have, each once."""
    remarks = []
    if min(sizes[0]) < SMALL:
        remarks.append(f"very small: {sizes[0][0]}x{sizes[0][1]}")
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sizes[:4])
        remarks.append(f"changing resolution: {listed}{', ...' * (len(sizes) > 4)}")
    return remarks


def inspect_frames(folder: Path, *, quick: bool = False) -> Finding:
    """Decode every frame, or with `quick` the first alone.

    Frames at the end that can't be read make it truncated, others damaged. Gaps in the numbering
    are usual and not remarked upon. A folder has no clock, so no rate is given.

    Raises:
        OSError: the folder can't be listed, or a file not be read.
    """
    series = frame_series(folder)
    files = series.files
    if not files:
        return Finding(verdict="empty", detail=no_frames(folder))
    if series.clash:
        return Finding(verdict="unreadable", detail=several_series(series.clash))
    content, pictures = hashlib.sha256(), hashlib.sha256()
    sizes: dict[tuple[int, int], None] = {}
    bad: list[int] = []
    with _native_errors() as errors:
        for index, path in enumerate(files):
            data = read_file(path) or b""
            content.update(data)
            if quick and index:
                continue
            image_HWC = decode_image(data, path.name)
            if image_HWC is None:
                bad.append(index)
                continue
            sizes[image_HWC.shape[1], image_HWC.shape[0]] = None
            pictures.update(zlib.crc32(image_HWC.data).to_bytes(4, "little"))
        errors.seek(0)
        complaints = errors.read().decode(errors="replace").splitlines()
    num_good = len(files) - len(bad)
    verdict, detail = "ok", ""
    if num_good and bad and bad[0] == num_good:
        verdict, detail = "truncated", f"at frame {num_good:,} of {len(files):,}"
    elif bad:
        verdict = "damaged" if 2 * num_good >= len(files) else "unreadable"
        detail = f"frames lost: {len(bad):,} of {len(files):,}, the first is {files[bad[0]].name}"
    elif complaints:
        verdict, detail = "damaged", f"{complaints[0]} (complaints: {len(complaints):,})"
    remarks = _size_remarks(list(sizes)) if sizes else []
    if len(files) == 1:
        remarks.append("single frame")
    if series.left_out:
        remarks.append(not_read(series.left_out))
    width, height = next(iter(sizes), (0, 0))
    return Finding(
        verdict=verdict,
        detail=detail,
        remarks=tuple(remarks),
        frames=num_good,
        width=width,
        height=height,
        codec=files[0].suffix.lower().lstrip("."),
        content_hash=content.hexdigest(),
        frames_hash="" if quick or not num_good else pictures.hexdigest(),
    )


@contextmanager
def _native_errors() -> Iterator[BinaryIO]:
    """What libraries below Python write to the error output meanwhile: the JPEG decoder tells of
    damage that it covers there alone."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)
