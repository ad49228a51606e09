"""Trainings of a page, with another program in the place of `videorwkv train` and `export`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from videorwkv.errors import UsageError
from videorwkv.web import trainings
from videorwkv.web.trainings import TrainingOptions, Trainings

FIVE = {"left": range(5), "right": range(5)}
# A run as `videorwkv train` writes it, as far as it is read here.
LOG = [
    {"kind": "step", "step": 1, "loss": 0.9, "accuracy": 0.5},
    {"kind": "step", "step": 2, "loss": None, "accuracy": 1.0},
    {"kind": "validation", "step": 2, "loss": 0.5, "top1": 0.75, "mean_class_accuracy": 0.75,
     "n_ok": 4, "n_total": 4, "best": True},
    {"kind": "baselines", "step": 2, "train": 6, "validation": 4,
     "baselines": [{"name": "motion map", "nearest": 0.5, "ridge": 0.75, "clips": 4}]},
]  # fmt: skip
WRITES = f"""
import hashlib, json, os, pathlib, sys, time
words = sys.argv[1:]
run = pathlib.Path(words[words.index("--out") + 1])
run.mkdir(parents=True)
if words[0] == "export":
    (run / "index.html").write_text("page")
    (run / "site.json").write_text("{{}}")
else:
    (run / "words.json").write_text(json.dumps(words))
    place = hashlib.sha256(os.path.realpath(words[1]).encode()).hexdigest()[:12]
    about = dict(recipe=dict(steps=2), data=dict(place=place))
    (run / "config.json").write_text(json.dumps(about))
    (run / "log.jsonl").write_text('''{chr(10).join(map(json.dumps, LOG))}''')
"""
FAILS = "print('some words'); print('videorwkv: error: the disk is full.'); raise SystemExit(1)"
CRASHES = "print('Traceback'); import os; os._exit(9)"
WAITS = "import time; print('begun', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Choose what runs in the place of the package's commands."""

    def choose(code: str) -> None:
        def started(command: Sequence[str], said: Any, own: dict[str, Any]) -> Any:
            return subprocess.Popen(
                [sys.executable, "-c", code, *command], stdout=said, stderr=said, **own
            )

        monkeypatch.setattr(trainings, "_started", started)

    return choose


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Trainings]:
    with Trainings(
        tmp_path / "clips", tmp_path / "runs" / "mine", TrainingOptions(steps=2)
    ) as page:
        yield page


def until(page: Trainings, *phases: str) -> dict[str, Any]:
    end = time.monotonic() + 30
    while page.phase not in phases:
        assert time.monotonic() < end, page.phase
        time.sleep(0.02)
    return page.status()


def test_a_training_and_the_next_one(page: Trainings, program: Callable[[str], None]) -> None:
    assert page.status() == {"phase": "idle", "run": str(page.out), "tried": None}
    program(WRITES)
    page.start(FIVE)
    found = until(page, "done", "failed")
    assert (found["phase"], found["error"]) == ("done", "")
    assert (found["step"], found["total"], found["tried"]) == (2, 2, str(page.out))
    assert found["curve"] == [[1, 0.9, 0.5], [2, None, 1.0]]
    assert found["validations"] == [[2, 0.75]]
    sure, baseline, worse, doubt = found["result"]
    assert sure.startswith("Of 4 clips held back from training it names 3 right (75 %")
    assert baseline.endswith("simple rules (motion map) names 3 right.")
    assert "has not learnt more" in worse
    assert "look alike" in doubt
    words = json.loads((page.out / "words.json").read_text())
    assert words[:4] == ["train", str(page.data), "--out", str(page.out)]
    assert words[words.index("--steps") + 1] == "2"
    assert "--validation-share" not in words
    assert page.site["/index.html"].read_text() == "page"
    # The next one has too few clips to hold some back, and a folder of its own.
    page.start({**FIVE, "up": range(4)})
    found = until(page, "done", "failed")
    assert page.run == page.out.with_name("mine-2")
    words = json.loads((page.run / "words.json").read_text())
    assert words[words.index("--validation-share") + 1] == "0"
    # Another program goes on with the last one that can be tried.
    shutil.rmtree(page.run / "web")
    with Trainings(page.data, page.out, page.options) as again:
        assert (again.phase, again.run) == ("done", page.out)
        assert again._next() == page.out.with_name("mine-3")
    # One that teaches a folder of the same name elsewhere has trained nothing yet.
    with Trainings(page.data.parent / "other" / "clips", page.out, page.options) as other:
        assert (other.status()["phase"], other.status()["tried"]) == ("idle", None)


@pytest.mark.parametrize(
    ("code", "words"),
    [(FAILS, "the disk is full."), (CRASHES, "ended with exit code 9"), ("", "has no page")],
)
def test_why_it_failed(
    page: Trainings, program: Callable[[str], None], code: str, words: str
) -> None:
    program(code)
    page.start(FIVE)
    found = until(page, "done", "failed")
    assert found["phase"] == "failed"
    assert words in found["error"]
    assert found["tried"] is None
    # It may be tried again.
    program(WRITES)
    page.start(FIVE)
    assert until(page, "done", "failed")["phase"] == "done"


def test_cancelled_and_one_at_a_time(page: Trainings, program: Callable[[str], None]) -> None:
    program(WAITS)
    page.start(FIVE)
    with pytest.raises(UsageError, match="goes on already"):
        page.start(FIVE)
    assert page.is_running
    page.cancel()
    found = until(page, "cancelled", "done", "failed")
    assert found["phase"] == "cancelled"
    assert not page.is_running
    page.cancel()  # nothing to cancel


def test_the_end_ends_what_runs(
    tmp_path: Path, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "GRACE", 0.5)
    program(STUBBORN)
    with Trainings(tmp_path / "clips", tmp_path / "run", TrainingOptions()) as page:
        page.start(FIVE)
        while not page._said.exists() or b"begun" not in page._said.read_bytes():
            time.sleep(0.02)
        process = page._process
        assert process is not None
        cache = Path(page._cache.name)
    assert process.returncode is not None
    assert not cache.exists()  # decoded frames of a person


def test_no_process_can_be_started(
    page: Trainings, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(trainings, "_started", started)
    page.start(FIVE)
    assert "Cannot allocate memory" in until(page, "done", "failed")["error"]
    # It does not go on for ever, and a cleared /tmp is no hindrance.
    shutil.rmtree(page._cache.name)
    program(WRITES)
    page.start(FIVE)
    assert until(page, "done", "failed")["phase"] == "done"


def test_where_both_are_perfect() -> None:
    best = {**LOG[2], "top1": 1.0}
    scored = {**LOG[3], "baselines": [{"name": "x", "nearest": 1.0, "ridge": 0.5, "clips": 4}]}
    assert "can't tell the two apart" in trainings._scores(best, [scored])[2]
    # Nothing of the kind where the model is better.
    assert len(trainings._scores(best, [LOG[3]])) == 3
