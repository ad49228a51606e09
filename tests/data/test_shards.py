from __future__ import annotations

import functools
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from formats.disk import frames

from videorwkv.cli.main import main
from videorwkv.data.cache import FrameCache
from videorwkv.data.dataset import BadClip, make_dataset
from videorwkv.data.formats.shards import expand_braces
from videorwkv.data.load import load_manifest
from videorwkv.data.loader import Loader
from videorwkv.data.manifest import Manifest
from videorwkv.data.shards.write import write_shards
from videorwkv.errors import DataError, DecodeError, ManifestError, UsageError
from videorwkv.models import LCRConfig
from videorwkv.training.loop import train
from videorwkv.utils import remote
from videorwkv.video.base import Sampling


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 clips of two classes, one of them a folder of frames."""
    root = tmp_path_factory.mktemp("clips") / "files"
    for number in range(6):
        split = "train" if number < 4 else "val"
        for label, flipped in (("left", True), ("right", False)):
            path = root / split / label / f"clip {number}.a.mp4"
            tiny.write_clip(path, level=5 * number, flipped=flipped)
    frames(root / "train" / "left" / "frames", (1, 2, 10))
    return root


@pytest.fixture(scope="module")
def packed(files: Path) -> Path:
    folder = files.parent / "shards"
    written = write_shards(load_manifest(files), folder, shard_size=20_000)
    assert (written.shards, written.clips, written.unreadable) == (3, 13, {})
    return folder


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for file in packed.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def server(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """Their address, and what has been asked for."""
    pytest.importorskip("aiohttp", reason="aiohttp is absent: pip install 'videorwkv[remote]'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(shards.parent / "cache"))
    monkeypatch.setattr(remote, "PAUSES", (0.0,))
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(f"{self.command} {self.path}")

    handler = functools.partial(Handler, directory=str(shards))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def weights(folder: Path) -> bytes:
    return (folder / "last.safetensors").read_bytes()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def samples(manifest: Manifest) -> list[Any]:
    model = LCRConfig(image_size=32, patch_size=8, width=16, head_width=8, depth=1)
    dataset = make_dataset(model, manifest, Sampling(num_frames=3))
    return [dataset[index] for index in range(len(dataset))]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


# -- on this disk ------------------------------------------------------------------------------


def test_shards_say_what_the_files_say(files: Path, packed: Path) -> None:
    by_file, by_shard = load_manifest(files), load_manifest(packed)
    assert [(r.label, r.split) for s in by_file.splits for r in by_file.split(s).rows] == [
        (row.label, row.split) for row in by_shard.rows
    ]
    assert (by_shard.labels, by_shard.name) == (by_file.labels, "folder")
    first = by_shard.relative_path(by_shard.rows[0])
    shard, _, name = first.partition("/")
    key = name.removesuffix(".mp4")
    with tarfile.open(packed / shard) as tar:
        assert tar.getnames()[:2] == ["000000.json", "000000.cls"]
        about = json.load(tar.extractfile(f"{key}.json"))  # type: ignore[arg-type]
    assert about == {"path": "train/left/clip 0.a.mp4", "label": "left"}
    # Read by shard, clips of all classes come soon.
    assert by_shard.shards is not None
    labels = {row.label for row in by_shard.rows if row.path.startswith(f"{packed / shard}/")}
    assert labels == {"left", "right"}


def test_training_from_shards_is_that_from_files_to_the_bit(
    files: Path, packed: Path, tmp_path: Path
) -> None:
    for name, place, workers in (("files", files, 0), ("shards", packed, 1)):
        recipe = tiny.recipe(steps=3, workers=workers)
        train(recipe, load_manifest(place), tmp_path / name, quiet=True)
    assert weights(tmp_path / "shards") == weights(tmp_path / "files")


def test_the_same_files_give_the_same_shards(files: Path, packed: Path, tmp_path: Path) -> None:
    write_shards(load_manifest(files), tmp_path / "again", shard_size=20_000)
    for file in packed.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(UsageError, match=r"holds shards; nothing is overwritten"):
        write_shards(load_manifest(files), tmp_path / "again")


def test_without_an_index_the_tars_are_looked_through(shards: Path) -> None:
    indexed = load_manifest(shards)
    (shards / "shards.json").unlink()
    found = load_manifest(shards)
    assert set(found.rows) == set(indexed.rows)
    for place in (
        f"shards:{shards}/train-{{000000..000001}}.tar",
        str(shards / "train-000000.tar"),
    ):
        assert set(load_manifest(place, validation_share=0).rows) <= set(indexed.rows)


@pytest.mark.parametrize("index", [True, False])
def test_a_shard_cut_short_is_named_and_counted(shards: Path, index: bool) -> None:
    first = shards / "train-000000.tar"
    whole = load_manifest(shards)
    assert whole.shards is not None
    wanted = [row for row in whole.rows if row.path.startswith(f"{first}/")]
    wanted.sort(key=lambda row: whole.shards.found[row.path])  # type: ignore[union-attr]
    cut(first, whole.shards.found[wanted[2].path][2] - 600)  # within the third clip
    if not index:
        (shards / "shards.json").unlink()
    manifest = load_manifest(shards)
    # An index knows all that is lost; the tar itself, the clip that it ends in.
    assert manifest.missing == tuple(wanted[2:] if index else wanted[2:3])
    assert not {*wanted[2:]} & {*manifest.rows}
    lost = len(manifest.missing)
    assert f"{first}: cut short after" in manifest.summary()
    assert f"{lost} clip{'s' * (lost > 1)} lost" in manifest.summary()
    assert not any(isinstance(sample, BadClip) for sample in samples(manifest.split("train")))


def test_a_shard_cut_between_two_members(shards: Path) -> None:
    (shards / "shards.json").unlink()
    with tarfile.open(shards / "train-000000.tar") as tar:
        third = [member for member in tar if member.name.endswith(".mp4")][2]
    cut(shards / "train-000000.tar", third.offset)
    manifest = load_manifest(shards)
    assert [row.path.rpartition("/")[2] for row in manifest.missing] == [third.name[:6]]
    assert manifest.missing[0].label in ("left", "right")


def test_frames_that_may_be_cut_are_lost_as_a_whole(shards: Path) -> None:
    (shards / "shards.json").unlink()
    name = next(row.path for row in load_manifest(shards).rows if not row.path.endswith(".mp4"))
    tar_file, _, key = name.rpartition("/")
    with tarfile.open(tar_file) as tar:
        last = [member for member in tar if member.name.startswith(f"{key}.0")][-1]
    cut(Path(tar_file), last.offset)
    assert name in [row.path for row in load_manifest(shards).missing]


def test_a_shard_that_changes_while_it_is_read(shards: Path) -> None:
    manifest = load_manifest(shards)
    cut(shards / "validation-000000.tar", 5000)
    bad = samples(manifest.split("validation"))
    reasons = [sample.reason for sample in bad if isinstance(sample, BadClip)]
    assert len(reasons) == 3  # of four, the first is whole
    for reason in reasons:
        assert f"{shards}/validation-000000.tar: the shard is cut short" in reason
    (shards / "validation-000000.tar").unlink()
    assert "can't be read" in samples(manifest.split("validation"))[0].reason
    again = load_manifest(shards)
    assert "validation-000000.tar: no such file; 4 clips lost" in again.summary()


def _foreign(folder: Path, files: Path) -> Path:
    """Shards as others write them: a number, a name in JSON, a picture, something unknown."""
    folder.mkdir()
    clip = (files / "train" / "left" / "clip 0.a.mp4").read_bytes()
    picture = (files / "train" / "left" / "frames" / "00001.jpg").read_bytes()
    with tarfile.open(folder / "clips-val.tar", "w") as tar:
        add(tar, "b/1.mp4", clip)
        add(tar, "b/1.cls", b"1\n")
        add(tar, "b/1.txt", b"a caption")
        add(tar, "b/2.jpg", picture)
        add(tar, "b/2.json", b'{"label": 0, "width": 32}')
        add(tar, "__MACOSX/b/2.cls", b"5")
        add(tar, "notes.txt", b"no clip")
    return folder


def test_shards_of_others(files: Path, tmp_path: Path) -> None:
    folder = _foreign(tmp_path / "foreign", files)
    names = tmp_path / "names.txt"
    names.write_text("still\nleft\n")
    manifest = load_manifest(folder, label_names=names)
    assert [
        (row.path.removeprefix(f"{folder}/"), row.label, row.split) for row in manifest.rows
    ] == [
        ("clips-val.tar/b/1.mp4", "left", "validation"),
        ("clips-val.tar/b/2.jpg", "still", "validation"),
    ]
    video, picture = samples(manifest)
    assert video.inputs.frames_BTHWC.shape == picture.inputs.frames_BTHWC.shape
    assert load_manifest(folder).labels == ("0", "1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1.json", b'{"caption": "x"}', r"1\.mp4: no label; wanted text in a \.cls"),
        ("1.json", b'{"label": [1, 2]}', r"1: label \[1, 2\]; one name or number"),
        ("1.json", b"{", r"1\.json: Expecting"),
        ("1.mp4", b"", r"two members are called 1\.mp4"),
    ],
)
def test_what_can_not_be_understood(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        add(tar, "1.mp4", b"0")
        add(tar, name, content)
    with pytest.raises(ManifestError, match=message):
        load_manifest(tmp_path / "train.tar")


def test_places_that_are_no_shards(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar")
    for place, error, message in (
        (tmp_path / "a.tar", ManifestError, "no tar that can be read"),
        (f"shards:{shards}/x-{{1..2}}.tar", UsageError, r"x-1\.tar: no such file"),
        (f"shards:{shards}/x-{{5..2}}.tar", UsageError, "from 5 to 2"),
        ("rsync://host/x.tar", UsageError, "Allowed: http://"),
        ("shards:simplecache::http://host/x.tar", UsageError, "no such file"),
        ("http://host/x.tar::file://x", UsageError, "are not read"),
    ):
        with pytest.raises(error, match=message):
            load_manifest(place)
    (shards / "more.tar").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"more\.tar: not in shards\.json"):
        load_manifest(shards)


def test_a_damaged_index_is_told(shards: Path) -> None:
    index = shards / "shards.json"
    index.write_text(index.read_text().replace('"left"', '"lefT"'))
    with pytest.raises(ManifestError, match=r"shards\.json: damaged .* Delete it"):
        load_manifest(shards)


def test_braces() -> None:
    assert list(expand_braces("a-{08..10}{x,y}")) == [
        f"a-{number}{letter}" for number in ("08", "09", "10") for letter in "xy"
    ]


# -- at an address -----------------------------------------------------------------------------


def test_training_from_a_server(
    shards: Path, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = server
    manifest = load_manifest(address)
    assert manifest.digest == load_manifest(shards).digest
    for workers in (0, 1):
        train(tiny.recipe(steps=3, workers=workers), manifest, tmp_path / str(workers), quiet=True)
    assert weights(tmp_path / "0") == weights(tmp_path / "1")
    # The second one found the copies.
    fetched = [line for line in asked if ".tar" in line and line.startswith("GET")]
    assert len(fetched) == len(set(fetched)) == 3


def test_shards_of_a_server_without_an_index(server: tuple[str, list[str]], shards: Path) -> None:
    address, asked = server
    (shards / "shards.json").unlink()
    with pytest.raises(UsageError, match=r"without an index there \(shards\.json\)"):
        load_manifest(address)
    place = f"{address}/train-{{000000..000001}}.tar"
    first = load_manifest(place)
    assert sorted(row.label or "" for row in first.rows) == ["left"] * 5 + ["right"] * 4
    asked.clear()
    assert load_manifest(place).rows == first.rows
    assert not any(line.startswith("GET") for line in asked)  # it is known by now
    cut(shards / "train-000000.tar", 5000)
    again = load_manifest(place)
    assert f"{address}/train-000000.tar: cut short after 5,000 bytes" in again.summary()


def test_a_server_whose_shard_is_cut_short(server: tuple[str, list[str]], shards: Path) -> None:
    manifest = load_manifest(server[0]).split("validation")
    cut(shards / "validation-000000.tar", 5000)
    reasons = [sample.reason for sample in samples(manifest) if isinstance(sample, BadClip)]
    assert len(reasons) == 3
    assert all("validation-000000.tar: the shard is cut short" in reason for reason in reasons)


def test_a_server_that_is_gone(server: tuple[str, list[str]], shards: Path) -> None:
    manifest = load_manifest(server[0]).split("validation")
    (shards / "validation-000000.tar").unlink()
    assert "no such file" in samples(manifest)[0].reason
    with pytest.raises(DataError, match="can't be fetched"):
        load_manifest("http://127.0.0.1:9/shards")  # nobody listens there


def test_order_by_shard() -> None:
    shard_of = [number // 10 for number in range(100)]

    def order(seed: int, epoch: int) -> list[int]:
        loader = Loader(_dataset(shard_of), batch_size=1, shuffle=True, seed=seed)
        return loader._keys.order(epoch)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)
    for start in (0, 40):  # four shards at a time, their clips mixed
        part = order(3, 5)[start : start + 40]
        assert len({shard_of[index] for index in part}) == 4
        assert len({shard_of[index] for index in part[:10]}) > 1
    assert sorted(order(3, 5)) == list(range(100))


def _dataset(shard_of: list[int]) -> Any:
    from videorwkv.data.manifest import Row, make_manifest
    from videorwkv.data.shards import Shards
    from videorwkv.data.shards.store import ShardStore

    rows = [Row(f"m://s{shard}.tar/{n}", "a") for n, shard in enumerate(shard_of)]
    found = {row.path: (shard, 0, 1) for row, shard in zip(rows, shard_of, strict=True)}
    places = tuple(f"m://s{number}.tar" for number in range(10))
    manifest = make_manifest("shards", rows, root="")
    shards = Shards(places=places, found=found, store=ShardStore(folder="unused"))
    manifest = Manifest(name="x", rows=manifest.rows, labels=("a",), shards=shards)
    return make_dataset(LCRConfig(image_size=32), manifest, Sampling(num_frames=2))


def test_copies_that_are_used_least_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from videorwkv.data.shards import store as module

    fetched: list[str] = []

    def fetch(place: str, target: Path) -> None:
        fetched.append(place)
        target.write_bytes(place.encode())

    monkeypatch.setattr(module, "fetch_address", fetch)
    store = module.ShardStore(folder=str(tmp_path / "copies"), kept=2)
    for number, place in enumerate(("a", "b", "a", "c", "b")):
        path = store.path(place)
        assert path.read_text() == place
        os.utime(path, (number, number))
    assert fetched == ["a", "b", "c", "b"]  # a was used later than b when c came
    assert len(list((tmp_path / "copies").glob("*.tar"))) == 2


# -- rows with an address ----------------------------------------------------------------------


@pytest.fixture
def bucket(files: Path) -> Iterator[str]:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/a.mp4", (files / "train" / "left" / "clip 0.a.mp4").read_bytes())
    yield "memory://bucket/a.mp4"
    system.rm("/bucket", recursive=True)


def test_a_csv_file_may_name_addresses(bucket: str, files: Path, tmp_path: Path) -> None:
    local = files / "train" / "left" / "clip 0.a.mp4"
    table = tmp_path / "clips.csv"
    gone = "memory://bucket/gone.mp4"
    table.write_text(f"path,label,split\n{bucket},a,train\n{local},b,train\n{gone},b,train\n")
    manifest = load_manifest(table)
    assert [row.path for row in manifest.rows] == [bucket, str(local), gone]
    one, other, bad = samples(manifest)
    assert torch.equal(one.inputs.frames_BTHWC, other.inputs.frames_BTHWC)
    assert isinstance(bad, BadClip)
    assert bad.reason == f"{gone}: no such file."
    cache = FrameCache(str(tmp_path / "cache"), 32)
    with cache.open(bucket, lambda: manifest.open(manifest.rows[0])) as video:
        assert len(video.times()) == 8
    with cache.open(bucket, lambda: pytest.fail("it is stored")) as video:
        assert len(video.times()) == 8


def test_addresses_that_are_not_read(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("path,label\nssh://host/a.mp4,a\n")
    with pytest.raises(ManifestError, match=r"clips\.csv:2: ssh://host/a\.mp4: .*not read"):
        load_manifest(table)


def test_what_a_package_is_missing_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")

    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UsageError, match=r"Install s3fs.*videorwkv\[remote\]"):
        remote.read_address("s3://bucket/a.mp4")


def test_a_network_that_fails_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    answers: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 1 // 0, lambda: 7]
    assert remote._tried("x", lambda: answers.pop(0)()) == 7
    with pytest.raises(DecodeError, match="access is denied"):
        remote._tried("x", lambda: _raise(PermissionError("no")))


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "no such file"), (403, r"refuses it \(403\)"), (500, None)]
)
def test_what_a_server_answers(
    monkeypatch: pytest.MonkeyPatch, status: int, reason: str | None
) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0,))
    error = FileNotFoundError("x")
    error.__cause__ = OSError("answer")
    error.__cause__.status = status  # type: ignore[attr-defined]
    # Another attempt changes nothing where the server has refused; else the run ends.
    with pytest.raises(DecodeError if reason else DataError, match=reason or "can't be fetched"):
        remote._tried("x", lambda: _raise(error))


def _raise(error: Exception) -> None:
    raise error


# -- the command -------------------------------------------------------------------------------


def test_prepare_packs(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "packed")
    table = tmp_path / "clips.csv"
    local = files / "train" / "left" / "clip 0.a.mp4"
    table.write_text(f"path,label,split\n{local},a,train\ngone.mp4,b,test\n")
    assert main(["data", "prepare", str(table), "--shards", out, "--shard-size", "0.01"]) == 1
    printed = capsys.readouterr().out
    assert "1 clip in 2 shards" in printed
    assert f"unreadable: {tmp_path / 'gone.mp4'}: can't be read (No such file" in printed
    assert main(["data", "prepare", "motion", "--shards", out]) == 2
    assert main(["data", "prepare", out, "--shards", f"{out}2"]) == 2
    assert main(["data", "prepare", str(table), "--out", out, "--shard-size", "1"]) == 2
    assert main(["data", "check", out]) == 2
    assert "clips in shards or at an address are not checked" in capsys.readouterr().err
