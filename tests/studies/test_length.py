"""One pass measures all lengths; movements stand where they should; sentences follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small
import torch
from numpy.typing import NDArray

from studies import lengths, load_study
from studies.data import DataOptions
from studies.design import Measured, Trained
from studies.index import study
from studies.lengths import Held, Lengths, condition, half_way, pace_of
from studies.measures import Accuracy
from studies.plan import make_plan
from studies.questions.length import PAUSES, STILL, _hold
from studies.results import cell, pack, unpack
from studies.stops import CLOCKS
from videorwkv.data.load import load_manifest
from videorwkv.errors import UsageError
from videorwkv.models import build_model
from videorwkv.run.recipes import apply_overrides, motion_demo

DATA = "motion:train=0,validation=0,test=16,size=32,frames=6"


def make_trained(folder: Path, data: str = DATA, *changes: str) -> Trained:
    """As if it were trained: weights with enough noise to name different classes."""
    recipe = apply_overrides(motion_demo(), [*small.CHANGES, "sampling.fps=none", *changes])
    torch.manual_seed(1)
    model = build_model(replace(recipe.model, num_classes=8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    test = load_manifest(data).split("test")
    run: Any = SimpleNamespace(recipe=recipe, labels=test.labels, model=lambda device: model)
    return Trained(run, test, data, "cpu", folder)


def test_one_pass_measures_every_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "SHARE", 1)
    trained = make_trained(tmp_path)
    assert pace_of(trained) == 2
    found = Lengths((2, 3, 7)).measure(trained)
    values = np.array(found.clips).reshape(3, 16)
    for frames, outcomes in zip((2, 3, 7), values, strict=True):
        alone = Accuracy(frames=frames, data=f"frames={2 * frames}").measure(trained)
        assert outcomes.tolist() == list(alone.clips)
        assert found.parts[str(frames)] == pytest.approx(alone.value)
    assert 0 < found.value < 1
    assert found.value == pytest.approx(values.mean())


def test_pace_of_a_rate(tmp_path: Path) -> None:
    assert pace_of(make_trained(tmp_path, DATA, "sampling.fps=4")) == 2
    assert pace_of(make_trained(tmp_path, DATA, "sampling.num_frames=6")) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Options of the generated clips that were measured, and how many frames; every frame's number
    is its outcome."""
    seen = []

    def answers(trained: Trained, test: Any, frames: int) -> NDArray[np.float64]:
        seen.append((test.opener.options, frames))
        return np.tile(np.arange(frames, dtype=np.float64), (len(test), 1))

    monkeypatch.setattr(lengths, "answers", answers)
    return seen


def test_movements_stand_where_they_should(tmp_path: Path, asked: list[tuple[Any, int]]) -> None:
    found = Held(3, ((0, (0, 4)), (5, (2,)))).measure(make_trained(tmp_path))
    assert [(o.frames, o.at, o.event, frames) for o, frames in asked] == [
        (14, 0, 6, 7),
        (20, 10, 6, 10),
    ]
    # The number of the frame that is looked at, from 0.
    assert found.parts == {condition(0, 0): 2, condition(0, 4): 6, condition(5, 2): 9}


def test_clips_of_all_lengths_move_throughout(tmp_path: Path, asked: list[tuple[Any, int]]) -> None:
    """Whatever the clips that were trained on."""
    Lengths((2, 9)).measure(make_trained(tmp_path, f"{DATA},event=2,at=1"))
    ((options, frames),) = asked
    assert (options.frames, options.event, options.at, frames) == (18, 0, 0, 9)
    assert (options.train, options.test) == (0, 8)


def test_an_order_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    data = DataOptions(spec=small.DATA.replace("frames=6", "frames=12,order=2"))
    settings = small.settings(tmp_path, data=data, only=("loss at the last frame",))
    with pytest.raises(UsageError, match="leave out order="):
        make_plan(load_study("length"), settings)


def make_results(*done: tuple[str, int, int, Measured]) -> Any:
    """What `unpack` asks of results: (variant, seed, fold, measured)."""
    made = [
        SimpleNamespace(
            training=SimpleNamespace(variant=variant, seed=seed, fold=fold), measured={"m": found}
        )
        for variant, seed, fold, found in done
    ]
    names = list(dict.fromkeys(variant for variant, *_ in done))
    return SimpleNamespace(
        variants=[SimpleNamespace(name=name) for name in names],
        of=lambda name: [d for d in made if d.training.variant == name],
    )


def test_conditions_come_back_as_they_were() -> None:
    results = make_results(
        ("a", 0, 0, pack({"x": [1, 0], "y": [0, 0]})),
        ("a", 0, 1, pack({"x": [1], "y": [0.5]})),
        ("a", 1, 0, pack({"x": [0, 0], "y": [1, 1]})),
        ("a", 1, 1, pack({"x": [1], "y": [0]})),
        # A training that ended in NaN is written down without parts.
        ("b", 0, 0, Measured(0.0, (0.0, 0.0))),
        ("b", 0, 1, pack({"x": [1], "y": [1]})),
    )
    found = unpack(results, "a", "m")
    assert found["x"].tolist() == [[1, 0, 1], [0, 0, 1]]
    assert found["y"].tolist() == [[0, 0, 0.5], [1, 1, 0]]
    assert unpack(results, "b", "m")["x"].tolist() == [[0, 0, 1]]
    assert pack({"x": [1, 0], "y": [0, 0]}).value == 0.25


def test_intervals_end_where_accuracies_do() -> None:
    high = np.ones((1, 20))
    high[:, 0] = 0
    assert cell(high) == "95.0 [84.5, 100.0]"
    assert cell(1 - high) == "5.0 [0.0, 15.5]"


@pytest.mark.parametrize(
    ("accuracy", "place"),
    [([0.9, 0.8, 0.4], (4, 8)), ([0.9, 0.1, 0.9], (0, 4)), ([0.9] * 3, None), ([0.1] * 3, None)],
)
def test_half_way(accuracy: list[float], place: tuple[int, int] | None) -> None:
    assert half_way((0, 4, 8), dict(zip((0, 4, 8), accuracy, strict=True)), 0.125) == place


def test_sentences_on_memory_follow_from_the_numbers() -> None:
    most = np.tile([1.0, 1.0, 1.0, 0.0], (2, 10))
    high, low = np.ones((2, 40)), np.zeros((2, 40))
    high[:, 0] = 0
    low[:, :5] = 1
    lost = {s: high if s < 8 else low for s in STILL}
    text = _hold("a", lost, 0.125)
    assert "97.5 % right after" in text
    assert "is lost between 4 and 8 still frames" in text
    assert (
        "after 128 it is 12.5 % [1.8, 23.2], no significant difference from chance (12.5 %)" in text
    )
    text = _hold("a", {**dict.fromkeys(STILL, high), 128: most}, 0.125)
    assert "is not lost within 128 still frames" in text
    assert "still above chance" in text
    assert "there is nothing to remember" in _hold("a", dict.fromkeys(STILL, low), 0.125)


def test_page(tmp_path: Path) -> None:
    """Short lengths, a variant of each kind: every table and plot is there."""
    source = (Path(lengths.__file__).parent / "questions" / "length.py").read_text()
    source = source.replace("(4, 8, 16, 32, 64, 128, 256, 512)", "(2, 3, 5)")
    source = source.replace("EVENT, WINDOW = 8, 64", "EVENT, WINDOW = 2, 6")
    source = source.replace(
        "STILL = (0, 1, 2, 4, 8, 16, 32, WINDOW - EVENT, 128)", "STILL = (0, 4)"
    )
    source = source.replace("(0, 4, 16, 64, 128, 256), judged=128", "(0, 3), judged=3")
    source = source.replace('("lcr_nano", "lcr_tiny")', '("lcr_nano",)')
    source = source.replace("*FOR_PAUSES", '"steps=2", "sampling.num_frames=4"')
    reference = small.study_file(tmp_path, source, "length.py")
    changes = (*small.CHANGES, "sampling.fps=none")
    default, other = PAUSES
    only = ("joint attention", f"memory_clock={CLOCKS[1]}", other.name)
    settings = small.settings(tmp_path, only=only, changes=changes)
    text = study(reference, settings, out=tmp_path / "pages").markdown.read_text()
    assert "default at 5 frames against default at 3" in text
    assert "joint attention at 5 frames against default there" in text
    assert "default, movement early in 6 frames against movement at the end" in text
    assert "| frames | 2 | 3 | 5 |" in text
    assert "| still frames after | 0 | 4 |" in text
    assert "| movement | early | middle | late |" in text
    assert "| last frame repeated | 0 | 3 |" in text
    assert f"{only[1]} after 3 repetitions of the last frame" in text
    assert f"{other.name} after 3 repetitions of the last frame" in text
    assert f"against {default.name} there" in text
    # The first frames of an order have no class.
    assert f"{other.name} at 5 frames" not in text
    assert "A frame of lcr_nano takes" in text
    for name in ("lengths", "held"):
        assert (tmp_path / "pages" / "length-part" / f"{name}.png").is_file()


def test_own_clips_get_the_usual_page(tmp_path: Path) -> None:
    import tiny

    for label, level in (("dark", 0), ("light", 120)):
        for i in range(4):
            tiny.write_clip(tmp_path / "clips" / label / f"{i}.mp4", level=level)
    data = DataOptions(spec=str(tmp_path / "clips"), validation_share=0.5)
    settings = small.settings(
        tmp_path, data=data, recipe="motion_demo", seeds=1, only=("mean over frames",)
    )
    text = study("length", settings, out=tmp_path / "pages").markdown.read_text()
    assert "mean over frames against default" in text
    assert "accuracy over lengths is skipped: it needs the generated data" in text
    assert "accuracy, twice the frames" in text
    assert "| last frame repeated | 0 | 4 | 16 | 64 | 128 | 256 |" in text
