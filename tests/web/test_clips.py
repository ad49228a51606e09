from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from videorwkv.errors import DataError, DecodeError, UsageError
from videorwkv.video import open_video
from videorwkv.video.writer import write_video
from videorwkv.web.clips import LONGEST_NAME, ClipFolder, checked_name, missing


@pytest.fixture
def clips(tmp_path: Path) -> Iterator[ClipFolder]:
    with ClipFolder(tmp_path / "clips") as clips:
        yield clips


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny.write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", frames=8).read_bytes()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("wave", "wave"),
        ("  thumbs \t up ", "thumbs up"),
        ("五", "五"),
        ("e\u0301", "é"),  # one way to write it, as two folders of one look would be two classes
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a.b", "a.b"),
        ("c++ & co, 100 %", "c++ & co, 100 %"),
        ("x" * LONGEST_NAME, "x" * LONGEST_NAME),
        ("console", "console"),
    ],
)
def test_names_that_are_folders_everywhere(clips: ClipFolder, name: str, kept: str) -> None:
    assert clips.add_class(name) == kept
    assert list(clips.classes()) == [kept]
    assert [path.name for path in clips.root.iterdir()] == [kept]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "needs a name"),
        (" \t", "needs a name"),
        ("..", "dot"),
        (".", "dot"),
        (".hidden", "dot"),
        ("wave.", "dot"),
        ("a/b", "has / in it"),
        ("../other", "has / in it"),
        ("/etc", "has / in it"),
        ("a\\b", r"has \\ in it"),
        ("C:", "has : in it"),
        ("a|b", "in it"),
        ("what?", "in it"),
        ("a\0b", "can't be seen"),
        ("a\u202eb", "can't be seen"),
        ("a\ud800b", "can't be seen"),
        ("con", "reserved"),
        ("Lpt1.txt", "reserved"),
        ("__MACOSX", "reserved"),
        ("Train", "name of a split"),
        ("x" * (LONGEST_NAME + 1), "at most 60 characters"),
    ],
)
def test_names_that_are_not(clips: ClipFolder, name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        clips.add_class(name)
    assert not list(clips.root.iterdir())


def test_longest_name_in_bytes() -> None:
    """The longest name is one that file systems take."""
    assert len(checked_name("\U0001f44b" * LONGEST_NAME).encode()) <= 255


def test_no_two_names_that_look_alike(clips: ClipFolder) -> None:
    clips.add_class("Wave hello")
    with pytest.raises(UsageError, match="already"):
        clips.add_class("Wave hello")
    with pytest.raises(UsageError, match="spelling alone"):
        clips.add_class("wave_hello")
    assert list(clips.classes()) == ["Wave hello"]


def test_a_clip_is_kept_found_and_deleted(clips: ClipFolder, video: bytes) -> None:
    clips.add_class("wave")
    assert clips.add_clip("wave", [video[:100], video[100:]]) == "clip-0001.mp4"
    assert clips.add_clip("wave", [video]) == "clip-0002.mp4"
    # Nothing else is left.
    files = sorted(p.relative_to(clips.root).as_posix() for p in clips.root.rglob("*"))
    assert files == ["wave", "wave/clip-0001.mp4", "wave/clip-0002.mp4"]
    assert clips.clip("wave", "clip-0001.mp4").read_bytes() == video
    assert clips.picture("wave", "clip-0001.mp4")[:2] == b"\xff\xd8"
    clips.remove_clip("wave", "clip-0001.mp4")
    assert list(clips.classes()["wave"]) == ["clip-0002.mp4"]
    # A number is never given to a second clip beside the first.
    assert clips.add_clip("wave", [video]) == "clip-0003.mp4"
    with pytest.raises(UsageError, match="has 2 clips: delete them first"):
        clips.remove_class("wave")
    for name in ("clip-0002.mp4", "clip-0003.mp4"):
        clips.remove_clip("wave", name)
    clips.remove_class("wave")
    assert clips.classes() == {}


def test_the_suffix_is_that_of_the_content(clips: ClipFolder, tmp_path: Path) -> None:
    clips.add_class("wave")
    frames_THWC = np.zeros((6, 32, 32, 3), np.uint8)
    write_video(tmp_path / "clip.gif", frames_THWC, 10)
    assert clips.add_clip("wave", [(tmp_path / "clip.gif").read_bytes()]) == "clip-0001.gif"


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\nhttp://127.0.0.1/clip.ts\n"])
def test_what_is_no_video_leaves_nothing(clips: ClipFolder, content: bytes) -> None:
    clips.add_class("wave")
    with pytest.raises(DecodeError, match="This is no clip: ") as raised:
        clips.add_clip("wave", [content])
    # Nobody knows the name that it had here.
    assert str(clips.root) not in str(raised.value)
    assert [path.name for path in clips.root.rglob("*")] == ["wave"]


def test_too_short_and_too_long(
    clips: ClipFolder, tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.add_class("wave")
    short = tiny.write_clip(tmp_path / "short.mp4", frames=3).read_bytes()
    with pytest.raises(DecodeError, match="has 3 frames, in which nothing can move"):
        clips.add_clip("wave", [short])
    monkeypatch.setattr("videorwkv.web.clips.LONGEST", 0.5)
    with pytest.raises(DecodeError, match="This video has 1 s; a clip of one action has at most"):
        clips.add_clip("wave", [video])
    assert [path.name for path in clips.root.rglob("*")] == ["wave"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process is not forked")
def test_a_clip_that_kills_its_reader(
    tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_at(path: Path) -> None:
        os._exit(3)

    monkeypatch.setattr("videorwkv.web.clips.look_at", look_at)
    with ClipFolder(tmp_path) as clips:
        clips.add_class("wave")
        for _ in range(2):  # the next one is read all the same
            with pytest.raises(DecodeError, match="exit code 3"):
                clips.add_clip("wave", [video])
        assert clips.classes() == {"wave": {}}


@pytest.mark.parametrize("name", ["../secret", "..", "", "a/b", "wave/../..", "/etc", "\0"])
def test_no_name_is_made_into_a_path(clips: ClipFolder, video: bytes, name: str) -> None:
    (clips.root.parent / "secret").mkdir()
    (clips.root.parent / "secret" / "clip.mp4").write_bytes(video)
    clips.add_class("wave")
    clips.add_clip("wave", [video])
    for action in (
        lambda: clips.add_clip(name, [video]),
        lambda: clips.clip(name, "clip.mp4"),
        lambda: clips.clip("wave", f"{name}/clip.mp4"),
        lambda: clips.remove_clip("wave", f"../{name}/clip.mp4"),
        lambda: clips.remove_class(name),
    ):
        with pytest.raises(UsageError, match="any more"):
            action()
    assert (clips.root.parent / "secret" / "clip.mp4").exists()
    assert list(clips.classes()["wave"]) == ["clip-0001.mp4"]


def test_goes_on_with_what_is_there(class_folder: Path) -> None:
    with ClipFolder(class_folder) as clips:
        found = clips.classes()
        assert [len(names) for names in found.values()] == [3, 3, 3, 3]
        assert missing(found) == []
        name = next(iter(found["going up, slowly"]))
        assert clips.picture("going up, slowly", name)[:2] == b"\xff\xd8"


def test_a_folder_of_frames_is_a_clip(clips: ClipFolder) -> None:
    clips.add_class("wave")
    frames = clips.root / "wave" / "one"
    frames.mkdir()
    with open_video(tiny.write_clip(clips.root.parent / "clip.mp4", frames=6)) as video:
        import cv2

        for number, image_HWC in enumerate(video.read_all().frames_THWC):
            cv2.imwrite(str(frames / f"{number}.png"), image_HWC)
    assert list(clips.classes()["wave"]) == ["one"]
    assert clips.picture("wave", "one")[:2] == b"\xff\xd8"
    with pytest.raises(UsageError, match="delete it in the file manager"):
        clips.remove_clip("wave", "one")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_a_reader_that_ends_between_two_clips(clips: ClipFolder) -> None:
    """No clip gets the picture of the one that was asked for before."""
    levels = {"dark": 10, "middle": 100, "bright": 250}
    for name, level in levels.items():
        folder = clips.root / clips.add_class(name) / "frames"
        folder.mkdir()
        for n in range(5):
            cv2.imwrite(str(folder / f"{n:03d}.png"), np.full((16, 16, 3), level, np.uint8))
    clips.picture("middle", "frames")
    os.kill(clips._pool._workers[0].process.pid, signal.SIGKILL)
    clips._pool._workers[0].process.join()
    with pytest.raises(DataError, match="has ended"):
        clips.picture("dark", "frames")
    for name in ("bright", "dark"):
        picture = cv2.imdecode(np.frombuffer(clips.picture(name, "frames"), np.uint8), 1)
        assert abs(picture.mean() - levels[name]) < 2


def test_what_is_missing(clips: ClipFolder) -> None:
    assert "two classes" in missing(clips.classes())[0]
    some, more = {"1": Path(), "2": Path()}, {"1": Path(), "2": Path(), "3": Path()}
    assert missing({"a": more, "b": more}) == []
    assert missing({"a": more, "b": some, "c": {}}) == [
        "b: 1 more clip needed.",
        "c: 3 more clips needed.",
    ]


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be made"):
        ClipFolder(tmp_path / "file")
    (tmp_path / "data" / "train" / "wave").mkdir(parents=True)
    with pytest.raises(UsageError, match="the name of a split"):
        ClipFolder(tmp_path / "data")
