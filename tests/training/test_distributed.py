"""Two processes on gloo, as torchrun starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.cli.main import main
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.state import load_state
from videorwkv.utils import processes

HERE = Path(__file__).resolve().parent
# 20 clips in batches of 5, which two processes can't halve.
TRAIN = ["train", tiny.MOTION, *tiny.OPTIONS, "--batch-size=5", "--no-baselines"]
TRAIN += ["--set=eval_every=4", "--set=model.drop_path=0.3", "--set=model.tube_mask_ratio=0.25"]
Told = list[tuple[int, str, str]]


def environment(**more: object) -> dict[str, str]:
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ["PYTHONPATH"]])
    return {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in more.items()}}


def run_pair(folder: Path, *commands: list[str], script: Path = HERE / "pair.py") -> list[Told]:
    """Run command lines on two processes, as torchrun would start them: what each of them says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = folder / f"told-{port}"
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(out)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(
                RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=port
            ),
        )
        for rank in (0, 1)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(json.dumps(commands).encode())
        process.stdin.close()
        process.stdin = None
    errors = [process.communicate(timeout=200)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    assert "Warning" not in "".join(errors)
    return [json.loads(Path(f"{out}.{rank}").read_text()) for rank in (0, 1)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last.safetensors")


def equal(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory, class_folder: Path
) -> dict[str, tuple[list[str], str]]:
    """What one process and two do alike -> the command line, and where it writes."""
    root = tmp_path_factory.mktemp("runs")
    unreadable = root / "some unreadable"
    shutil.copytree(class_folder, unreadable)
    for folder in sorted(unreadable.iterdir())[:2]:
        (folder / "broken.mp4").write_text("no video")
    known, small = str(tiny.trained(root / "known")), ["--batch-size=3", "--workers=0"]
    score = ["evaluate", known, tiny.MOTION, *small]
    return {
        "train": ([*TRAIN, "--steps=8", "--out"], str(root / "run")),
        "unreadable": (
            ["train", str(unreadable), *TRAIN[2:], "--steps=6", "--batch-size=4", "--out"],
            str(root / "bad"),
        ),
        "evaluate": ([*score, "--out"], str(root / "evaluation")),
        "masked": ([*score, "--tube-mask=0.5", "--views=2x1", "--out"], str(root / "masked")),
        "submission": (
            ["predict", known, tiny.MOTION, *small, "--submission"],
            str(root / "s.csv"),
        ),
        "predict": (["predict", known, str(class_folder), "--json", "--save"], str(root / "films")),
    }


@pytest.fixture(scope="module")
def both(
    commands: dict[str, tuple[list[str], str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path, Told]]:
    """Name of a command -> what one process wrote, what two wrote, what each of the two said."""
    folder = tmp_path_factory.mktemp("pair")
    for command, out in commands.values():
        assert main([*command, f"{out}-1"]) == 0
    told = run_pair(
        folder,
        ["shared steps"],
        *([*command, f"{out}-2"] for command, out in commands.values()),
        [*TRAIN, "--steps=40", "--dry-run"],
        [*TRAIN, "--steps=8", "--batch-size=1", "--out", str(folder / "none")],
        ["data", "check", tiny.MOTION],
        [*TRAIN, "--steps=8", "--out", commands["train"][1] + "-2"],
    )
    parts = list(zip(*told, strict=True))
    found = {"shared steps": (folder, folder, list(parts[0]))}
    for (name, (_, out)), part in zip(commands.items(), parts[1:-4], strict=True):
        found[name] = Path(f"{out}-1"), Path(f"{out}-2"), list(part)
        assert [code for code, _, _ in part] == [0, 0], part
        assert part[1][1:] == ["", ""]  # one voice
    for name, part in zip(("dry", "too many", "alone", "again"), parts[-4:], strict=True):
        found[name] = folder, folder / "none", list(part)
    return found


def test_steps_that_are_shared_are_those_of_one_process(both: Any) -> None:
    for code, out, err in both["shared steps"][2]:
        assert code == 0, err
        found = json.loads(out)
        assert len(found) > 10
        # Float64: what is left is rounding.
        assert all(worst < 1e-12 for worst in found.values()), found


def test_a_run_of_two_processes_is_that_of_one(both: Any) -> None:
    one, two, told = both["train"]
    assert "8 of 8 steps" in told[0][1]
    assert "2 processes share each batch of 5 clips" in told[0][2]
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
    # One process logs.
    assert len(list((two / "tensorboard").iterdir())) == 1
    logs = [read_log(folder / "log.jsonl") for folder in (one, two)]
    for kind in ("step", "validation", "bad_clips"):
        ours, theirs = ([e for e in log if e["kind"] == kind] for log in logs)
        assert [e["step"] for e in ours] == [e["step"] for e in theirs]
    losses = [[e["loss"] for e in log if e["kind"] == "step"] for log in logs]
    # Float32 through batch norms of five clips, and eight steps of Adam, which enlarges rounding.
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-4)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, rtol=1e-3, atol=1e-3)


def test_clips_that_can_not_be_read_are_counted_once(both: Any) -> None:
    one, two, told = both["unreadable"]
    assert "2 of 14 clips could not be read" in told[0][2]
    logs = [read_log(folder / "log.jsonl") for folder in (one, two)]
    bad = [[(e["step"], e["path"]) for e in log if e["kind"] == "bad_clip"] for log in logs]
    assert bad[0] == bad[1]
    assert len({path for _, path in bad[0]}) == len(bad[0]) == 2


@pytest.mark.parametrize("name", ["evaluate", "masked"])
def test_an_evaluation_is_equal_to_the_bit(both: Any, name: str) -> None:
    one, two, _ = both[name]
    for file in ("evaluation.json", "predictions.csv", "confusion.csv"):
        assert (one / file).read_bytes() == (two / file).read_bytes()


def test_predictions_are_in_order_and_each_clip_is_once(both: Any) -> None:
    one, two, _ = both["submission"]
    assert one.read_bytes() == two.read_bytes()
    one, two, told = both["predict"]
    paths = [json.loads(line)["path"] for line in told[0][1].splitlines()]
    assert len(paths) == 12
    assert paths == sorted(paths)
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())


def test_a_dry_run_of_two_processes_says_what_both_would_take(both: Any) -> None:
    _, _, told = both["dry"]
    assert [code for code, _, _ in told] == [0, 0], told
    assert "2 processes share each batch" in told[0][1]
    assert "40 steps would take about" in told[0][1]
    assert told[1][1:] == ["", ""]


def test_wrong_use_is_one_line(both: Any) -> None:
    for name, part in (
        ("too many", "2 processes for 1 clips at a time"),
        ("alone", "data runs as one process, and torchrun has started 2"),
        ("again", "holds a run already"),
    ):
        _, folder, told = both[name]
        assert [code for code, _, _ in told] == [2, 2]
        lines = [line for _, _, err in told for line in err.splitlines()]
        assert part in lines[0]
        assert len(lines) == (2 if name == "alone" else 1), lines
        assert not folder.exists()


def test_several_processes_that_can_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAIN, "--steps=1", "--out", str(tmp_path / "run")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command) == 2
    assert "RANK, MASTER_ADDR, MASTER_PORT are not set" in capsys.readouterr().err
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1"), ("RANK", "2")):
        monkeypatch.setenv(name, value)
    assert main(command) == 2
    assert "0 <= RANK < WORLD_SIZE" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(processes, "TIMEOUT", 1.0)
    assert main(command) == 1
    assert "Process 1 of 2 does not reach the others at 127.0.0.1:1 within 1 s" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("what", "part"), [("code", "other code"), ("data", "other data")])
def test_unequal_code_or_data_are_refused(tmp_path: Path, what: str, part: str) -> None:
    data = tmp_path / "$RANK.csv"
    for rank in "01":
        lines = [f"{tmp_path}/{n}.mp4,{'ab'[n % 2]},train" for n in range(8)]
        if rank == "1" and what == "data":
            lines[3] = lines[3].replace(",b,", ",a,")
        (tmp_path / f"{rank}.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    for n in range(8):
        (tmp_path / f"{n}.mp4").touch()
    script = tmp_path / "other.py"
    script.write_text(
        "import os, sys\n"
        "from videorwkv.training import distributed\n"
        "from videorwkv.cli import train\n"
        f"if os.environ['RANK'] == '1' and {what!r} == 'code':\n"
        "    distributed._code = lambda: 'another'\n"
        "load = train.load_data\n"
        "def own(options, *run):\n"
        "    options.data = os.path.expandvars(options.data)\n"
        "    return load(options, *run)\n"
        "train.load_data = own\n"
        "import pair\n"
    )
    folder = tmp_path / "run"
    command = ["train", str(data), *tiny.OPTIONS, "--steps=1", "--out", str(folder)]
    told = run_pair(tmp_path, command, script=script)
    assert [part[0][0] for part in told] == [2, 2]
    lines = [line for part in told for line in part[0][2].splitlines() if "error" in line]
    assert len(lines) == 1
    assert f") has {part}" in lines[0]
    assert not folder.exists()


def test_killed_and_stopped_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    """A process is killed, torchrun starts all anew; then torchrun is told to end, and started."""
    more = ["--steps=40", "--set=eval_every=10"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    told = run_pair(tmp_path, [*TRAIN, *more, "--out", str(whole)])
    assert told[0][0][0] == 0
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("--max-restarts=3", "-m", "videorwkv", *TRAIN, *more, "--resume", "--out", str(folder)),
    ]
    with started(command) as process:
        wait_for(folder, 12, process)
        before = ranks_of(process)
        os.kill(before[1], signal.SIGKILL)
        while not ranks_of(process) or before[0] in ranks_of(process):
            time.sleep(0.02)
        wait_for(folder, 14, process)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=100)
    assert 10 < load_state(folder)["step"] <= 40
    with started(command) as process:
        assert process.wait(timeout=100) == 0
    assert equal(folder, whole)


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended at the end of the block, and all that it has started."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment()}
    process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        for pid in (*ranks_of(process), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def steps_of(folder: Path) -> list[int]:
    log = folder / "log.jsonl"
    return [e["step"] for e in read_log(log) if e["kind"] == "step"] if log.exists() else []


def wait_for(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 100
    while max(steps_of(folder), default=0) < step:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that torchrun has started, in the order of their ranks."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == process.pid:
            found.update({int(v[5:]): int(entry.name) for v in environment if v[:5] == b"RANK="})
    return [found[rank] for rank in sorted(found)]
