"""Real files with known verdicts, found with FFmpeg and by eye."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from videorwkv.data.check import check
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Row, make_manifest

NO_COUNT = ("no frame count in the header",)
# path below clips/: verdict, beginning of the detail, remarks
FILES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "kinetics400/springboard_diving_-AJ3JIMaS18.mp4": ("ok", "", ()),
    "kinetics400/surfing_water_--coBvtS-eQ.mp4": ("ok", "", ()),
    "kinetics400/surfing_water_05FLJw6nljs.mp4": ("ok", "", ()),
    "kinetics400/swimming_backstroke_11ak7MOIROI.mp4": ("ok", "", ()),
    "kinetics400/swimming_breast_stroke_1AD6ltFmiaI.mp4": ("ok", "", ()),
    "kinetics400/swimming_butterfly_stroke_-JIvn5VWIKQ.mp4": ("ok", "", ()),
    "odd/av1_video.mkv": ("ok", "", NO_COUNT),
    # One packet of fifty is full of 0xff; all frames after it are smeared at the bottom.
    "odd/corrupted.mp4": (
        "damaged",
        "frames lost: 1 of 50, the first at 3.0 s; frames repaired: 1; FFmpeg: Invalid NAL unit",
        (),
    ),
    "odd/demo.mp4": ("ok", "", ("non-square pixels: 64/51",)),
    "odd/flipping_a_pancake.mkv": ("ok", "", NO_COUNT),
    "odd/h264_10bits.mp4": ("ok", "", ()),
    "odd/h264_white_frame_sar_16_9.mp4": (
        "ok",
        "",
        ("single frame", "non-square pixels: 16/9"),
    ),
    # Header and index are whole, and the file ends where the first frame would begin.
    "odd/invalid_userdata.mp4": (
        "truncated",
        "at frame 0 of 5,544 (second 0.0 of 231.3)",
        (),
    ),
    "odd/minimal.mp4": ("ok", "", ("single frame",)),
    "odd/sine_mono_s16.wav": ("no video", "there is no video stream; found: audio", ()),
    "odd/test.avi": ("ok", "", ()),
    "odd/test_video.mp4": ("ok", "", ("very small: 40x30",)),
    "odd/unordered.mov": ("ok", "", ("very small: 50x50",)),
    "odd/video_0.mov": ("ok", "", ()),
    "odd/video_180.mov": ("ok", "", ("rotated: 180 degrees clockwise",)),
    "odd/video_90.mov": ("ok", "", ("rotated: 90 degrees clockwise",)),
    "ssv2/ssv2_task41_0.webm": ("ok", "", NO_COUNT),
    "ssv2/ssv2_task41_1.webm": ("ok", "", NO_COUNT),
    "ssv2/ssv2_task5_0.webm": ("ok", "", NO_COUNT),
    "ssv2/ssv2_task93_0.webm": ("ok", "", NO_COUNT),
}


def test_every_real_file_gets_its_verdict(shared_dir: Path, tmp_path: Path) -> None:
    root = shared_dir / "clips"
    found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert found == sorted(FILES)
    rows = [Row(str(root / name), "clip", "train") for name in FILES]
    report = check(make_manifest("real", rows, root=root), tmp_path, workers=2)
    verdicts = {clip.path: clip.finding for clip in report.clips}
    for name, (verdict, detail, remarks) in FILES.items():
        finding = verdicts[name]
        assert (name, finding.verdict) == (name, verdict)
        assert finding.detail.startswith(detail)
        assert bool(finding.detail) == bool(detail)
        assert (name, finding.remarks) == (name, remarks)
    assert not report.copies


@pytest.mark.parametrize("name", ["fight", "handwash"])
def test_nothing_is_called_damaged_that_is_not(shared_dir: Path, tmp_path: Path, name: str) -> None:
    manifest = load_manifest(shared_dir / "data" / name)
    manifest = replace(manifest, rows=manifest.rows[::3])
    report = check(manifest, tmp_path, workers=2)
    assert report.verdicts == {"ok": len(manifest)}
    assert not report.copies
