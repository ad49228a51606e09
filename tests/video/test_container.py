"""Files as encoders write them: right frames, right times, whatever way they are reached."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numbered_video import number_of, numbered_frame, numbers_of

from videorwkv.errors import UsageError
from videorwkv.video import open_video

MakeVideo = Callable[..., Path]

# name, what is special: (file name, arguments of encode)
KINDS = {
    "h264, B-frames, many key frames": (
        "clip.mp4",
        {"options": {"g": "15", "bf": "3", "x264-params": "scenecut=0"}},
    ),
    "h264, open GOP": (
        "clip.mkv",
        {"options": {"g": "15", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}},
    ),
    "h264 in a transport stream": ("clip.ts", {"options": {"g": "15"}}),
    "h264, intra refresh instead of key frames": (
        "clip.mp4",
        {"options": {"g": "15", "x264-params": "intra-refresh=1"}},
    ),
    "vp9": (
        "clip.webm",
        {"codec": "libvpx-vp9", "options": {"g": "20", "deadline": "realtime", "cpu-used": "8"}},
    ),
    "mpeg4 avi, B-frames": ("clip.avi", {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "h264 avi, B-frames": ("clip.avi", {"options": {"g": "30", "bf": "3"}}),
    "h264 avi, B-frames far apart": ("clip.avi", {"options": {"preset": "veryslow"}}),
    "h264 asf, B-frames": ("clip.asf", {"options": {"g": "30", "bf": "3"}}),
    "mpeg4 asf, B-frames": ("clip.asf", {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "hevc": (
        "clip.mp4",
        {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=15:bframes=3"}},
    ),
    "10 bit": ("clip.mp4", {"pix_fmt": "yuv420p10le", "options": {"g": "15"}}),
    "raw h264 without any clock": ("clip.h264", {"container_format": "h264"}),
    "fragmented mp4 without a count": (
        "clip.mp4",
        {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_reading_agrees_with_iterating(make_video: MakeVideo, kind: str) -> None:
    name, how = KINDS[kind]
    path = make_video(name, 70, **how)
    video = open_video(path)
    iterated = list(video)
    assert [number_of(frame.image_HWC) for frame in iterated] == list(range(70))
    assert [frame.time for frame in iterated] == pytest.approx(video.times().tolist())
    for indices in ([0], [69], [3, 50, 51], [17, 17, 40, 68], list(range(30, 70, 3)), [31, 33]):
        clip = open_video(path).read(indices)
        assert numbers_of(clip.frames_THWC) == indices
        assert [warning[:27] for warning in clip.warnings] == (
            ["no frame carries a time: ta"] if "without any clock" in kind else []
        )
        for image_HWC, index in zip(clip.frames_THWC, indices, strict=True):
            np.testing.assert_array_equal(image_HWC, iterated[index].image_HWC)
        np.testing.assert_allclose(clip.times, video.times()[indices])


def test_times_of_a_constant_rate(make_video: MakeVideo) -> None:
    times = open_video(make_video(num_frames=25, fps=10)).times()
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, np.arange(25) / 10, atol=1e-9)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_times_of_a_variable_rate(make_video: MakeVideo, name: str) -> None:
    # One second at 20 frames a second, then one frame a second.
    milliseconds = [*range(0, 1000, 50), *range(1000, 11000, 1000)]
    video = open_video(make_video(name, pts=milliseconds))
    np.testing.assert_allclose(video.times(), np.array(milliseconds) / 1000, atol=1e-3)
    clip = video.sample(num_frames=11)
    # By index, seven of the eleven would be spent on the first second.
    numbers = numbers_of(clip.frames_THWC)
    assert sum(number < 20 for number in numbers) == 1
    assert len({number for number in numbers if number >= 20}) >= 9
    dense = video.sample(num_frames=4, fps=1.0, view=1, num_views=2)
    assert numbers_of(dense.frames_THWC) == [26, 27, 28, 29]


def _patch(path: Path, box: bytes, offset: int, numbers: tuple[int, ...]) -> None:
    """Overwrites big-endian numbers inside an mp4's first box of that name."""
    content = bytearray(path.read_bytes())
    struct.pack_into(f">{len(numbers)}i", content, content.index(box) + offset, *numbers)
    path.write_bytes(content)


ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((ONE, 0, 0, ONE), lambda image: image),
        ((0, ONE, -ONE, 0), lambda image: np.rot90(image, -1)),
        ((-ONE, 0, 0, -ONE), lambda image: np.rot90(image, 2)),
        ((0, -ONE, ONE, 0), lambda image: np.rot90(image, 1)),
        ((-ONE, 0, 0, ONE), lambda image: image[:, ::-1]),
        ((ONE, 0, 0, -ONE), lambda image: image[::-1]),
        ((0, ONE, ONE, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -ONE, -ONE, 0), lambda image: np.rot90(image.transpose(1, 0, 2), 2)),
    ],
)
def test_rotation_and_mirror_flags(
    make_video: MakeVideo, matrix: tuple[int, int, int, int], turn: Callable
) -> None:
    path = make_video(num_frames=3)
    plain = open_video(path).read_all().frames_THWC
    a, b, c, d = matrix
    _patch(path, b"tkhd", 44, (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    video = open_video(path)
    shown = video.read_all().frames_THWC
    for image_HWC, plain_HWC in zip(shown, plain, strict=True):
        np.testing.assert_array_equal(image_HWC, turn(plain_HWC))
    np.testing.assert_array_equal(next(iter(video)).image_HWC, shown[0])
    height, width = shown.shape[1:3]
    resized = video.read([0], short_side=32).frames_THWC
    assert resized.shape[1:3] == ((32, 48) if width > height else (48, 32))


def test_frames_cut_away_by_an_edit_list_are_not_shown(make_video: MakeVideo) -> None:
    path = make_video(num_frames=20, options={"bf": "0"})
    content = path.read_bytes()
    (start,) = struct.unpack_from(">i", content, content.index(b"elst") + 16)
    timescale = struct.unpack_from(">i", content, content.index(b"mdhd") + 16)[0]
    _patch(path, b"elst", 16, (start + 5 * timescale // 10,))
    video = open_video(path)
    assert [number_of(frame.image_HWC) for frame in video] == list(range(5, 20))
    np.testing.assert_allclose(video.times(), np.arange(15) / 10, atol=1e-9)
    clip = video.read([0, 14])
    assert numbers_of(clip.frames_THWC) == [5, 19]
    assert clip.warnings == ()


def test_bytes_give_what_the_file_gives(make_video: MakeVideo) -> None:
    path = make_video(num_frames=12)
    from_bytes = open_video(path.read_bytes())
    np.testing.assert_array_equal(
        from_bytes.sample(5).frames_THWC, open_video(path).sample(5).frames_THWC
    )
    assert "bytes" in from_bytes.name


@pytest.mark.parametrize(
    "name", ["with space, comma & ünïcode.mp4", "-i.mp4", "a:b.mp4", "http:clip.mp4", "%03d.mp4"]
)
@pytest.mark.parametrize("as_text", [True, False])
def test_awkward_names(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch, name: str, as_text: bool
) -> None:
    path = make_video("clip.mp4", num_frames=4)
    path.rename(path.with_name(name))
    monkeypatch.chdir(path.parent)
    assert len(open_video(name if as_text else Path(name)).read_all()) == 4


def test_one_frame(make_video: MakeVideo) -> None:
    video = open_video(make_video(num_frames=1))
    assert video.times().tolist() == [0.0]
    clip = video.sample(num_frames=4)
    assert numbers_of(clip.frames_THWC) == [0, 0, 0, 0]


@pytest.mark.parametrize("short_side", [1, 32, 64, 128])
def test_short_side(make_video: MakeVideo, short_side: int) -> None:
    clip = open_video(make_video(num_frames=9)).read([0, 5], short_side=short_side)
    assert min(clip.frames_THWC.shape[1:3]) == short_side
    assert clip.frames_THWC.shape[2] == max(1, round(short_side * 1.5))
    if short_side >= 32:
        assert numbers_of(clip.frames_THWC) == [0, 5]


def test_colours_are_rgb(make_video: MakeVideo) -> None:
    image_HWC = open_video(make_video(num_frames=1)).read([0]).frames_THWC[0]
    wanted_HWC = numbered_frame(0)
    assert np.abs(image_HWC.astype(int) - wanted_HWC).mean() < 6


def test_two_readers_at_once(make_video: MakeVideo) -> None:
    video = open_video(make_video(num_frames=30))
    first, second = iter(video), iter(video)
    numbers = []
    for _ in range(10):
        numbers.append((number_of(next(first).image_HWC), number_of(next(second).image_HWC)))
        assert numbers_of(video.read([20]).frames_THWC) == [20]
    assert numbers == [(n, n) for n in range(10)]


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([], "at least one"),
        ([[0, 1]], "at least one"),
        ([0.5], "at least one"),
        ([-1], "0..9"),
        ([10], "10 frames"),
        ([3, 2], "must not decrease"),
    ],
)
def test_wrong_indices(make_video: MakeVideo, indices: list, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_video(make_video(num_frames=10)).read(indices)


def test_indices_of_few_bits(make_video: MakeVideo) -> None:
    video = open_video(make_video(num_frames=200))
    assert numbers_of(video.read(np.array([2, 199], np.uint8)).frames_THWC) == [2, 199]
    with pytest.raises(UsageError, match="must not decrease"):
        video.read(np.array([3, 1], np.uint8))


def test_a_recording_behind_another_one(make_video: MakeVideo) -> None:
    path = make_video("clip.ts", 50, options={"g": "15"})
    path.write_bytes(path.read_bytes() * 2)
    clip = open_video(path).read_all()
    numbers = numbers_of(clip.frames_THWC)
    # FFmpeg calls the packet before the seam damaged, and so the warning counts it as lost.
    assert len(numbers) >= 97
    assert numbers[-50:] == [*range(50)]
    assert numbers[:-50] == [*range(len(numbers) - 50)]
    assert np.all(np.diff(clip.times) < 0.41)
    iterated = list(open_video(path))
    assert [number_of(frame.image_HWC) for frame in iterated] == numbers
    assert [frame.time for frame in iterated] == clip.times.tolist()


def test_wrong_short_side(make_video: MakeVideo) -> None:
    with pytest.raises(UsageError, match="short_side"):
        open_video(make_video(num_frames=3)).read_all(short_side=0)


def test_closed_videos_say_so(make_video: MakeVideo) -> None:
    path = make_video(num_frames=3)
    with open_video(path) as video:
        assert len(video.read_all()) == 3
    for use in (video.times, video.read_all, lambda: iter(video)):
        with pytest.raises(UsageError, match="closed"):
            use()
    video.close()
    assert "closed" in repr(video)


def test_random_sampling_is_a_function_of_the_generator(make_video: MakeVideo) -> None:
    video = open_video(make_video(num_frames=30))
    one, same, other = (
        video.sample(8, rng=np.random.default_rng(seed)).times.tolist() for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_title_that_is_no_utf8(make_video: MakeVideo) -> None:
    path = make_video("clip.avi", 8, codec="mpeg4", metadata={"title": "TITLE-TITLE"})
    data = path.read_bytes()
    assert b"TITLE-TITLE" in data
    data = data.replace(b"TITLE-TITLE", b"\xe9\xe8\xff\xfe\xe9\xe8\xff\xfe\xe9\xe8\xff")
    assert len(open_video(data).read_all()) == 8
