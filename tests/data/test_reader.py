from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from videorwkv.data import reader
from videorwkv.data.batch import Batch
from videorwkv.data.cache import FrameCache
from videorwkv.data.dataset import ClipDataset
from videorwkv.data.load import load_manifest
from videorwkv.data.loader import Loader, make_loader
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import DataError
from videorwkv.video.base import Sampling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the openers here need fork")

BATCH = 4


def clips(manifest: Manifest, **options: Any) -> ClipDataset:
    settings = {"sampling": Sampling(num_frames=4), "size": 32, "augmentation": Augmentation()}
    return ClipDataset(manifest, **{**settings, **options})


def loader(dataset: ClipDataset, **options: Any) -> Loader:
    return make_loader(dataset, batch_size=BATCH, shuffle=True, **options)


def by_row(batches: Any) -> dict[tuple[int, int], bytes]:
    """(batch, row) -> all bytes of the clip."""
    return {
        (number, row): bytes([label]) + frames.numpy().tobytes() + edges.numpy().tobytes()
        for number, batch in enumerate(batches)
        if batch.inputs is not None
        for frames, edges, label, row in zip(
            *batch.inputs, batch.labels.tolist(), batch.indices.tolist(), strict=True
        )
    }


def die(number: int) -> None:
    """As a decoder that crashes, without pytest's report of it."""
    faulthandler.disable()
    os.kill(os.getpid(), number)
    time.sleep(600)


def failing(manifest: Manifest, fates: dict[int, int], note: Path | None = None) -> Manifest:
    """The same clips, of which some kill the process that opens them; 0 hangs it."""
    rows = {manifest.rows[index].path: number for index, number in fates.items()}

    def opener(row: Row) -> Any:
        if row.path in rows:
            if note is not None:
                with note.open("a") as file:
                    file.write(f"{row.path}\n")
            die(rows[row.path]) if rows[row.path] else time.sleep(600)
        return manifest.open(row)

    return replace(manifest, opener=opener)


@pytest.fixture(params=["own", "real"])
def manifest(request: pytest.FixtureRequest) -> Manifest:
    """Eleven clips, generated ones or real ones."""
    if request.param == "own":
        whole = load_manifest(request.getfixturevalue("class_folder"))
    else:
        whole = load_manifest(request.getfixturevalue("shared_dir") / "data/fight")
    rows = whole.rows[:: len(whole.rows) // 11][:11]
    return replace(whole, rows=rows)


def test_same_bytes_with_any_number_of_workers_and_after_a_resume(manifest: Manifest) -> None:
    wanted = by_row(islice(loader(clips(manifest), endless=True), 6))
    assert len(wanted) == 22
    for workers in (1, 2):
        batches = loader(clips(manifest), endless=True, workers=workers)
        assert by_row(islice(batches, 6)) == wanted
        batches.close()
        for start in (1, 2, 4):
            there = {(n - start, row): clip for (n, row), clip in wanted.items() if n >= start}
            resumed = loader(
                clips(manifest),
                epoch=start // 3,
                start_batch=start % 3,
                endless=True,
                workers=workers,
            )
            assert by_row(islice(resumed, 6 - start)) == there
            resumed.close()


def test_evaluation_and_views_in_workers(manifest: Manifest) -> None:
    for views in ((1, 1), (2, 3)):
        dataset = clips(manifest, augmentation=None, views=views)
        made = [
            by_row(make_loader(dataset, batch_size=BATCH, workers=workers)) for workers in (0, 2)
        ]
        assert made[0] == made[1]
        assert len(made[0]) == 11


def test_a_cache_at_native_size_changes_no_byte(class_folder: Path, tmp_path: Path) -> None:
    whole = load_manifest(class_folder)  # 48 x 48
    wanted = by_row(islice(loader(clips(whole), endless=True), 6))
    for workers in (0, 2):
        cache = FrameCache(str(tmp_path / f"cache{workers}"), 48)
        for _ in range(2):
            cached = loader(clips(whole, cache=cache), endless=True, workers=workers)
            assert by_row(islice(cached, 6)) == wanted
            cached.close()
        assert any((tmp_path / f"cache{workers}").iterdir())


def test_clips_go_through_pipes_where_nothing_is_forked(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_SHARES_MEMORY", False)
    bad = replace(manifest, rows=(*manifest.rows[:10], Row("gone.mp4", manifest.rows[0].label)))
    wanted = by_row(loader(clips(bad)))
    assert by_row(loader(clips(bad), workers=2)) == wanted
    assert len(wanted) == 10


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_is_a_bad_clip_and_changes_no_other(manifest: Manifest, number: int) -> None:
    wanted = by_row(islice(loader(clips(manifest), endless=True), 6))
    broken = failing(manifest, {2: number, 7: number})
    made = loader(clips(broken), endless=True, workers=2)
    batches = list(islice(made, 6))
    made.close()
    assert by_row(batches) == {key: clip for key, clip in wanted.items() if key[1] not in (2, 7)}
    bad = [clip for batch in batches for clip in batch.bad]
    assert sorted(clip.index for clip in bad) == [2, 2, 7, 7]
    for clip in bad:
        assert clip.path == manifest.rows[clip.index].path
        assert "the decoder crashed" in clip.reason
        assert f"signal {int(number)} (" in clip.reason


def test_what_crashed_is_not_tried_again(class_folder: Path, tmp_path: Path) -> None:
    broken = failing(load_manifest(class_folder), {0: signal.SIGSEGV}, tmp_path / "tried")
    made = loader(clips(broken), workers=2)
    for epoch in range(3):
        batches = list(made.at(epoch))
        assert [clip.index for batch in batches for clip in batch.bad] == [0]
    assert len((tmp_path / "tried").read_text().splitlines()) == 1


def test_a_hang_is_a_bad_clip(class_folder: Path) -> None:
    whole = load_manifest(class_folder)
    wanted = by_row(loader(clips(whole)))
    made = loader(clips(failing(whole, {5: 0})), workers=2, clip_timeout=3)
    batches = list(made)
    assert by_row(batches) == {key: clip for key, clip in wanted.items() if key[1] != 5}
    (bad,) = (clip for batch in batches for clip in batch.bad)
    assert bad.reason.startswith(f"{whole.rows[5].path}: reading it took longer than 3 s")
    assert "--clip-timeout" in bad.reason


def test_a_batch_of_crashes_only(class_folder: Path) -> None:
    whole = load_manifest(class_folder)
    broken = failing(whole, dict.fromkeys(range(12), int(signal.SIGSEGV)))
    batches = list(loader(clips(broken), workers=2))
    assert [batch.inputs for batch in batches] == [None, None, None]
    assert sorted(clip.index for batch in batches for clip in batch.bad) == list(range(12))


@pytest.mark.parametrize(
    ("number", "part"), [(signal.SIGKILL, "memory has run out"), (signal.SIGTERM, "terminated")]
)
def test_killed_from_outside_ends_the_run(class_folder: Path, number: int, part: str) -> None:
    whole = load_manifest(class_folder)
    with pytest.raises(DataError, match=part) as caught:
        list(loader(clips(failing(whole, {3: number})), workers=2))
    message = str(caught.value)
    assert whole.rows[3].path in message
    assert "fewer --workers" in message
    assert "\n" not in message


def test_a_defect_in_a_worker_keeps_its_type(class_folder: Path) -> None:
    whole = load_manifest(class_folder)

    def opener(row: Row) -> Any:
        raise ZeroDivisionError("a defect")

    made = loader(clips(replace(whole, opener=opener)), workers=1)
    with pytest.raises(ZeroDivisionError, match="a defect") as caught:
        list(made)
    assert "in opener" in str(caught.value.__cause__)


def test_batches_stay_valid_as_long_as_they_are_held(class_folder: Path) -> None:
    dataset = clips(load_manifest(class_folder))
    wanted = by_row(islice(loader(dataset, endless=True), 12))
    made = loader(dataset, endless=True, workers=2)
    kept = list(islice(made, 12))
    assert by_row(kept) == wanted
    made.close()
    assert by_row(kept) == wanted

    made = loader(dataset, workers=2)
    kept = [batch for epoch in range(4) for batch in made.at(epoch)]
    assert by_row(kept) == wanted
    made.close()

    # Views alone hold their batch too.
    made = loader(dataset, endless=True, workers=2)
    views = [batch.inputs.frames_BTHWC[1:3, 0] for batch in islice(made, 12) if batch.inputs]
    made.close()
    for view, batch in zip(views, kept, strict=True):
        assert batch.inputs is not None
        assert torch.equal(view, batch.inputs.frames_BTHWC[1:3, 0])


def test_memory_is_used_again(class_folder: Path) -> None:
    """As a training loop holds them, all batches lie in few places, and none is copied."""
    made = loader(clips(load_manifest(class_folder)), endless=True, workers=2)
    places = set()
    batch: Batch | None = None
    for batch in islice(made, 30):
        assert batch.inputs is not None
        places.add(batch.inputs.frames_BTHWC.data_ptr())
        # Memory that is not PyTorch's own: a copy would be.
        assert not batch.inputs.frames_BTHWC.untyped_storage().resizable()
    made.close()
    assert len(places) <= 4


def test_a_new_iteration_ends_the_one_before(class_folder: Path) -> None:
    dataset = clips(load_manifest(class_folder))
    made = loader(dataset, workers=1)
    first = iter(made)
    next(first)
    assert by_row(made) == by_row(loader(dataset))
    with pytest.raises(RuntimeError, match="another one"):
        next(first)


def test_workers_end_with_the_iteration_that_is_left(class_folder: Path, tmp_path: Path) -> None:
    whole = load_manifest(class_folder)

    def opener(row: Row) -> Any:
        (tmp_path / str(os.getpid())).touch()
        return whole.open(row)

    made = loader(clips(replace(whole, opener=opener)), workers=2)
    for _ in made:
        break
    pids = [path.name for path in tmp_path.iterdir()]
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(by_row(made)) == 12
    made.close()
