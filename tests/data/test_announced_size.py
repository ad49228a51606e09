from __future__ import annotations

import io
from pathlib import Path

import pytest
from clip_files import KINDS, make

from videorwkv.data.check.inspect_video import announced_size


def _box(name: bytes, length: int) -> bytes:
    return length.to_bytes(4, "big") + name + bytes(length - 8)


FTYP, MOOV = _box(b"ftyp", 20), _box(b"moov", 40)
LARGE = (1).to_bytes(4, "big") + b"mdat" + (1 << 33).to_bytes(8, "big")
EBML = bytes.fromhex("1a45dfa3 83 428601")
AVI = b"RIFF" + (12).to_bytes(4, "little") + b"AVI " + bytes(8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (FTYP + MOOV, 60),
        ((FTYP + MOOV)[:33], 60),
        (FTYP + MOOV + b"TAG with a song's name", 60),
        (FTYP + MOOV + b"\x00\x01\x02\x03\x04\x05\x06\x07\x08", 60),
        (FTYP + LARGE + bytes(10), 20 + (1 << 33)),
        (FTYP + bytes(4) + b"mdat" + bytes(100), None),  # up to the end, wherever it is
        (AVI, 20),
        (AVI[:15], 20),
        (AVI + b"RIFF" + (100).to_bytes(4, "little") + b"AVIX", 128),
        (AVI + b"JUNK" + bytes(50), 20),
        (b"RIFF" + bytes(4) + b"AVI " + bytes(50), None),
        (b"RIFF\xff\xff\xff\xffAVI " + bytes(50), None),
        (EBML + bytes.fromhex("18538067 8a"), 23),
        (EBML + bytes.fromhex("18538067 0100000000010000"), 20 + (1 << 16)),
        (EBML + bytes.fromhex("18538067 01ffffffffffffff"), None),  # a live recording
        (EBML + bytes.fromhex("18538067 ff"), None),
        (EBML + bytes.fromhex("18538067"), None),
        (EBML + bytes.fromhex("ec 81 00"), None),
        (EBML[:5], None),
        (b"OggS" + bytes(50), None),
        (b"hello", None),
    ],
)  # fmt: skip
def test_hand_made_files(content: bytes, expected: int | None) -> None:
    assert announced_size(io.BytesIO(content), len(content)) == expected


@pytest.mark.parametrize(
    "name", [n for n in KINDS if n.endswith(("mp4", "mov", "mkv", "webm", "avi"))]
)
def test_whole_files_are_as_long_as_they_say(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name, 20)
    size = path.stat().st_size
    with path.open("rb") as file:
        assert announced_size(file, size) == size
    # Cut behind the first box of samples, or anywhere in the others.
    content = path.read_bytes()[: size - 3]
    assert (announced_size(io.BytesIO(content), len(content)) or 0) == size
