"""A folder of frames -> what is wrong with it. H height, W width, C = 3 (RGB)."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from videorwkv.data.check.finding import Finding, size_remarks
from videorwkv.video.frames_folder import frame_files, read_image


def inspect_frames(folder: Path, *, quick: bool = False) -> Finding:
    """Decode every frame, or with `quick` the first alone.

    Frames at the end that can't be read make it truncated, others damaged. Gaps in the numbering
    are usual and not remarked upon. A folder has no clock, so no rate is given.

    Raises:
        OSError: the folder can't be listed, or a file not be read.
    """
    files = frame_files(folder)
    if not files:
        return Finding(verdict="empty", detail="no JPEG or PNG file in the folder")
    content, pictures = hashlib.sha256(), hashlib.sha256()
    sizes: dict[tuple[int, int], None] = {}
    bad: list[int] = []
    with _native_errors() as errors:
        for index, path in enumerate(files):
            content.update(path.read_bytes())
            if quick and index:
                continue
            image_HWC = read_image(path)
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
    remarks = size_remarks(list(sizes)) if sizes else []
    if len(files) == 1:
        remarks.append("single frame")
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
