"""Folders of frames in a folder per class."""

from __future__ import annotations

from pathlib import Path

import cv2
import disk
import numpy as np
import pytest

from videorwkv.data.formats.folder import read
from videorwkv.data.frame_rate import frame_rate_note
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError
from videorwkv.video.base import Sampling


def test_frames_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for clip in ("a", "b"):
        disk.frames(tmp_path / "wave" / clip / "rgb")
        disk.frames(tmp_path / "wave" / clip / "flow")
        disk.frames(tmp_path / "nod" / clip / "anything")
    manifest = read(tmp_path)
    paths = [str(Path(row.path).relative_to(tmp_path)) for row in manifest.rows]
    assert paths == ["nod/a/anything", "nod/b/anything", "wave/a/rgb", "wave/b/rgb"]
    assert manifest.notes == ()


def test_several_folders_of_frames_in_a_clip(tmp_path: Path) -> None:
    disk.frames(tmp_path / "wave" / "a" / "cam1")
    disk.frames(tmp_path / "wave" / "a" / "cam2")
    message = r"1 skipped, with several folders of frames in them \(a\): list those that are clips"
    with pytest.raises(ManifestError, match=message):
        read(tmp_path)
    disk.video(tmp_path / "wave" / "b.mp4")
    assert "several folders of frames in them" in read(tmp_path).summary()


def test_frames_that_lie_in_the_class_folder(tmp_path: Path) -> None:
    disk.frames(tmp_path / "wave", (1, 2, 3), "clip01_{:04d}.jpg")
    message = r"3 images skipped, .* put the .* folder of its own, wave/clip01/clip01_0001\.jpg"
    with pytest.raises(ManifestError, match=message):
        read(tmp_path)
    disk.video(tmp_path / "nod" / "b.mp4")
    assert "3 images skipped, in no folder of their clip" in read(tmp_path).summary()


def test_flow_and_cameras_are_met_before_the_training(tmp_path: Path) -> None:
    for label in ("wave", "nod"):
        disk.frames(tmp_path / label / "a", (1, 2, 3), "img_{:05d}.jpg")
        for number in (1, 2, 3):
            image_HWC = np.zeros((8, 8, 3), np.uint8)
            cv2.imwrite(str(tmp_path / label / "a" / f"flow_x_{number:05d}.jpg"), image_HWC)
    notes = [note for note in read(tmp_path).notes if "beside the frames and not read" in note]
    assert len(notes) == 1
    assert "flow_x_#.jpg (3 files)" in notes[0]
    disk.frames(tmp_path / "nod" / "0", (1, 2, 3), "cam1_{:05d}.jpg")
    for number in (1, 2, 3):
        path = tmp_path / "nod" / "0" / f"cam1_{number:05d}.jpg"
        path.with_name(f"cam2_{number:05d}.jpg").write_bytes(path.read_bytes())
    with pytest.raises(ManifestError, match=r"nod.0: several series of frames in one folder"):
        read(tmp_path)


def test_the_frame_rate_is_said_where_it_matters(tmp_path: Path) -> None:
    for label in ("wave", "nod"):
        disk.frames(tmp_path / label / "a")
    manifest = load_manifest(tmp_path)
    assert frame_rate_note(manifest, Sampling()) == ""
    note = frame_rate_note(manifest, Sampling(fps=10))
    assert "taken for 12 frames a second; --frame-rate gives another" in note
    disk.video(tmp_path / "videos" / "wave" / "a.mp4", tmp_path / "videos" / "nod" / "a.mp4")
    assert frame_rate_note(load_manifest(tmp_path / "videos"), Sampling(fps=10)) == ""
