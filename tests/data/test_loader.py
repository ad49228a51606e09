from __future__ import annotations

import errno
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videorwkv.data.cache import FrameCache
from videorwkv.data.dataset import ClipDataset
from videorwkv.data.load import load_manifest
from videorwkv.data.loader import Batch, Loader, make_loader
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError, DataError
from videorwkv.video.base import Sampling


def motion(clips: int = 11, **options: Any) -> ClipDataset:
    manifest = load_manifest(f"motion:train={clips},validation=0,test=0,size=32,frames=4")
    settings = {"sampling": Sampling(num_frames=4), "size": 32, "augmentation": Augmentation()}
    return ClipDataset(manifest, **{**settings, **options})


def content(batches: Any) -> list[tuple[bytes, bytes, list[int], list[int]]]:
    """All bytes of the batches."""
    return [
        (
            batch.inputs.frames_BTHWC.numpy().tobytes(),
            batch.inputs.edges_BTHW.numpy().tobytes(),
            batch.labels.tolist(),
            batch.indices.tolist(),
        )
        for batch in batches
    ]


def training(epoch: int = 0, start_batch: int = 0, **options: Any) -> Loader:
    return make_loader(motion(), batch_size=4, shuffle=True, **options).at(epoch, start_batch)


def test_batches() -> None:
    batches = list(make_loader(motion(), batch_size=4))
    assert [b.indices.tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert batches[0].inputs is not None
    assert batches[0].inputs.frames_BTHWC.shape == (4, 4, 32, 32, 3)
    assert batches[0].inputs.edges_BTHW.shape == (4, 4, 32, 32)
    assert batches[0].labels.dtype == torch.int64
    assert len(make_loader(motion(), batch_size=4, drop_last=True)) == 2


def test_same_bytes_with_any_number_of_workers() -> None:
    wanted = content(training(epoch=1))
    for workers in (1, 2):
        assert content(training(epoch=1, workers=workers)) == wanted


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = [
        [i for batch in training(seed=seed, epoch=epoch) for i in batch.indices.tolist()]
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_starts_in_the_middle_of_an_epoch(workers: int) -> None:
    whole = content(training(epoch=3))
    assert content(training(epoch=3, start_batch=1, workers=workers)) == whole[1:]
    assert len(training(epoch=3, start_batch=1)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_goes_through_the_epochs(workers: int) -> None:
    wanted = content(training(epoch=0))[2:] + content(training(epoch=1))
    loader = training(start_batch=2, endless=True, workers=workers)
    assert content(islice(loader, 4)) == wanted


def test_workers_serve_several_epochs_and_early_ends() -> None:
    loader = training(workers=2)
    first = content(islice(loader, 1))
    assert content(loader) == content(training())
    assert first == content(training())[:1]
    assert content(loader.at(5, 2)) == content(training(epoch=5))[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_each_piece_are_the_batch(workers: int) -> None:
    def indices(count: int, **options: Any) -> list[list[int]]:
        made = make_loader(motion(), batch_size=7, shuffle=True, endless=True, **options)
        found = [batch.indices.tolist() for batch in islice(made, count)]
        made.close()
        return found

    whole = indices(4)
    # Seven clips, then the four that are left, in two pieces for five processes: some get none.
    parts = [indices(8, pieces=2, part=(n, 5), workers=workers * (n == 4)) for n in range(5)]
    pieces = [[i for part in parts for i in part[number]] for number in range(8)]
    assert [pieces[n] + pieces[n + 1] for n in range(0, 8, 2)] == whole
    assert [len(piece) for piece in pieces] == [3, 4, 2, 2] * 2
    assert {len(part[0]) for part in parts} == {0, 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_generators_are_left_alone(workers: int) -> None:
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), str(np.random.get_state())
    list(training(workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert str(np.random.get_state()) == numpy_before


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_clips_are_counted(class_folder: Path, tmp_path: Path, workers: int) -> None:
    good = load_manifest(class_folder).rows[0]
    (tmp_path / "text.mp4").write_text("no video")
    rows = (good, Row(str(tmp_path / "text.mp4"), good.label), Row("gone.mp4", good.label))
    assert good.label is not None
    manifest = Manifest(name="m", rows=rows, labels=(good.label,))
    dataset = ClipDataset(manifest, sampling=Sampling(num_frames=2), size=32)
    mixed, only_bad = list(make_loader(dataset, batch_size=2, workers=workers))
    assert mixed.indices.tolist() == [0]
    assert [bad.index for bad in mixed.bad] == [1]
    assert only_bad.inputs is None
    assert only_bad.labels.shape == (0,)
    assert [(bad.index, bad.path) for bad in only_bad.bad] == [(2, "gone.mp4")]


@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    wanted = content(training())
    pinned: list[int] = []

    def pin_memory(self: torch.Tensor) -> torch.Tensor:
        copied = self.clone()
        pinned.append(copied.data_ptr())
        return copied

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batches = list(training(workers=workers, pin_memory=True))
    assert content(batches) == wanted
    for batch in batches:
        assert batch.inputs is not None
        tensors = (*batch.inputs, batch.labels, batch.indices)
        assert {tensor.data_ptr() for tensor in tensors} <= set(pinned)
    assert batches[0]._replace(inputs=None).pinned().inputs is None


def test_warnings_reach_the_batch() -> None:
    dataset = motion(2, augmentation=None, views=(8, 1))
    batch: Batch = next(iter(make_loader(dataset, batch_size=2)))
    assert batch.inputs is not None
    assert batch.inputs.frames_BTHWC.shape == (2, 8, 4, 32, 32, 3)
    assert [index for index, _ in batch.warnings] == [0, 1]
    assert "too short for 8" in batch.warnings[0][1]


@pytest.mark.parametrize("workers", [0, 1])
def test_full_disk_ends_the_run_in_one_line(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("videorwkv.data.cache.os.replace", full)
    dataset = ClipDataset(
        load_manifest(class_folder),
        sampling=Sampling(num_frames=2),
        size=32,
        cache=FrameCache(str(tmp_path / "cache"), 32),
    )
    with pytest.raises(DataError, match="No space left") as caught:
        list(make_loader(dataset, batch_size=2, workers=workers))
    assert "\n" not in str(caught.value)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        make_loader(motion(), batch_size=0)
    with pytest.raises(ConfigError, match=r"clip_timeout \(nan\)"):
        make_loader(motion(), batch_size=4, clip_timeout=float("nan"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="pin_memory is for a GPU"):
            make_loader(motion(), batch_size=4, pin_memory=True)
    with pytest.raises(DataError, match="11 clips can't give a full batch of 12"):
        make_loader(motion(), batch_size=12, drop_last=True)
