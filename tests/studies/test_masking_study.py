from __future__ import annotations

from pathlib import Path

import fake
import pytest
import small

from studies import load_study, timing
from studies.design import FULL
from studies.index import study as write_study
from studies.plan import Settings, make_plan
from studies.questions import masking
from studies.sentences import NO_DIFFERENCE
from studies.statistics import Estimate

SHORT, LONG = masking.TASKS[:2]


def test_what_is_lost_at_inference() -> None:
    shares = {("no mask", "tube 0.75"): 0.6, ("no mask", "tube 0.9"): 0.3,
              ("no mask", "motion 0.9"): 0.5}  # fmt: skip
    results = fake.results("masking", shares)
    text = masking._borne(results, SHORT)
    assert "tube -20.0 [" in text
    assert "at 0.75, -50.0 [" in text
    assert "random none significant; motion -30.0 [" in text
    assert NO_DIFFERENCE not in text
    kinds = masking._kinds(results, SHORT)
    assert "random better: +20.0 [" in kinds
    assert "motion better: +20.0 [" in kinds
    assert "at 0.75, +20.0 [" in kinds.split("motion")[1]
    one_clip = fake.results("masking", {("no mask", "tube 0.5"): 0.795})
    assert "tube none significant" in masking._borne(one_clip, SHORT)
    assert NO_DIFFERENCE in masking._borne(results, LONG)
    assert NO_DIFFERENCE in masking._kinds(results, LONG)


def test_tasks_are_compared_by_the_way_up_from_chance() -> None:
    """Of 50 points above chance 20 are lost, of 87.5 points 17.5: 40 % against 20 %."""
    shares = {(SHORT.variant_name(), "tube 0.5"): 0.625, (LONG.variant_name(), "tube 0.5"): 0.6}
    results = fake.results("masking", shares, classes={LONG.variant_name(): 2})
    text = masking._long_and_short(results, SHORT, LONG)
    assert "-20.0 [" in text
    assert "at 0.5 (larger loss)" in text
    assert "+0.0 [-4.2, +4.2] at 0.25 (not significant)" in text


def test_difference_of_two_intervals() -> None:
    found = masking.difference_of(Estimate(0.5, 0.2, 0.7, 3), Estimate(0.1, -0.3, 0.4, 2))
    assert found.value == pytest.approx(0.4)
    assert found.low == pytest.approx(0.4 - (0.3**2 + 0.3**2) ** 0.5)
    assert found.high == pytest.approx(0.4 + (0.2**2 + 0.4**2) ** 0.5)
    assert found.seeds == 2


def test_each_task_is_compared_with_its_own_unmasked_model() -> None:
    plan = make_plan(load_study("masking"), Settings())
    ratios: dict[str, set[float]] = {}
    for training in plan.trainings:
        reference = plan.study.reference(
            next(v for v in plan.variants if v.name == training.variant)
        )
        base = next(t for t in plan.trainings if t.variant == reference and t.seed == training.seed)
        assert base.data == training.data
        ratio = training.recipe.model.tube_mask_ratio
        masked = base.recipe.to_dict()
        masked["model"]["tube_mask_ratio"] = ratio
        assert masked == training.recipe.to_dict()
        ratios.setdefault(training.data, set()).add(ratio)
    assert len(ratios) == 4
    assert ratios[FULL.data] == {0.0, 0.25, 0.5, 0.75, 0.9}
    assert all({0.0} < found for found in ratios.values())


def test_unmasked_models_are_runs_of_other_studies() -> None:
    keys = {
        name: {t.key for t in make_plan(load_study(name), Settings(quick=True)).trainings}
        for name in ("ablation", "masking", "order", "edges")
    }
    assert len(keys["masking"] & keys["order"]) == 4  # two seeds, short and ordered
    assert len(keys["edges"] & keys["ablation"]) == 4  # the default and no edges


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process for each of 17 cases; `test_cost_falls_with_the_share` has the real one.
    monkeypatch.setattr(timing, "peak_memory", lambda make, device: 1.0)
    source = Path(masking.__file__).read_text()
    for old, new in (
        ("steps=800", "steps=2"),
        ("RATIOS = (0.25, 0.5, 0.75, 0.9)", "RATIOS = (0.5, 0.75, 0.9)"),
        # What it has in common with `order`, shorter as well.
        (
            "import FOR_TWO, TWO_MOVEMENTS",
            "import TWO_MOVEMENTS\n\nFOR_TWO = ('steps=2', 'lr=1e-3')",
        ),
        ("COST = MaskCost(", "COST = MaskCost(quick_size=32, frames=2, batch_size=1, "),
    ):
        assert old in source
        source = source.replace(old, new)
    reference = small.study_file(tmp_path, source, "masking.py")
    only = ("mask 0.5 in training", "order of 2 in 16 frames, mask 0.75 in training")
    settings = small.settings(tmp_path, quick=True, seeds=1, only=only)
    text = write_study(reference, settings, out=tmp_path / "pages").markdown.read_text()
    assert "mask 0.5 in training" in text
    assert "points of accuracy under a tube mask of 0.75" in text or "all seeds are equal" in text
    assert "order of 2 in 16 frames against clips of one movement" in text
    assert "| 0.75, motion |" in text
    assert "A training step with a tube mask of 0.75 takes " in text
    for picture in ("clips", "order-of-2-in-16-frames", "cost"):
        assert f"(masking-part/{picture}.png)" in text


def test_own_clips_have_the_first_task_alone(tmp_path: Path) -> None:
    import tiny

    from studies.data import DataOptions

    for label in ("a", "b"):
        for split in ("train", "test"):
            tiny.write_clip(tmp_path / split / label / "1.mp4")
    settings = small.settings(tmp_path, data=DataOptions(spec=str(tmp_path)), recipe="motion_demo")
    plan = make_plan(load_study("masking"), settings)
    assert {v.name for v in plan.variants} == {v.name for v in SHORT.variants()}
    assert len(plan.measures) == 13
