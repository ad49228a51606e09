from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import heap
from pathlib import Path
from typing import Any

import pytest
import torch

from videorwkv.data import guard
from videorwkv.data.cache import FrameCache
from videorwkv.data.dataset import ClipDataset
from videorwkv.data.load import load_manifest
from videorwkv.data.loader import Loader, make_loader
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import DataError
from videorwkv.utils.interrupt import NUMBERS
from videorwkv.video.base import Sampling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the openers here need fork")

BATCH = 4


def clips(manifest: Manifest, **options: Any) -> ClipDataset:
    settings = {"sampling": Sampling(num_frames=4), "size": 32, "augmentation": Augmentation()}
    return ClipDataset(manifest, **{**settings, **options})


def loader(dataset: ClipDataset, epoch: int = 0, start_batch: int = 0, **options: Any) -> Loader:
    made = make_loader(dataset, batch_size=BATCH, shuffle=True, **options)
    return made.at(epoch, start_batch)


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


@dataclass(frozen=True)
class Opener:
    """Opens a clip, or kills the process by a signal; 0 hangs it, a negative number ends it."""

    manifest: Manifest
    fates: dict[str, int]
    note: Path | None = None

    def __call__(self, row: Row) -> Any:
        if self.note is not None:
            with self.note.open("a") as file:
                file.write(f"{row.path}\n")
            time.sleep(0.1)  # the answer before is sent by then
        fate = self.fates.get(row.path)
        if fate is None:
            return self.manifest.open(row)
        if fate < 0:
            os._exit(0)
        die(fate) if fate else time.sleep(600)
        return None


def failing(manifest: Manifest, fates: dict[int, int], note: Path | None = None) -> Manifest:
    """The same clips, of which some kill the process that opens them."""
    rows = {manifest.rows[index].path: fate for index, fate in fates.items()}
    return replace(manifest, opener=Opener(manifest, rows, note))


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
    assert (tmp_path / "tried").read_text().splitlines().count(broken.rows[0].path) == 1


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
    ("number", "part"), [(signal.SIGKILL, "memory has run out"), (signal.SIGQUIT, "(quit)")]
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


def traces() -> tuple[set[str], int, int, int]:
    """What processes and shared memory leave behind: files, open ones, mappings, threads."""
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if "rw-s" in line]
    threads = threading.active_count()
    return set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd")), len(shared), threads


def test_nothing_is_left_behind(class_folder: Path) -> None:
    whole = load_manifest(class_folder)
    list(loader(clips(whole), workers=2))  # what is made once
    gc.collect()
    before = traces()[1:]
    for _ in range(3):
        made = loader(clips(failing(whole, {3: signal.SIGSEGV})), endless=True, workers=2)
        kept = list(islice(made, 6))
        assert len(list(islice(made, 30))) == 30
        made.close()
        assert len(by_row(kept)) == 22
        dropped = loader(clips(whole), workers=2)
        list(dropped)
        del made, dropped, kept
        gc.collect()
        assert not multiprocessing.active_children()
        assert traces()[1:] == before


def test_shared_memory_does_not_grow(class_folder: Path) -> None:
    """It is taken once, has no name and none is left in /dev/shm."""
    made = loader(clips(load_manifest(class_folder)), endless=True, workers=2)
    batches = iter(made)
    next(batches)
    files, _, mappings, _ = traces()
    kept = list(islice(batches, 30))
    assert traces()[2] == mappings
    assert not {name for name in traces()[0] - files if name.startswith(("torch", "pym"))}
    made.close()
    assert len(by_row(kept)) == 120


def test_many_bad_clips_in_one_epoch() -> None:
    """13 crash, 22 hang and 5 are good."""
    whole = load_manifest("motion:train=40,validation=0,test=0,size=32,frames=4")
    fates = {n: int(signal.SIGSEGV) for n in range(0, 39, 3)}
    fates |= dict.fromkeys([n for n in range(40) if n not in fates][:22], 0)
    made = loader(clips(failing(whole, fates)), workers=4, clip_timeout=0.5)
    batches = list(made)
    made.close()
    bad = [clip for batch in batches for clip in batch.bad]
    assert sorted(clip.index for clip in bad) == sorted(fates)
    for clip in bad:
        assert ("took longer" in clip.reason) == (fates[clip.index] == 0)
        assert ("signal 11" in clip.reason) == (fates[clip.index] != 0)
    wanted = by_row(loader(clips(whole)))
    assert by_row(batches) == {key: clip for key, clip in wanted.items() if key[1] not in fates}


def test_a_restart_reads_little_again(class_folder: Path, tmp_path: Path) -> None:
    whole = load_manifest(class_folder)
    broken = failing(whole, dict.fromkeys((1, 4, 7, 10), int(signal.SIGABRT)), tmp_path / "opened")
    (batch,) = make_loader(clips(broken), batch_size=12, workers=2)
    assert sorted(clip.index for clip in batch.bad) == [1, 4, 7, 10]
    opened = (tmp_path / "opened").read_text().splitlines()
    # A worker that dies may take along what it had not sent yet.
    assert 12 <= len(opened) <= 16


def test_a_decoder_that_ends_the_process(class_folder: Path) -> None:
    whole = load_manifest(class_folder)
    (bad,) = (
        clip for batch in loader(clips(failing(whole, {2: -1})), workers=2) for clip in batch.bad
    )
    assert bad.index == 2
    assert "the decoder crashed: the process ended by itself with exit code 0" in bad.reason


def workers_of(made: Loader) -> list[Any]:
    assert made._guard is not None
    return made._guard._iterator._workers  # type: ignore[no-any-return]


def test_a_crash_is_no_error_in_what_the_program_is_at(class_folder: Path) -> None:
    """Torch's own loader raises one from a signal handler, wherever the program is."""
    broken = failing(load_manifest(class_folder), {5: signal.SIGSEGV})
    made = make_loader(clips(broken), batch_size=1, workers=1)
    batches = iter(made)
    read = [next(batches) for _ in range(4)]
    (process,) = workers_of(made)
    while process.exitcode is None:
        time.sleep(0.01)
    read += batches
    assert [clip.index for batch in read for clip in batch.bad] == [5]


def test_workers_die_before_they_are_ready(
    class_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard._Reader, "start", lambda *_: die(signal.SIGABRT))
    with pytest.raises(DataError, match=r"before it was ready: .* (signal 6|Aborted).*workers=0"):
        list(loader(clips(load_manifest(class_folder)), workers=2))


def test_a_worker_dies_between_two_epochs(class_folder: Path) -> None:
    made = loader(clips(load_manifest(class_folder)), workers=2)
    list(made)
    workers_of(made)[1].kill()
    with pytest.raises(DataError, match=r"nothing to do has ended: .* memory"):
        list(made.at(1))
    assert len(by_row(made.at(2))) == 12


@pytest.mark.parametrize("number", NUMBERS)
def test_ctrl_c_and_its_like_are_the_parents(class_folder: Path, number: int) -> None:
    made = loader(clips(load_manifest(class_folder)), workers=2)
    wanted = by_row(made)
    processes = workers_of(made)
    for process in processes:
        os.kill(process.pid, number)
    assert by_row(made) == wanted
    assert all(process.exitcode is None for process in processes)


def read_in_a_daemon(folder: Path) -> tuple[dict[tuple[int, int], bytes], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        made = loader(clips(load_manifest(folder)), workers=2)
        for epoch in range(3):
            read = by_row(made.at(epoch))
    return read, [str(warning.message) for warning in caught]


def test_a_daemonic_process_reads_without_workers(class_folder: Path) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        read, told = pool.apply(read_in_a_daemon, (class_folder,))
    assert read == by_row(loader(clips(load_manifest(class_folder)), epoch=2))
    (message,) = told
    assert "daemonic process" in message
    assert "without workers" in message


@pytest.fixture
def spawn() -> Iterator[None]:
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type]


@pytest.mark.usefixtures("spawn")
def test_spawned_workers(class_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container whose /dev/shm is too small: shared memory lies in a temporary file.
    monkeypatch.setattr(heap.Arena, "_dir_candidates", [])
    whole = load_manifest(class_folder)
    wanted = by_row(islice(loader(clips(whole), endless=True), 6))
    made = loader(
        clips(failing(whole, {2: signal.SIGSEGV, 9: 0})), workers=1, clip_timeout=1, endless=True
    )
    reading = iter(made)
    batches = list(islice(reading, 6))
    assert [type(worker).__name__ for worker in workers_of(made)] == ["SpawnProcess"]
    made.close()
    assert by_row(batches) == {key: clip for key, clip in wanted.items() if key[1] not in (2, 9)}
    reasons = {clip.index: clip.reason for batch in batches for clip in batch.bad}
    assert "signal 11 (" in reasons[2]
    assert "took longer than 1 s" in reasons[9]


PARENT = """
import os, sys, threading, time
from dataclasses import replace
from videorwkv.data import ClipDataset, guard, load_manifest, make_loader
from videorwkv.video import Sampling

guard.GRACE = 0.1
whole = load_manifest("motion:train=8,validation=0,test=0,size=32,frames=4")
slow = replace(whole, opener=lambda row: time.sleep(600))
loader = make_loader(
    ClipDataset(slow, sampling=Sampling(num_frames=4), size=32), batch_size=2, workers=2
)

def end():
    guarded = loader._guard
    while guarded._iterator is None or not all(guarded._note(n)[0] % 2 for n in range(2)):
        time.sleep(0.01)
    print(*[process.pid for process in guarded._iterator._workers], flush=True)
    os.kill(os.getpid(), int(sys.argv[1]))

threading.Thread(target=end).start()
next(iter(loader))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_parent(number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(int(number))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    pids = done.stdout.split()
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
