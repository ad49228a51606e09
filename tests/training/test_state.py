"""A state.pt that is damaged or hostile resumes nothing and costs nothing."""

from __future__ import annotations

import copy
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from mutants import flipped_bits

from videorwkv.errors import CheckpointError, VideoRWKVError
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.state import load_state, save_state

RESUMED = {"resume": True, "quiet": True}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after two of its four steps, with an average of its weights."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    train(tiny.recipe(ema=0.5), tiny.manifest(), folder, on_step=stop, quiet=True)
    return folder


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "run")


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def test_every_flipped_bit_is_told(run: Path) -> None:
    path = run / "state.pt"
    whole = load_state(run)
    told = 0
    for changed in flipped_bits(path.read_bytes(), 60, seed=0):
        path.write_bytes(changed)
        try:
            assert equal(load_state(run), whole)
        except CheckpointError:
            told += 1
    assert told >= 20


@pytest.mark.parametrize("seed", range(3))
def test_cut_or_filled_with_zeros(run: Path, seed: int) -> None:
    path = run / "state.pt"
    content = path.read_bytes()
    place = len(content) * (seed + 1) // 4
    for damaged in (content[:place], content[:place] + bytes(len(content) - place),
                    content[:place] + bytes(64) + content[place + 64 :]):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"state\.pt can't be read"):
            load_state(run)


def put(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(state: dict[str, Any]) -> None:
        for key in keys[:-1]:
            state = state[key]  # type: ignore[index]
        state[keys[-1]] = value(state[keys[-1]]) if callable(value) else value  # type: ignore[index]

    return edit


def nan(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor, float("nan"))


HOSTILE = {
    "a step beyond the end": (put("step", value=10**9), r"step: got 1000000000; allowed: .* 4,"),
    "a step before the beginning": (put("step", value=-1), "step: got -1"),
    "a step that is no number": (put("step", value="2"), "step: got '2'"),
    "a step that is a truth": (put("step", value=True), "step: got True"),
    "a step of tensors": (put("step", value=torch.tensor(2)), "step: got tensor"),
    "evaluated later": (put("evaluated_at", value=3), "evaluated_at: got 3"),
    "best of three": (put("best", value=[0.5, 0.0, 0.0]), "best: got"),
    "best above one": (put("best", value=[2.0, -1.0]), "best: got"),
    "best of NaN": (put("best", value=[float("nan"), -1.0]), "best: got"),
    "best of text": (put("best", value="ab"), "best: got"),
    "bad clips as a list": (put("bad", value=["a"]), "bad: got"),
    "bad clips of numbers": (put("bad", value={"a": 1}), "bad: got"),
    "no model": (put("model", value=None), "model: got None"),
    "a model of text": (put("model", value={"x": "y"}), "model: .* names missing or unknown"),
    "keys of two kinds": (put("model", 3, value=1), "model"),
    "int64 weights": (put("model", "head.weight", value=lambda t: t.long()), "torch.int64"),
    "weights of another shape": (put("model", "head.weight", value=lambda t: t.T), "head"),
    "one number as all": (
        put("model", "head.weight", value=lambda t: torch.zeros(1).expand(2**40, 2)), "head.weight"
    ),
    "NaN weights": (put("model", "head.weight", value=nan), r"model\.head\.weight: holds NaN"),
    "NaN in the average": (put("averaged", "head.bias", value=nan), r"averaged\.head\.bias"),
    "no average": (put("averaged", value=None), "averaged: got None"),
    "no optimiser": (put("optimizer", value=[]), r"optimizer: got \[\]"),
    "groups as a number": (put("optimizer", "param_groups", value=1), "param_groups: got 1"),
    "one group": (put("optimizer", "param_groups", value=lambda g: g[:1]), "param_groups"),
    "other parameters": (put("optimizer", "param_groups", 0, "params", value=[0]), "param_groups"),
    "state of no parameter": (
        put("optimizer", "state", value=lambda s: {999: s[0]}), r"state\[999\]: got 999"
    ),
    "moments that are NaN": (put("optimizer", "state", 0, "exp_avg", value=nan), "exp_avg: holds"),
    "moments below zero": (
        put("optimizer", "state", 0, "exp_avg_sq", value=lambda t: t - 1), "it can't be below 0"
    ),
    "moments of another shape": (
        put("optimizer", "state", 0, "exp_avg", value=torch.zeros(3)), "exp_avg: got"
    ),
    "moments missing": (put("optimizer", "state", 0, value={}), "step, exp_avg, exp_avg_sq"),
    "sparse weights": (put("model", "head.weight", value=lambda t: t.to_sparse()), "names"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_state_is_refused(run: Path, name: str) -> None:
    edit, part = HOSTILE[name]
    state = load_state(run)
    edit(state)
    save_state(run, state)
    before = (run / "last.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=part) as caught:
        train(None, tiny.manifest(), run, **RESUMED)
    assert "state.pt" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert (run / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "key", ["step", "evaluated_at", "best", "bad", "model", "averaged", "optimizer"]
)
def test_what_is_missing_is_named(run: Path, key: str) -> None:
    state = load_state(run)
    del state[key]
    save_state(run, state)
    with pytest.raises(CheckpointError, match=f"'{key}' is missing"):
        train(None, tiny.manifest(), run, **RESUMED)


def test_the_rates_of_the_file_are_not_used(run: Path, stopped: Path, tmp_path: Path) -> None:
    """Nor is it used that its tensors lie in the same memory."""
    whole = shutil.copytree(stopped, tmp_path / "whole")
    state = load_state(run)
    for group in state["optimizer"]["param_groups"]:
        group.update(lr="fast", betas=None, eps=1e9, weight_decay=float("nan"), foreach=3)
    state["model"]._metadata = 5
    for moments in state["optimizer"]["state"].values():
        if moments["exp_avg"].abs().max() == 0:
            moments["exp_avg"] = torch.zeros(1).expand(moments["exp_avg"].shape)
    save_state(run, state)
    train(None, tiny.manifest(), run, **RESUMED)
    train(None, tiny.manifest(), whole, **RESUMED)
    assert (run / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


def rezipped(path: Path, pickled: bytes, *, method: int = zipfile.ZIP_STORED) -> None:
    """The archive with another pickle in it, its sums in order."""
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    name = next(name for name in members if name.endswith(".pkl"))
    with zipfile.ZipFile(path, "w", method) as new:
        for member, content in {**members, name: pickled}.items():
            new.writestr(member, content)


def test_a_pickle_that_makes_buffers_is_not_read(run: Path) -> None:
    """PyTorch holds `bytearray(2 ** 40)` for safe."""

    class Huge:
        def __reduce__(self) -> tuple[object, tuple[int]]:
            return bytearray, (2**40,)

    for protocol in (2, 4):
        content = pickle.dumps({"step": Huge()}, protocol=protocol)
        rezipped(run / "state.pt", content)
        with pytest.raises(CheckpointError, match=r"which no state does"):
            load_state(run)


def test_a_key_of_a_million_tuples(run: Path) -> None:
    deep = b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s."
    rezipped(run / "state.pt", deep)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        load_state(run)


def test_a_compressed_archive_is_not_unpacked(run: Path) -> None:
    """A megabyte may hold gigabytes of zeros."""
    rezipped(run / "state.pt", bytes(10**8), method=zipfile.ZIP_DEFLATED)
    assert (run / "state.pt").stat().st_size < 10**6
    with pytest.raises(CheckpointError, match="larger than the file"):
        load_state(run)


def test_a_state_larger_than_its_model_is_not_read(run: Path) -> None:
    with (run / "state.pt").open("r+b") as file:
        file.truncate(1 << 40)  # without a block of its own
    with pytest.raises(CheckpointError, match=r"it has 1\.1 TB"):
        train(None, tiny.manifest(), run, **RESUMED)


def test_a_state_that_is_a_list(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save([1], buffer)
    (tmp_path / "state.pt").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="wanted a dict"):
        load_state(tmp_path)


def test_labels_that_are_not_those_of_the_data(run: Path) -> None:
    tiny.edit_config(run, lambda config: config["labels"].reverse())
    with pytest.raises(CheckpointError, match="labels are not those of the data"):
        train(None, tiny.manifest(), run, **RESUMED)


LINES = [
    b"7", b"[]", b'"x"', b"{}", b'{"kind": 3, "step": 1}', b'{"kind": "step"}', b"\xff\xfe",
    b'{"kind": "step", "step": "1", "loss": 1, "accuracy": 1}', b'{"kind": "step", "step": NaN}',
    b'{"kind": "step", "step": 1, "loss": "x", "accuracy": 1}', b"[" * 200_000,
    b'{"kind": "validation", "step": 1, "loss": 1, "top1": null}', b'{"kind": "st',
    b'{"kind": "validation", "step": -1, "loss": 1, "top1": 1}', b"x" * (3 << 20),
]  # fmt: skip


def test_a_log_of_strange_lines(run: Path) -> None:
    path = run / "log.jsonl"
    own = path.read_bytes().splitlines()
    found = read_log(path)
    assert len(found) == len(own) > 1
    path.write_bytes(b"\n".join([own[0], *LINES, *own[1:]]) + b"\n")
    assert read_log(path) == found
    train(None, tiny.manifest(), run, **RESUMED)
    assert [entry["step"] for entry in read_log(path) if entry["kind"] == "step"] == [1, 2, 3, 4]


@pytest.mark.parametrize("scored", [None, 3, [], [{}], [{"name": 1}], ["x"], {"name": "x"}])
def test_baselines_of_a_strange_log_are_scored_again(stopped: Path, tmp_path: Path, scored: object
) -> None:  # fmt: skip
    from videorwkv.training.compare import scored_before

    entry = {"kind": "baselines", "step": 4, "validation": 8, "baselines": scored}
    assert scored_before([entry]) is None
    good = {"name": "x", "nearest": 0.5, "ridge": 0.25}
    known = scored_before([entry, {**entry, "baselines": [good]}])
    assert known is not None
    assert known.validation == 8


def test_a_log_that_is_a_pipe(run: Path) -> None:
    (run / "log.jsonl").unlink()
    os.mkfifo(run / "log.jsonl")
    with pytest.raises(CheckpointError, match="no regular file"):
        train(None, tiny.manifest(), run, **RESUMED)


def test_mutants_resume_or_are_refused(stopped: Path, tmp_path: Path) -> None:
    """No mutant gives an error of Python's or PyTorch's own."""
    import numpy as np
    from mutants import STRANGE, places

    rng = np.random.default_rng(0)
    state = load_state(stopped)
    everywhere = [place for place in places(state) if "param_groups" not in place]
    folder = shutil.copytree(stopped, tmp_path / "run")
    refused = 0
    for _ in range(24):
        mutant = copy.deepcopy(state)
        *above, last = everywhere[rng.integers(len(everywhere))]
        holder: Any = mutant
        for key in above:
            holder = holder[key]
        holder[last] = STRANGE[rng.integers(len(STRANGE))]
        save_state(folder, mutant)
        try:
            train(None, tiny.manifest(), folder, **RESUMED)
        except VideoRWKVError:
            refused += 1
            continue
        shutil.rmtree(folder)
        shutil.copytree(stopped, folder)
    assert refused >= 20
