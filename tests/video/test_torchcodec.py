"""torchcodec gives PyAV's frames and times, or refuses the file; it is never loaded unasked."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numbered_video import numbers_of

from videorwkv.cli.main import main
from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import Sampling, open_video

MakeVideo = Callable[..., Path]


def _reason_to_skip() -> str:
    if importlib.util.find_spec("torchcodec") is None:
        return "torchcodec is not installed: pip install 'videorwkv[torchcodec]'"
    from videorwkv.video.torchcodec_video import load_torchcodec

    try:
        load_torchcodec()
    except UsageError as error:
        return str(error)
    return ""


REASON = _reason_to_skip()
needs_torchcodec = pytest.mark.skipif(bool(REASON), reason=REASON)

KINDS = {
    "h264, B-frames": ("clip.mp4", {"options": {"g": "15", "bf": "3"}}),
    "h264, open GOP": (
        "clip.mkv",
        {"options": {"g": "15", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}},
    ),
    "h264, intra refresh instead of key frames": (
        "clip.mkv",
        {"options": {"g": "15", "x264-params": "intra-refresh=1"}},
    ),
    "full range": ("clip.mp4", {"pix_fmt": "yuvj420p"}),
    "vp9": (
        "clip.webm",
        {"codec": "libvpx-vp9", "options": {"g": "20", "deadline": "realtime", "cpu-used": "8"}},
    ),
    "hevc": (
        "clip.mp4",
        {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=15:bframes=3"}},
    ),
    "mpeg4": ("clip.mov", {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "variable rate": (
        "clip.mkv",
        {"pts": [0, 40, 80, 500, 520, 1500, 1540, 3000, 3001, 3900], "options": {"bf": "0"}},
    ),
    "fragments": (
        "clip.mp4",
        {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "9"}},
    ),
}
REFUSED = {
    "10 bit": ("clip.mp4", {"pix_fmt": "yuv420p10le"}, "pixel format is yuv420p10le"),
    "4:4:4": ("clip.mp4", {"pix_fmt": "yuv444p"}, "pixel format is yuv444p"),
    "transport stream": ("clip.ts", {}, "container is mpegts"),
    "avi": ("clip.avi", {"codec": "mpeg4"}, "container is avi"),
    "no clock": ("clip.h264", {"container_format": "h264"}, "carry no times"),
    "interlaced": (
        "clip.mp4",
        {"options": {"flags": "+ilme+ildct", "x264-params": "tff=1"}},
        "it is interlaced",
    ),
}


def assert_equal_to_pyav(path: Path | bytes, indices: list[int]) -> None:
    ours = open_video(path, decoder="pyav").read(indices)
    theirs = open_video(path, decoder="torchcodec").read(indices)
    np.testing.assert_array_equal(theirs.frames_THWC, ours.frames_THWC)
    np.testing.assert_array_equal(theirs.times, ours.times)
    assert theirs.warnings == ours.warnings == ()


@needs_torchcodec
@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_times_are_equal(make_video: MakeVideo, kind: str) -> None:
    name, how = KINDS[kind]
    path = make_video(name, 50, **how)
    video = open_video(path, decoder="torchcodec")
    total = len(video.times())
    np.testing.assert_array_equal(video.times(), open_video(path).times())
    frames = list(video)
    assert numbers_of(np.stack([frame.image_HWC for frame in frames])) == list(range(total))
    assert [frame.time for frame in frames] == video.times().tolist()
    for indices in ([0], [total - 1], [0, 3, 3, total // 2, total - 1], list(range(total))):
        assert_equal_to_pyav(path, indices)


@needs_torchcodec
def test_content_and_sampling(make_video: MakeVideo) -> None:
    path = make_video("clip.mp4", 30)
    assert_equal_to_pyav(path.read_bytes(), [4, 20])
    ours, theirs = (
        open_video(path, decoder=decoder).sample(5, rng=np.random.default_rng(1), short_side=40)
        for decoder in ("pyav", "torchcodec")
    )
    np.testing.assert_array_equal(ours.frames_THWC, theirs.frames_THWC)


ONE = 1 << 16


def _patch(path: Path, box: bytes, offset: int, numbers: tuple[int, ...]) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(f">{len(numbers)}i", content, content.index(box) + offset, *numbers)
    path.write_bytes(content)


@needs_torchcodec
@pytest.mark.parametrize(
    ("matrix", "mirrored"),
    [
        ((0, ONE, -ONE, 0), False),
        ((-ONE, 0, 0, -ONE), False),
        ((0, -ONE, ONE, 0), False),
        ((-ONE, 0, 0, ONE), True),
        ((0, ONE, ONE, 0), True),
    ],
)
def test_turned_files_are_equal_and_mirrored_ones_refused(
    make_video: MakeVideo, matrix: tuple[int, int, int, int], mirrored: bool
) -> None:
    path = make_video(num_frames=4)
    a, b, c, d = matrix
    _patch(path, b"tkhd", 44, (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    if mirrored:
        with pytest.raises(DecodeError, match=r"mirrored. Take decoder 'pyav'"):
            open_video(path, decoder="torchcodec").read([1])
    else:
        assert_equal_to_pyav(path, [0, 3])


@needs_torchcodec
def test_edit_lists_are_followed(make_video: MakeVideo) -> None:
    path = make_video(num_frames=20, options={"bf": "0"})
    content = path.read_bytes()
    (start,) = struct.unpack_from(">i", content, content.index(b"elst") + 16)
    timescale = struct.unpack_from(">i", content, content.index(b"mdhd") + 16)[0]
    _patch(path, b"elst", 16, (start + 5 * timescale // 10,))
    assert len(open_video(path, decoder="torchcodec").times()) == 15
    assert_equal_to_pyav(path, [0, 7, 14])


@needs_torchcodec
@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused(make_video: MakeVideo, kind: str) -> None:
    name, how, words = REFUSED[kind]
    path = make_video(name, 50, **how)
    with pytest.raises(DecodeError, match=words) as caught:
        open_video(path, decoder="torchcodec").read([0, 33])
    assert "Take decoder 'pyav'" in str(caught.value)


@needs_torchcodec
def test_damaged_files_are_refused(make_video: MakeVideo) -> None:
    path = make_video("clip.mp4", 60, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(DecodeError, match=r"frames can be decoded\. Take decoder 'pyav'"):
        open_video(path, decoder="torchcodec").sample(4)
    harmed = bytearray(content)
    middle = len(content) * 6 // 10
    harmed[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    with pytest.raises(DecodeError, match="torchcodec fails at frame"):
        list(open_video(bytes(harmed), decoder="torchcodec"))


@needs_torchcodec
@pytest.mark.parametrize(
    "name",
    [
        "kinetics400/springboard_diving_-AJ3JIMaS18.mp4",
        "kinetics400/surfing_water_--coBvtS-eQ.mp4",
        "ssv2/ssv2_task41_1.webm",
        "odd/av1_video.mkv",
        "odd/flipping_a_pancake.mkv",
        "odd/unordered.mov",
        "odd/video_90.mov",
        "odd/video_180.mov",
    ],
)
def test_real_files_are_equal(shared_dir: Path, name: str) -> None:
    path = shared_dir / "clips" / name
    total = len(open_video(path).times())
    assert_equal_to_pyav(path, np.unique(np.linspace(0, total - 1, 6).astype(int)).tolist())


@needs_torchcodec
def test_a_data_set_reads_with_it(make_video: MakeVideo) -> None:
    rows = (Row(str(make_video("a.mp4", 20)), None), Row(str(make_video("b.ts", 20)), None))
    samples = {}
    for decoder in ("auto", "torchcodec"):
        manifest = Manifest(name="m", rows=rows, labels=(), decoder=decoder)
        dataset = ClipDataset(manifest, sampling=Sampling(num_frames=3), size=32)
        samples[decoder] = [dataset[0, index] for index in range(2)]
    one, other = samples["auto"][0], samples["torchcodec"][0]
    assert isinstance(one, Sample)
    assert isinstance(other, Sample)
    assert (one.inputs.frames_BTHWC == other.inputs.frames_BTHWC).all()
    refused = samples["torchcodec"][1]
    assert isinstance(refused, BadClip)
    assert "Take decoder 'pyav'" in refused.reason


@needs_torchcodec
@pytest.mark.parametrize("source", [0, "97", "http://127.0.0.1:9/clip.mp4"])
def test_live_sources_are_refused(source: str | int) -> None:
    with pytest.raises(UsageError, match="reads files and bytes"):
        open_video(source, decoder="torchcodec")


def test_unknown_decoder(make_video: MakeVideo) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'torchcodec'\? Available: auto"):
        open_video(make_video("clip.mp4", 2), decoder="torchcodecs")
    with pytest.raises(UsageError, match="Unknown decoder"):
        Manifest(name="m", rows=(), labels=(), decoder="decord")


@pytest.mark.parametrize("error", [ModuleNotFoundError("torchcodec"), OSError("no libavutil\nx")])
def test_absent_torchcodec_says_what_to_install(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Broken:
        """Stands before all other ways of finding modules."""

        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == "torchcodec":
                raise error

    path = make_video("clip.mp4", 2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    # `auto` and `pyav` don't ask for it.
    assert len(open_video(path).read_all()) == 2
    assert len(open_video(path, decoder="pyav").read_all()) == 2
    with pytest.raises(UsageError, match=r"pip install 'videorwkv\[torchcodec\]'") as caught:
        open_video(path, decoder="torchcodec")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="pip install"):
        Manifest(name="m", rows=(), labels=(), decoder="torchcodec")


def test_importing_the_package_does_not_import_it() -> None:
    code = (
        "import sys, videorwkv, videorwkv.video.torchcodec_video\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'torchcodec'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", [["train"], ["evaluate", "run"], ["data", "bench"]])
def test_commands_obey_a_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    if command[0] == "evaluate":
        import tiny

        command = ["evaluate", str(tiny.trained(tmp_path / "run"))]
    data = "motion:train=4,validation=2,test=0,size=32"
    assert main([*command, data, "--decoder", "decord"]) == 2
    assert "Unknown decoder 'decord'" in capsys.readouterr().err
