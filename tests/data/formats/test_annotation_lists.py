from __future__ import annotations

import os
from pathlib import Path

import disk
import pytest

from videorwkv.data.formats.tree import split_in_name
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError, UsageError

NAMES = "going down, slowly\nstanding up\nwave\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "my, data"
    disk.video(folder / "down, slowly/-a 1.mp4", folder / "up/b.webm")
    disk.frames(folder / "frames of c")
    return folder


@pytest.mark.parametrize(
    ("text", "layout", "labels"),
    [
        ("down, slowly/-a 1.mp4 0\nup/b.webm 2\nframes of c 2\n", "`path label`", ("0", "2")),
        ("down, slowly/-a 1.mp4,0\nup/b.webm,2\nframes of c,2\n", "`path,label`", ("0", "2")),
        ("down, slowly/-a 1.mp4;0\nup/b.webm;2\nframes of c;2\n", "`path;label`", ("0", "2")),
        ("down, slowly/-a 1.mp4\t0\nup/b.webm\t2\nframes of c\t2\n", "<tab>", ("0", "2")),
        ("down, slowly/-a 1.mp4 4 0\nup/b.webm 4 2\nframes of c 3 2\n", "n_frames", ("0", "2")),
        ("\ufeffdown, slowly/-a 1.mp4 fall over\r\n\r\nup/b.webm rise\nframes of c rise",
         "`path label`", ("fall over", "rise")),
        ('"down, slowly/-a 1.mp4",fall over\nup/b.webm,"rise, and more"\nframes of c,fall over\n',
         "`path,label`", ("fall over", "rise, and more")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["clips.txt", "clips.csv"])
def test_every_layout(
    text: str, layout: str, labels: tuple[str, ...], name: str, root: Path
) -> None:
    path = disk.text(root / name, text)
    for spec in (path, f"list:{path}"):
        manifest = load_manifest(spec, validation_share=0)
        assert [Path(r.path).name for r in manifest.rows] == ["-a 1.mp4", "b.webm", "frames of c"]
        assert manifest.labels == labels
        assert layout in manifest.summary()
        assert ("labels are numbers" in manifest.summary()) is (labels == ("0", "2"))
        assert manifest.flips is None
    for row in manifest.rows:
        with manifest.open(row) as clip:
            assert clip.read_all().frames_THWC.shape[1:] == (32, 32, 3)


def test_numbers_get_names(root: Path) -> None:
    path = disk.text(root / "clips.txt", "down, slowly/-a 1.mp4 0\nup/b.webm 1\n")
    names = disk.text(root / "names.txt", NAMES + "\n")
    manifest = load_manifest(path, label_names=names)
    assert [row.label for row in manifest.rows] == ["going down, slowly", "standing up"]
    assert manifest.labels == tuple(sorted(NAMES.splitlines()))
    assert "labels are numbers" not in manifest.summary()
    table = disk.text(root / "clips.csv", "path,label\nup/b.webm,2\n")
    manifest = load_manifest(table, label_names=names)
    assert (manifest.rows[0].label, len(manifest.labels)) == ("wave", 3)
    disk.text(path, "up/b.webm wave\n")
    assert load_manifest(path, label_names=names).rows[0].label == "wave"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("up/b.webm 3\n", r"clips\.txt:1: label 3, but there are 3 names"),
        (
            "up/b.webm 1\nup/c.webm wvae\n",
            r"clips\.txt:2: unknown label 'wvae'. Did you mean 'wave'",
        ),
    ],
)
def test_labels_without_a_name(text: str, message: str, root: Path) -> None:
    path, names = disk.text(root / "clips.txt", text), disk.text(root / "names.txt", NAMES)
    with pytest.raises(ManifestError, match=message):
        load_manifest(path, label_names=names)


def test_what_is_not_on_disk_is_counted(root: Path) -> None:
    path = disk.text(root / "l.txt", "up/b.webm 0\nup/gone.mp4 1\nnowhere/a.mp4 1\n")
    manifest = load_manifest(path)
    assert [Path(r.path).name for r in manifest.missing] == ["gone.mp4", "a.mp4"]
    assert "2 listed clips are not on disk" in manifest.summary()
    assert manifest.labels == ("0", "1")
    disk.text(path, "up/gone.mp4 1\n")
    with pytest.raises(ManifestError, match=r"none of the 1 listed clips is on disk.*up/gone"):
        load_manifest(path)


@pytest.mark.parametrize("place", ["annotations/train.txt", "../train.txt"])
def test_paths_may_start_beside_the_list(place: str, root: Path, tmp_path: Path) -> None:
    (root / "videos").mkdir()
    for name in ("up", "down, slowly"):
        (root / name).rename(root / "videos" / name)
    root.rename(tmp_path / "data")
    path = disk.text((tmp_path / "data" / place).resolve(), "videos/up/b.webm 0\n")
    manifest = load_manifest(path)
    assert not manifest.missing
    assert f"paths start at {tmp_path / 'data'}" in manifest.summary()


def test_absolute_paths(root: Path, tmp_path: Path) -> None:
    path = disk.text(tmp_path / "l.txt", f"{root / 'up/b.webm'} 0\n{root / 'frames of c'}/ 1\n")
    assert not load_manifest(path).missing


def test_the_name_of_a_list_is_its_split(root: Path) -> None:
    train = disk.text(root / "k400_train_list.txt", "down, slowly/-a 1.mp4 0\n")
    disk.text(root / "k400_val_list.txt", "up/b.webm 1\n")
    disk.text(root / "notes.txt", "hello")
    assert load_manifest(train).splits == ("train",)
    both = load_manifest(f"list:{root}")
    assert [(Path(r.path).name, r.split) for r in both.rows] == [
        ("-a 1.mp4", "train"),
        ("b.webm", "validation"),
    ]
    assert "k400_val_list.txt: a list of `path label`, validation by its name" in both.summary()
    disk.text(root / "val.txt", "up/b.webm 1\n")
    with pytest.raises(ManifestError, match=r"one list for each split"):
        load_manifest(f"list:{root}")


def test_each_list_has_its_own_place(tmp_path: Path) -> None:
    for split, names in {"train": "abc", "val": "ad"}.items():
        disk.video(*(tmp_path / f"{split}_256" / "wave" / f"{name}.mp4" for name in names))
        disk.text(tmp_path / f"{split}.txt", "".join(f"wave/{name}.mp4 0\n" for name in names))
    manifest = load_manifest(f"list:{tmp_path}")
    assert not manifest.missing
    assert [manifest.relative_path(row) for row in manifest.rows] == [
        *(f"train_256/wave/{name}.mp4" for name in "abc"),
        *(f"val_256/wave/{name}.mp4" for name in "ad"),
    ]


@pytest.mark.parametrize("quote", ["", '"'])
def test_labels_with_a_slash(quote: str, root: Path) -> None:
    lines = [f"{quote}up/b.webm{quote},{quote}open/close{quote}"]
    lines += [f'"frames of c",{quote or chr(34)}open/close{quote or chr(34)}']
    path = disk.text(root / "l.txt", "\n".join(lines))
    assert load_manifest(path).labels == ("open/close",)


def test_a_line_ends_where_editors_end_it(root: Path) -> None:
    (root / "up" / "b.webm").rename(root / "up" / "b\u2028c.webm")
    path = disk.text(root / "l.txt", "up/b\u2028c.webm 0\nframes of c 2\n")
    assert [row.line for row in load_manifest(path).rows] == [1, 2]


def test_a_layout_can_be_forced(root: Path) -> None:
    # By its form this might be a folder called `frames of c`, or one called `frames`.
    disk.frames(root / "take 3")
    path = disk.text(root / "l.txt", "take 3 0\n")
    with pytest.raises(ManifestError, match="none of the 1"):
        load_manifest(path)
    assert Path(load_manifest(path, layout="space").rows[0].path).name == "take 3"
    with pytest.raises(ManifestError, match=r"l\.txt:1: 'take 3 0' is not `path,label`. --layout"):
        load_manifest(path, layout="comma")
    with pytest.raises(UsageError, match=r"unknown layout 'spaces'. Did you mean 'space'"):
        load_manifest(path, layout="spaces")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("up/b.webm,0\nup/c.webm\n", r"l\.txt:2: 'up/c.webm' is not `path,label`"),
        ("a 4 0\nb 4 1\nc 5 1\nd 5 2\ne 3\n", r"l\.txt:5: 'e 3' is not `folder n_frames label`"),
        ("up/b.webm 0\nup/c.mp4 1\nup/b.webm 1\n", r"l\.txt:3: 'up/b.webm' is already in .*:1\."),
        ("\n\n", r"l\.txt: the list is empty"),
        ("hello\n", r"l\.txt:1: 'hello' is not a row of a list; wanted `path label`"),
    ],
)
def test_errors_name_file_and_line(text: str, message: str, root: Path) -> None:
    path = disk.text(root / "l.txt", text)
    with pytest.raises(ManifestError, match=message):
        load_manifest(path)


def test_a_txt_with_a_header_is_a_table(root: Path) -> None:
    path = disk.text(root / "l.txt", "path,label,split\nup/b.webm,wave,test\n")
    assert load_manifest(path).summary().startswith("csv: 1 clip, 1 class, test 1")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Val_256", "validation"),
        ("kinetics400_train_list_videos", "train"),
        ("videos-test", "test"),
        ("training_session", ""),
        ("my_val", ""),
        ("clips", ""),
        ("train_val", ""),
    ],
)
def test_split_in_name(name: str, split: str) -> None:
    assert split_in_name(name) == split


def test_the_name_of_a_list_does_not_change_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "train.txt").write_text("a.mp4 x\n")
    monkeypatch.chdir(tmp_path)
    relative, absolute = (load_manifest(f"list:{p}") for p in ("train.txt", tmp_path / "train.txt"))
    assert relative.digest == absolute.digest


def test_the_official_layout_of_ucf101(tmp_path: Path) -> None:
    names = disk.text(tmp_path / "ucfTrainTestlist/classInd.txt", "1 Archery\n2 Bowling\n")
    clips = [f"{c}/v_{c}_g{g:02d}_c01.avi" for c in ("Archery", "Bowling") for g in (1, 8)]
    disk.video(*(tmp_path / "UCF-101" / clip for clip in clips))
    disk.video(tmp_path / "somewhere else" / clips[1])
    lists = names.parent
    train = disk.text(lists / "trainlist01.txt", f"{clips[1]} 1\n{clips[3]} 2\n")
    manifest = load_manifest(train, label_names=names)
    assert [row.label for row in manifest.rows] == ["Archery", "Bowling"]
    assert f"paths start at {tmp_path / 'UCF-101'}" in manifest.summary()
    test = disk.text(lists / "testlist01.txt", f"{clips[0]}\n{clips[2]}\n")
    assert len(load_manifest(test).rows) == 2
    # Of two copies of the clips, the list does not say which.
    disk.video(*(tmp_path / "UCF-101 small" / clip for clip in clips))
    with pytest.raises(ManifestError, match="none of the 2 listed clips is on disk"):
        load_manifest(train, label_names=names)


def test_the_disk_is_not_asked_about_each_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 500
    for number in range(count):
        (tmp_path / f"clip{number}").mkdir()
    path = disk.text(tmp_path / "clips.txt", "".join(f"clip{n} 8 {n % 2}\n" for n in range(count)))
    asked = []
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or exists(path))
    assert len(load_manifest(f"list:{path}").rows) == count
    assert len({str(path) for path in asked if "clip" in Path(path).name}) < count / 2
    # Nor about each folder beside a list whose clips are elsewhere.
    asked.clear()
    disk.text(path, "".join(f"gone/clip{n} {n % 2}\n" for n in range(count)))
    with pytest.raises(ManifestError, match="is on disk"):
        load_manifest(f"list:{path}")
    assert 0 < len([path for path in asked if "gone" in str(path)]) < 3 * count
