from __future__ import annotations

import json
import os
import shutil
import signal
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor

from videorwkv.data import Augmentation, Row
from videorwkv.errors import CheckpointError, DataError, NonFiniteError, UsageError
from videorwkv.models import LCR, layer
from videorwkv.run import run as run_files
from videorwkv.run.run import read_run
from videorwkv.training import trainer
from videorwkv.training.loggers import jsonl
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.setup import notes
from videorwkv.training.state import load_state
from videorwkv.utils.interrupt import NUMBERS


def weights(folder: Path, which: str = "last") -> dict[str, Tensor]:
    return load_file(folder / f"{which}.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def stop_at(step: int) -> Callable[[int], None]:
    def on_step(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss_frames": "all", "ema": 0.9},
        {"precision": "bfloat16", "model": {"drop_path": 0.5, "depth": 2}},
    ],
)
def test_resumed_run_ends_with_the_same_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    # 20 clips in batches of 4: the cuts lie within the first epoch and within the second.
    recipe = tiny.recipe(steps=8, eval_every=3, **changes)
    whole = train(recipe, tiny.manifest(), tmp_path / "whole", quiet=True)
    assert (whole.step, whole.interrupted) == (8, False)

    parts = tmp_path / "parts"
    first = train(recipe, tiny.manifest(), parts, quiet=True, on_step=stop_at(2))
    assert (first.step, first.interrupted) == (2, True)
    second = train(None, tiny.manifest(), parts, quiet=True, resume=True, on_step=stop_at(6))
    assert second.interrupted
    third = train(recipe, tiny.manifest(), parts, quiet=True, resume=True)
    assert (third.step, third.interrupted) == (8, False)

    assert equal(weights(parts), weights(whole.folder))
    assert equal(weights(parts, "best"), weights(whole.folder, "best"))
    steps = [e["step"] for e in read_log(parts / "log.jsonl") if e["kind"] == "step"]
    assert steps == list(range(1, 9))
    checks = [e["step"] for e in read_log(parts / "log.jsonl") if e["kind"] == "validation"]
    assert checks == [3, 6, 8]


def test_the_number_of_workers_changes_no_weight_nor_does_a_resume(tmp_path: Path) -> None:
    whole = tiny.trained(tmp_path / "whole", steps=7, eval_every=7)
    parts = tmp_path / "parts"
    recipe = tiny.recipe(steps=7, eval_every=7, workers=2)
    train(recipe, tiny.manifest(), parts, quiet=True, on_step=stop_at(3))
    train(replace(recipe, workers=1), tiny.manifest(), parts, quiet=True, resume=True)
    assert equal(weights(parts), weights(whole))


def test_resume_begins_a_run_where_there_is_none(tmp_path: Path) -> None:
    whole = tiny.trained(tmp_path / "whole", steps=4)
    run = tmp_path / "run"
    # Stopped before its first checkpoint, as by a kill: all that there is can be thrown away.
    begun = replace(tiny.manifest(), opener=lambda row: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if not child:
        try:
            train(tiny.recipe(steps=4), begun, run, resume=True, quiet=True)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (run / "config.json").exists()
    assert not (run / "state.pt").exists()
    result = train(None, tiny.manifest(), run, resume=True, quiet=True)
    assert (result.step, result.interrupted) == (4, False)
    assert equal(weights(run), weights(whole))
    # Weights without what resuming needs are not written over.
    (run / "state.pt").unlink()
    with pytest.raises(CheckpointError, match="Nothing to resume"):
        train(None, tiny.manifest(), run, resume=True, quiet=True)
    assert equal(weights(run), weights(whole))


def test_checkpoints_are_written_after_some_minutes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = 0.0
    monkeypatch.setattr(trainer, "time", SimpleNamespace(
        monotonic=lambda: 60 * minutes, perf_counter=lambda: 60 * minutes
    ))  # fmt: skip
    written = []

    def on_step(step: int) -> None:
        nonlocal minutes
        minutes += 4
        state = tmp_path / "run" / "state.pt"
        written.append(load_state(state.parent)["step"] if state.exists() else 0)

    recipe = tiny.recipe(steps=10, eval_every=6)
    train(recipe, tiny.manifest(), tmp_path / "run", quiet=True, on_step=on_step)
    # `on_step` comes before what is written after its step: 12 minutes pass until step 3, at step 6
    # a validation has written, 9 is three steps later.
    assert written == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    whole = tiny.trained(tmp_path / "whole", steps=10, eval_every=6, checkpoint_minutes=0)
    assert equal(weights(tmp_path / "run"), weights(whole))


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    tiny.trained(tmp_path / "a", steps=1)
    tiny.trained(tmp_path / "b", steps=1)
    tiny.trained(tmp_path / "c", steps=1, seed=1)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(
        tiny.recipe(steps=30, lr=5e-3, eval_every=30, model={"tube_mask_ratio": 0.0}),
        tiny.manifest(),
        tmp_path / "run",
        quiet=True,
    )
    losses = [e["loss"] for e in read_log(tmp_path / "run/log.jsonl") if e["kind"] == "step"]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_average_lags_behind_the_weights(tmp_path: Path) -> None:
    folder = tiny.trained(tmp_path / "run", ema=0.9)
    state = load_state(folder)
    assert equal(weights(folder), state["averaged"])
    assert not equal(state["averaged"], state["model"])


def test_average_takes_over_the_statistics_of_batch_norm(tmp_path: Path) -> None:
    folder = tiny.trained(tmp_path / "run", ema=0.9)
    state = load_state(folder)
    names = [name for name in state["model"] if "running" in name]
    assert names
    for name in names:
        assert torch.equal(state["averaged"][name], state["model"][name]), name
        assert not torch.equal(state["model"][name], torch.zeros_like(state["model"][name])), name


def test_workers_live_from_the_first_epoch_to_the_last(tmp_path: Path) -> None:
    whole = tiny.manifest()
    started = tmp_path / "started"

    def opener(row: Row) -> Any:
        if row.split == "train":
            with started.open("a") as file:
                file.write(f"{os.getpid()}\n")
        return whole.open(row)

    # 5 steps an epoch; the validation split's workers are another matter.
    recipe = tiny.recipe(steps=12, eval_every=12, workers=1)
    train(recipe, replace(whole, opener=opener), tmp_path / "run", quiet=True)
    pids = started.read_text().split()
    assert len(pids) >= 12 * 4
    assert len(set(pids)) == 1
    assert str(os.getpid()) not in pids


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++")))
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="torch.compile needs a C++ compiler and Python's headers on a CPU",
)
# Dynamo looks at deprecated and private parts of PyTorch itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_run_goes_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = torch.compile, 0

    def spy(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        compiled = real(function, **options)

        def run(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return compiled(*arguments)

        return run

    layer.compiled_method.cache_clear()
    monkeypatch.setattr(torch, "compile", spy)
    curves = []
    for name, changes in (("eager", {}), ("compiled", {"compile": True})):
        folder = tiny.trained(tmp_path / name, steps=3, ema=0.9, **changes)
        log = [e for e in read_log(folder / "log.jsonl") if e["kind"] == "step"]
        curves.append([[e["loss"], e["grad_norm"]] for e in log])
    layer.compiled_method.cache_clear()
    assert calls == 3 * 3  # frames of a step, steps; the average is not compiled
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-3, atol=1e-3)
    assert weights(folder).keys() == weights(tmp_path / "eager").keys()


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = tiny.trained(tmp_path / "run", steps=1)
    before = weights(folder)
    with pytest.raises(UsageError, match=r"holds a run already.*--resume"):
        train(tiny.recipe(seed=5), tiny.manifest(), folder, quiet=True)
    assert equal(weights(folder), before)


def test_resume_refuses_another_recipe_or_data(tmp_path: Path) -> None:
    folder = tiny.trained(tmp_path / "run", steps=1)
    with pytest.raises(UsageError, match=r"another lr: 0\.001; now 0\.5"):
        train(tiny.recipe(steps=1, lr=0.5), tiny.manifest(), folder, resume=True, quiet=True)
    other = replace(tiny.manifest(), rows=tiny.manifest().rows[1:])
    with pytest.raises(UsageError, match="other data"):
        train(None, other, folder, resume=True, quiet=True)
    with pytest.raises(UsageError, match="No run"):
        train(None, tiny.manifest(), tmp_path / "none", resume=True, quiet=True)


def test_resume_refuses_clips_that_are_read_in_another_way(tmp_path: Path) -> None:
    """Neither flips nor the rate of frames in a folder are in the recipe or the data's digest."""
    again: dict[str, Any] = {"resume": True, "quiet": True}
    folder, flipped = tiny.trained(tmp_path / "run", steps=1), tiny.manifest()
    assert flipped.flips
    with pytest.raises(UsageError, match=r"the label pairs .*with the same --flips"):
        train(None, replace(flipped, flips=None), folder, **again)
    with pytest.raises(UsageError, match=r"--frame-rate 12; now 25"):
        train(None, replace(flipped, frame_rate=25.0), folder, **again)
    assert train(None, replace(flipped, frame_rate=12.0), folder, **again).step == 1
    # Where nothing is flipped, the pairs decide nothing.
    plain = replace(tiny.recipe(steps=1), augmentation=Augmentation.off())
    train(plain, replace(flipped, flips=None), tmp_path / "plain", quiet=True)
    assert train(None, flipped, tmp_path / "plain", **again).step == 1


def test_a_large_model_on_a_cpu_is_said_to_be_slow() -> None:
    for num_parameters, device, said in (
        (5_000_000, "cpu", True), (600_000, "cpu", False), (5_000_000, "cuda", False)
    ):  # fmt: skip
        found = notes(tiny.recipe(), tiny.manifest(), num_parameters, torch.device(device))
        assert any("--model lcr_nano" in note for note in found) == said


@pytest.mark.parametrize(("precision", "said"), [("bfloat16", "slower"), ("auto", "float32")])
def test_precision_on_a_cpu_is_told(precision: str, said: str) -> None:
    recipe = replace(tiny.recipe(), precision=precision)  # type: ignore[arg-type]
    found = list(notes(recipe, tiny.manifest(), 1, torch.device("cpu")))
    assert [note for note in found if precision in note and said in note]
    assert not [note for note in notes(tiny.recipe(), tiny.manifest(), 1, torch.device("cpu"))
                if "precision" in note]  # fmt: skip


def test_without_validation_the_test_split_is_not_touched(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tiny.manifest()
    rows = tuple(row for row in whole.rows if row.split != "validation")
    opened: list[str] = []

    def opener(row: Row) -> Any:
        opened.append(row.split)
        return whole.open(row)

    manifest = replace(whole, rows=rows, opener=opener)
    result = train(tiny.recipe(steps=2), manifest, tmp_path / "run")
    assert result.best_top1 is None
    assert set(opened) == {"train"}
    assert not (tmp_path / "run/best.safetensors").exists()
    assert "No validation split" in capfd.readouterr().err
    assert read_run(tmp_path / "run").which == "last"


def test_a_validation_split_without_labels_is_as_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tiny.manifest()
    rows = (r._replace(label=None) if r.split == "validation" else r for r in whole.rows)
    result = train(
        tiny.recipe(steps=2, eval_every=1), replace(whole, rows=tuple(rows)), tmp_path / "run"
    )
    assert (result.step, result.best_top1) == (2, None)
    assert "No label in the validation split" in capfd.readouterr().err
    assert read_run(tmp_path / "run").which == "last"


def test_no_training_clips(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train split"):
        train(tiny.recipe(), tiny.manifest().split("test"), tmp_path / "run", quiet=True)
    one = replace(tiny.manifest(), rows=tiny.manifest().split("train").rows[:1])
    with pytest.raises(DataError, match="at least two classes"):
        train(tiny.recipe(), one, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_full_disk_in_the_middle_leaves_a_run_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(steps=6, eval_every=2)
    whole = tiny.trained(tmp_path / "whole", steps=6, eval_every=2)
    folder = tmp_path / "run"
    write, count = run_files.write_atomic, 0

    def fails_late(path: Path, content: bytes) -> None:
        nonlocal count
        count += path.name == "last.safetensors"
        if count == 2:
            raise CheckpointError("no space left")
        write(path, content)

    monkeypatch.setattr(run_files, "write_atomic", fails_late)
    with pytest.raises(CheckpointError, match="no space"):
        train(recipe, tiny.manifest(), folder, quiet=True)
    monkeypatch.undo()
    assert load_state(folder)["step"] == 2
    train(recipe, tiny.manifest(), folder, resume=True, quiet=True)
    assert equal(weights(folder), weights(whole))


def test_full_disk_under_the_log_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is a Linux device")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.jsonl").symlink_to(full)
    monkeypatch.setattr(jsonl, "read_log", lambda path: [])
    monkeypatch.setattr(jsonl, "write_atomic", lambda path, content: None)
    with pytest.raises(CheckpointError, match=r"log\.jsonl: No space left"):
        train(tiny.recipe(), tiny.manifest(), tmp_path / "run", quiet=True)


def test_non_finite_loss_names_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(model={"depth": 3}, steps=4, eval_every=1)
    broken = LCR(recipe.model).layers[1]
    original = type(broken.mix_out).forward
    calls = 0

    def forward(self: Any, x: Tensor) -> Tensor:
        out = original(self, x)
        bad = calls > 1 and self.training and self is target[0]
        return out * float("inf") if bad else out

    target: list[Any] = [None]

    def on_step(step: int) -> None:
        nonlocal calls
        calls += 1

    build = LCR.__init__

    def init(self: LCR, config: Any) -> None:
        build(self, config)
        target[0] = self.layers[1].mix_out

    monkeypatch.setattr(LCR, "__init__", init)
    monkeypatch.setattr(type(broken.mix_out), "forward", forward)
    with pytest.raises(NonFiniteError, match=r"Step 3: .*'layers\.1\.mix_out' \(Linear, its out"):
        train(recipe, tiny.manifest(), tmp_path / "run", quiet=True, on_step=on_step)
    assert load_state(tmp_path / "run")["step"] == 2


@pytest.mark.parametrize("number", NUMBERS)
def test_ctrl_c_and_its_like_let_a_step_finish(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)

    def on_step(step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), number)

    result = train(tiny.recipe(steps=5), tiny.manifest(), tmp_path / "run", quiet=True,
                   on_step=on_step)  # fmt: skip
    assert result.interrupted
    assert load_state(tmp_path / "run")["step"] == result.step == 2
    assert signal.getsignal(number) is before


def test_log_has_what_a_curve_needs(tmp_path: Path) -> None:
    folder = tiny.trained(tmp_path / "run")
    lines = (folder / "log.jsonl").read_text().splitlines()
    entry = json.loads(lines[0])
    assert {
        "step",
        "epoch",
        "loss",
        "accuracy",
        "lr",
        "grad_norm",
        "clips_per_s",
        "waiting",
    } <= set(entry)
    assert 0 <= entry["waiting"] <= 1
    assert list((folder / "tensorboard").glob("events*"))
