from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_files import numbered_frame

from videorwkv.data.check.inspect_clip import inspect_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten JPEG frames, numbered with a gap."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11):
        cv2.imwrite(str(folder / f"{number}.jpg"), numbered_frame(number)[..., ::-1])
    return folder


def test_a_whole_folder(folder: Path) -> None:
    found = inspect_clip(folder)
    assert (found.verdict, found.detail, found.remarks) == ("ok", "", ())
    assert (found.frames, found.width, found.height, found.codec) == (10, 96, 64, "jpg")
    assert (found.seconds, found.fps) == (None, None)


def test_hashes_are_of_the_frames_in_order(folder: Path) -> None:
    first = inspect_clip(folder)
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(f"frame {int(path.stem) + 100}.jpg"))
    renamed = inspect_clip(folder)
    assert renamed == first
    (folder / "frame 101.jpg").rename(folder / "frame 200.jpg")
    other = inspect_clip(folder)
    assert other.content_hash != first.content_hash
    assert other.frames_hash != first.frames_hash


@pytest.mark.parametrize(
    ("ruined", "verdict", "detail"),
    [
        ((5,), "damaged", "frames lost: 1 of 10, the first is 5.jpg"),
        ((9, 10, 11), "truncated", "at frame 7 of 10"),
        ((2, 11), "damaged", "frames lost: 2 of 10, the first is 2.jpg"),
        ((1, 2, 3, 5, 6, 8), "unreadable", "frames lost: 6 of 10, the first is 1.jpg"),
        ((1, 2, 3, 5, 6, 7, 8, 9, 10, 11), "unreadable", "frames lost: 10 of 10, the first is 1"),
    ],
)
def test_frames_that_are_cut_off(
    folder: Path, ruined: tuple[int, ...], verdict: str, detail: str
) -> None:
    for number in ruined:
        path = folder / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:-40])
    found = inspect_clip(folder)
    assert found.verdict == verdict
    assert found.detail.startswith(detail)
    assert found.frames == 10 - len(ruined)


def test_damage_that_the_jpeg_decoder_covers(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = folder / "5.jpg"
    content = path.read_bytes()
    middle = content.rfind(b"\xff\xda") + 200
    path.write_bytes(content[:middle] + content[middle + 60 :])
    found = inspect_clip(folder)
    assert found.verdict == "damaged"
    assert "Corrupt JPEG data" in found.detail
    assert capfd.readouterr().err == ""


def test_sizes(folder: Path) -> None:
    cv2.imwrite(str(folder / "12.png"), np.zeros((40, 50, 3), np.uint8))
    assert inspect_clip(folder).remarks == ("changing resolution: 96x64, 50x40",)


def test_a_single_frame_and_none(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    assert inspect_clip(folder).verdict == "empty"
    cv2.imwrite(str(folder / "1.png"), np.zeros((40, 50, 3), np.uint8))
    assert inspect_clip(folder).remarks == ("very small: 50x40", "single frame")


def test_quick_decodes_the_first_frame(folder: Path) -> None:
    path = folder / "5.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    found = inspect_clip(folder, quick=True)
    assert (found.verdict, found.frames, found.frames_hash) == ("ok", 10, "")
    assert found.content_hash == inspect_clip(folder).content_hash


def test_an_image_that_claims_to_be_huge(tmp_path: Path) -> None:
    """OpenCV throws where it otherwise returns nothing."""
    content = bytearray(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    content[16:24] = (1 << 17).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.png").write_bytes(content)
    assert inspect_clip(folder).verdict == "unreadable"
