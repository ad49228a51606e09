"""What is left of a clip that stops: measured in one pass, said as the numbers say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_length import make_results, make_trained

from studies.lengths import Held, Lengths, outcomes
from studies.measures import Accuracy
from studies.results import pack
from studies.statistics import LEVEL
from studies.stops import CLOCKS, ClockCost, Repeated, kept, present_stops
from videorwkv.data.load import load_manifest
from videorwkv.models import Inputs, LCRConfig

REPEATED = Repeated((0, 3, 5), judged=5)
COST: Any = SimpleNamespace(name="cost")


def test_the_clip_as_it_is_sampled_and_then_its_last_frame(tmp_path: Path) -> None:
    trained = make_trained(tmp_path)
    found = REPEATED.measure(trained)
    at_0, at_3, at_5 = np.array(found.clips).reshape(3, 16)
    assert at_0.tolist() == list(Accuracy().measure(trained).clips)
    assert found.parts["5"] == at_5.mean()
    assert 0 < at_0.mean() < 1
    assert set(at_3) == {0.0, 1.0}


def test_of_many_clips_every_third_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = make_trained(tmp_path)
    all_NM = np.array(REPEATED.measure(trained).clips).reshape(3, 16)
    monkeypatch.setattr("studies.stops.CLIPS", 5)
    assert np.array_equal(np.array(REPEATED.measure(trained).clips), all_NM[:, ::3].flatten())


def test_a_state_that_is_carried_on_is_a_longer_clip(tmp_path: Path) -> None:
    model = make_trained(tmp_path).run.model(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    clip = Inputs(
        torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator),
    )
    with torch.inference_mode():
        logits_BNK = REPEATED.logits(model, clip)
        frames = torch.tensor([0, 1, 2, 2, 2, 2, 2, 2])
        whole_BTK, _ = model.scan(Inputs(clip.frames_BTHWC[:, frames], clip.edges_BTHW[:, frames]))
    # float32: the same sums in pieces of another length.
    assert torch.allclose(logits_BNK, whole_BTK[:, [2, 5, 7]], atol=1e-5)
    assert not torch.allclose(logits_BNK[:, 0], logits_BNK[:, 2], atol=1e-3)


def test_a_clip_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    for label in ("a", "b"):
        tiny.write_clip(tmp_path / "clips" / label / "good.mp4", level=90)
    (tmp_path / "clips" / "a" / "bad.mp4").write_bytes(b"no video")
    run = make_trained(tmp_path).run
    test = load_manifest(str(tmp_path / "clips"), validation_share=0)
    run = SimpleNamespace(recipe=run.recipe, labels=test.labels, model=run.model)
    trained: Any = SimpleNamespace(run=run, device="cpu", cache=None)

    def ask(model: object, inputs: Inputs) -> torch.Tensor:
        """Always the first class, then the second."""
        return torch.eye(2).expand(len(inputs.frames_BTHWC), 2, 2)

    found_MN = outcomes(trained, test, run.recipe.sampling, 2, ask, 2)
    assert {
        Path(row.path).stem + f" {row.label}": right_N.tolist()
        for row, right_N in zip(test.rows, found_MN, strict=True)
    } == {
        "bad a": [0, 0],
        "good a": [1, 0],
        "good b": [0, 1],
    }


def test_other_lengths_of_an_order_are_unknown(tmp_path: Path) -> None:
    data = "motion:train=0,validation=0,test=8,size=32,frames=12,order=2"
    trained = make_trained(tmp_path, data)
    for measure in (Lengths((2, 3)), Held(2, ((0, (0, 1)),))):
        found = measure.measure(trained)
        assert np.isnan(found.value)
        assert not found.clips


def test_share_that_is_kept() -> None:
    start = np.tile([1.0] * 9 + [0.0], (2, 4))
    same = kept(start, start, 0.1)
    assert same.value == 1
    # 40 clips without an exception: of what was 0.8 above chance.
    margin = (1 - ((1 - LEVEL) / 2) ** (1 / 40)) / 0.8
    assert (same.low, same.high) == pytest.approx((1 - margin, 1 + margin))
    after = start.copy()
    after[:, :16] = 0
    half = kept(after, start, 0.1)
    assert half.value == pytest.approx((after.mean() - 0.1) / 0.8)
    assert half.low < half.value < half.high < 1
    assert half.seeds == 2


def test_interval_of_the_share_covers_the_truth() -> None:
    """Seeds and clips as they are drawn: about one interval in twenty may miss."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        start = (rng.random((3, 60)) < 0.8).astype(float)
        lost = rng.random((3, 60)) < 0.3
        hits += (e := kept(start * ~lost, start, 0.1)).low < (0.56 - 0.1) / 0.7 < e.high
    assert hits >= 180


def made(shares: dict[str, dict[str, float]], classes: int = 2) -> Any:
    """Results of two seeds and 100 clips of which these shares are right."""

    def outcomes_of(by: dict[str, float]) -> dict[str, list[float]]:
        return {n: (np.arange(100) < 100 * share).astype(float).tolist() for n, share in by.items()}

    results = make_results(
        *((name, seed, 0, pack(outcomes_of(by))) for name, by in shares.items() for seed in (0, 1))
    )
    for variant in results.variants:
        variant.changes = ("model.memory_clock=change",) if variant.name != "default" else ()
        for done in results.of(variant.name):
            done.training.recipe = SimpleNamespace(model=SimpleNamespace(num_classes=classes))
            done.measured[REPEATED.name] = done.measured["m"]
    results.study = SimpleNamespace(reference=lambda variant: "default")
    results.probes = {"cost": {"clock": "CPU", "ms": {"m": {"frames": 2.0, "change": 2.1}}}}
    return results


def test_sentences_follow_from_the_numbers() -> None:
    found, section = present_stops(
        made(
            {
                "default": {"0": 0.9, "3": 0.6, "5": 0.5},
                "still": {"0": 0.9, "3": 0.9, "5": 0.9},
                "nearly": {"0": 0.9, "3": 0.9, "5": 0.87},
                "unlearned": {"0": 0.5, "3": 0.5, "5": 0.5},
            }
        ),
        REPEATED,
        COST,
    )
    text = "\n".join(found)
    assert (
        "default: 90.0 % at a clip's last frame; after 5 repetitions of it 0.0 % [-24.9, 24.9] of"
        in text
    )
    assert "less than 95 %." in text
    assert "still: 90.0 % at a clip's last frame; after 5 repetitions of it 100.0 %" in text
    assert "nearly: 90.0 %" in text
    assert "92.5 %" in text
    assert "unlearned: 50.0 % at a clip's last frame, not significantly above chance" in text
    assert "still after 5 repetitions of the last frame is better than default there: +40" in text
    assert "A frame of m takes 1.05 times as long with memory_clock=change as with frames." in text
    _, _, accuracies, shares, cost = section.blocks
    assert [row[0] for row in accuracies.rows] == ["default", "still", "nearly", "unlearned"]
    assert shares.rows[3][1:] == ["", "", ""]
    assert shares.rows[1][3].startswith("100.0 [")
    assert cost.rows == [["m", "2.00", "2.10", "1.05"]]


def test_nothing_learned_gives_no_picture() -> None:
    _, section = present_stops(made({"default": {"0": 0.5, "3": 0.5, "5": 0.5}}), REPEATED, COST)
    assert not [block for block in section.blocks if hasattr(block, "image")]


def test_cost_is_that_of_both_clocks() -> None:
    assert CLOCKS[0] == LCRConfig().memory_clock
    found = ClockCost(("lcr_nano",)).probe(quick=True, device="cpu")
    assert found["clock"] == "CPU"
    assert set(found["ms"]["lcr_nano"]) == {"frames", "change"}
    assert all(value > 0 for value in found["ms"]["lcr_nano"].values())
