from __future__ import annotations

import json
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small
from filelock import FileLock

from studies import load_study
from studies.index import study as write_study
from studies.plan import make_plan
from studies.runner import run_study
from videorwkv.errors import NonFiniteError, UsageError
from videorwkv.training import loop, trainer


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Folders that were trained in, and whether that resumed a run."""
    seen: list[tuple[str, bool]] = []
    train = loop.train

    def counted(recipe: Any, manifest: Any, out: Any, **options: Any) -> Any:
        seen.append((Path(out).name, options["resume"]))
        return train(recipe, manifest, out, **options)

    monkeypatch.setattr(loop, "train", counted)
    return seen


def test_results_are_those_of_the_runs(tmp_path: Path, trained: list[tuple[str, bool]]) -> None:
    results = run_study(small.study_file(tmp_path), small.settings(tmp_path))
    assert len(trained) == 4
    assert not any(resumed for _, resumed in trained)
    for variant in ("default", "no edges"):
        clips_SM = results.clips(variant, "accuracy")
        assert clips_SM is not None
        assert clips_SM.shape == (2, 8)
        assert results.values(variant, "accuracy") == pytest.approx(clips_SM.mean(1).tolist())
        assert results.parameters(variant) > 1000
        assert results.macs(variant) > 1000
        assert results.times[variant]["least"] > 0
    found = results.difference("no edges", "default", "accuracy")
    a, b = (results.values(name, "accuracy") for name in ("no edges", "default"))
    assert found.value == pytest.approx(sum(a) / 2 - sum(b) / 2)
    assert found.seeds == 2
    assert results.difference("default", "default", "accuracy").value == 0
    record = results.done[0].record
    assert record["steps"] == 2
    assert record["machine"]["torch"]
    assert record["command"][:2] == ["videorwkv", "train"]


def test_nothing_is_trained_or_measured_twice(
    tmp_path: Path, trained: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small.settings(tmp_path, seeds=1)
    first = run_study(small.study_file(tmp_path), settings)
    assert len(trained) == 2
    # Another study with the same default and one more measure trains its own variant alone.
    other = small.FILE.replace("no edges", "forward").replace(
        '"model.edges=none", "model.key_value_source=frame"', '"model.scan=forward",'
    )
    run_study(small.study_file(tmp_path, other, "other.py"), settings)
    assert len(trained) == 3
    monkeypatch.setattr("studies.measures.Accuracy.measure", None)
    again = run_study(small.study_file(tmp_path), settings)
    assert len(trained) == 3
    assert again.values("default", "accuracy") == first.values("default", "accuracy")
    assert again.times == first.times


def test_a_new_measure_needs_no_training(tmp_path: Path, trained: list[tuple[str, bool]]) -> None:
    settings = small.settings(tmp_path, seeds=1)
    run_study(small.study_file(tmp_path), settings)
    text = small.FILE.replace("import Study", "import Accuracy, Study").replace(
        "    variants=(", "    measures=(Accuracy(), Accuracy(frames=5)),\n    variants=("
    )
    results = run_study(small.study_file(tmp_path, text), settings)
    assert [m.name for m in results.measures] == ["accuracy", "accuracy, 5 frames"]
    assert len(results.values("no edges", "accuracy, 5 frames")) == 1
    assert len(trained) == 2


def test_a_killed_study_goes_on(
    tmp_path: Path, trained: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second run's second step: the first is kept, the second resumed."""
    whole = run_study(small.study_file(tmp_path), small.settings(tmp_path / "whole", seeds=1))
    trained.clear()
    take_step = trainer.Trainer._take_step
    steps = []

    def killed(self: Any, *batch: Any) -> None:
        steps.append(1)
        if len(steps) == 4:
            raise SystemExit
        take_step(self, *batch)

    monkeypatch.setattr(trainer.Trainer, "_take_step", killed)
    settings = small.settings(tmp_path, seeds=1)
    with pytest.raises(SystemExit):
        run_study(small.study_file(tmp_path), settings)
    results = run_study(small.study_file(tmp_path), settings)
    keys = [t.key for t in results.plan.trainings]
    assert trained == [(keys[0], False), (keys[1], False), (keys[1], True)]
    for name in ("default", "no edges"):
        assert results.clips(name, "accuracy").tolist() == whole.clips(name, "accuracy").tolist()  # type: ignore[union-attr]


def test_weights_without_their_checkpoint_are_begun_anew(tmp_path: Path) -> None:
    """Killed between the two files of the first checkpoint."""
    reference, settings = small.study_file(tmp_path), small.settings(tmp_path, seeds=1)
    whole = run_study(reference, settings)
    folder = whole.done[0].folder
    for path in folder.glob("*.json"):
        if path.name != "config.json":
            path.unlink()
    (folder / "state.pt").unlink()
    assert (folder / "last.safetensors").exists()
    again = run_study(reference, settings)
    assert again.values("default", "accuracy") == whole.values("default", "accuracy")


def test_time_of_a_run_that_was_resumed_at_its_end_is_unknown(tmp_path: Path) -> None:
    reference, settings = small.study_file(tmp_path), small.settings(tmp_path, seeds=1)
    (run_study(reference, settings).done[0].folder / "study.json").unlink()
    results = run_study(reference, settings)
    assert math.isnan(results.training_time("default"))
    assert results.training_time("no edges") > 0


def test_views_are_asked_of_the_same_weights(
    tmp_path: Path, trained: list[tuple[str, bool]]
) -> None:
    text = small.FILE.replace(
        'changes=("model.edges=none", "model.key_value_source=frame")', 'changes=("views=3x1",)'
    )
    results = run_study(small.study_file(tmp_path, text), small.settings(tmp_path, seeds=1))
    assert len(trained) == 1
    paths = list(results.done[0].folder.glob("accuracy-*.json"))
    assert len(paths) == 2


def test_ctrl_c_stops_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = loop.train

    def interrupted(*arguments: Any, **options: Any) -> Any:
        return replace(train(*arguments, **options), interrupted=True)

    settings = small.settings(tmp_path, seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_study(small.study_file(tmp_path), settings)
    assert not list(settings.runs.glob("*/study.json"))
    assert len(run_study(small.study_file(tmp_path), settings).done) == 2


def test_a_run_that_another_process_works_in_comes_last_and_is_waited_for(
    tmp_path: Path, trained: list[tuple[str, bool]]
) -> None:
    reference, settings = small.study_file(tmp_path), small.settings(tmp_path, seeds=1)
    first, second = (t.key for t in make_plan(load_study(reference), settings).trainings)
    settings.runs.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(settings.runs / f"{first}.lock"):
            waiting = pool.submit(run_study, reference, settings)
            end = time.monotonic() + 60
            while not (settings.runs / second / "study.json").exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            with pytest.raises(Late):
                waiting.result(timeout=0.5)
            assert len(trained) == 1
        assert len(waiting.result().done) == 2
    assert len(trained) == 2


def test_a_training_that_diverges_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = loop.train

    def diverging(recipe: Any, *arguments: Any, **options: Any) -> Any:
        if recipe.model.edges == "none":
            raise NonFiniteError("Step 1: the loss is nan")
        return train(recipe, *arguments, **options)

    monkeypatch.setattr(loop, "train", diverging)
    written = write_study(
        small.study_file(tmp_path), small.settings(tmp_path, seeds=1), out=tmp_path / "pages"
    )
    text = written.markdown.read_text()
    assert "no edges: a training ended in NaN or infinity" in text
    assert "| no edges | 0.0 %" in text


def test_nothing_but_a_share_of_hits_is_known_of_a_training_that_ended_in_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
from dataclasses import dataclass
from studies import Accuracy, Measured, Study, Variant

@dataclass(frozen=True)
class Error:
    name = "error"
    unit = "share"
    lower_is_better = True
    needs_generated = False

    def measure(self, trained):
        return Measured(0.25)

STUDY = Study(
    "small",
    question="?",
    variants=(Variant("default"), Variant("forward", changes=("model.scan=forward",))),
    measures=(Error(), Accuracy(), Accuracy(data="test=4")),
)
"""
    train = loop.train

    def diverging(recipe: Any, *arguments: Any, **options: Any) -> Any:
        if recipe.model.scan == "forward" and recipe.seed == 1:
            raise NonFiniteError("Step 1: the loss is nan")
        return train(recipe, *arguments, **options)

    monkeypatch.setattr(loop, "train", diverging)
    results = run_study(small.study_file(tmp_path, text), small.settings(tmp_path))
    assert [d.training.seed for d in results.done if d.record["failure"]] == [1]
    assert results.known("forward", "error") == [0.25]
    assert results.difference("forward", "default", "error").value == 0
    assert results.values("forward", "accuracy")[1] == 0
    small_SM = results.clips("forward", "accuracy, test=4")
    assert small_SM is not None
    assert small_SM.shape == (2, 4)


def test_folds_are_pooled(tmp_path: Path) -> None:
    import tiny

    from studies.data import DataOptions

    for label, level in (("dark", 0), ("light", 120)):
        for group in "12":
            for i in range(3):
                tiny.write_clip(tmp_path / "clips" / label / f"g{group}_{i}.mp4", level=level)
    data = DataOptions(spec=str(tmp_path / "clips"), fold_by=r"g(\d)_", folds="1,2")
    settings = small.settings(tmp_path, data=data, recipe="motion_demo", seeds=1)
    results = run_study(small.study_file(tmp_path), settings)
    assert len(results.done) == 4
    clips_SM = results.clips("default", "accuracy")
    assert clips_SM is not None
    assert clips_SM.shape == (1, 12)
    assert "--fold" in results.done[0].training.command


def test_processes_give_the_same(tmp_path: Path) -> None:
    """Two workers, a study of the user's own file: what one process gives, bit for bit."""
    reference = small.study_file(tmp_path)
    said: list[str] = []
    one = run_study(reference, small.settings(tmp_path / "one", seeds=1))
    two = run_study(reference, small.settings(tmp_path / "two", seeds=1, jobs=2), say=said.append)
    for name in ("default", "no edges"):
        assert one.clips(name, "accuracy").tolist() == two.clips(name, "accuracy").tolist()  # type: ignore[union-attr]
    assert said[0].startswith("small: 2 trainings, 0 of them done")
    assert len(said) == 3
    records = list((tmp_path / "two" / "runs").glob("*/study.json"))
    assert {json.loads(path.read_text())["failure"] for path in records} == {""}


def test_without_scipy_nothing_is_trained(
    tmp_path: Path, trained: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(UsageError, match=r"scipy.*pip install 'videorwkv\[study\]'"):
        run_study(small.study_file(tmp_path), small.settings(tmp_path))
    assert not trained
