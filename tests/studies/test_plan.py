from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small

from studies import STUDIES, Accuracy, Study, Variant, load_study
from studies.compare import _shown
from studies.data import DataOptions, merge_options
from studies.plan import (
    Plan,
    Settings,
    clips_key,
    content_key,
    count_parameters,
    make_plan,
    match_parameters,
    object_key,
    runs_on,
)
from videorwkv.errors import ConfigError, DataError, UsageError


def plan_of(*variants: Variant, folder: Path = Path("x"), **changes: object) -> Plan:
    study = Study("test", question="?", variants=variants)
    return make_plan(study, small.settings(folder, **changes))


@pytest.mark.parametrize("name", [n for n in STUDIES if n != "complexity"])
@pytest.mark.parametrize("quick", [True, False])
def test_every_study_can_be_planned(name: str, quick: bool) -> None:
    plan = make_plan(load_study(name), Settings(quick=quick))
    # `maps` looks at one model; all others compare.
    assert len({t.variant for t in plan.trainings}) == len(plan.variants)
    assert (len(plan.variants) == 1) == (name == "maps")
    by_seed = {t.recipe.seed for t in plan.trainings}
    assert len(by_seed) == (2 if quick else plan.study.full.seeds)
    # What all that is compared must have in common.
    variants = {v.name: plan.study.reference(v) for v in plan.variants}
    for reference in variants.values():
        compared = [t.recipe for t in plan.trainings if variants[t.variant] == reference]
        # `length` asks what other samplings do.
        varied = {"sampling"} if name == "length" else set()
        for field in {"steps", "batch_size", "augmentation", "lr", "sampling"} - varied:
            assert len({repr(getattr(recipe, field)) for recipe in compared}) == 1, field
        counts = Counter(t.variant for t in plan.trainings if variants[t.variant] == reference)
        assert len(set(counts.values())) == 1
        assert min(counts.values()) >= (2 if quick else 3)
    train = plan.manifest(plan.trainings[0]).split("train")
    assert quick or len(train) >= 2000
    assert not [n for n in plan.notes if ": parameters" in n and "LSTM" not in n]


def test_a_variant_may_have_seeds_of_its_own() -> None:
    variants = (
        Variant("a"),
        Variant("long", changes=("lr=1e-4",), against="long", seeds=1),
        Variant(
            "long, forward", changes=("lr=1e-4", "model.scan=forward"), against="long", seeds=1
        ),
    )

    def seeds(**changes: Any) -> list[int]:
        trained = Counter(t.variant for t in plan_of(*variants, **changes).trainings)
        return [trained[variant.name] for variant in variants]

    assert seeds(seeds=None) == [3, 1, 1]
    assert seeds(seeds=None, quick=True) == [2, 2, 2]
    assert seeds(seeds=4) == [4, 4, 4]
    with pytest.raises(ConfigError, match=r"'b' has seeds=2, 'a', .* seeds=None"):
        plan_of(Variant("a"), Variant("b", seeds=2))
    with pytest.raises(ConfigError, match=r"seeds \(0\) must be at least 1"):
        Variant("a", seeds=0)


def test_parameters_of_the_ablation_are_matched() -> None:
    plan = make_plan(load_study("ablation"), Settings(quick=True))
    counts = {t.variant: count_parameters(t.recipe.model) for t in plan.trainings}
    left, *notes = plan.notes
    assert left.startswith("Only in a full study: order of two: default;")
    for name, note in zip(("plain LSTM", "ConvLSTM"), notes, strict=True):
        larger = counts.pop(name)
        assert larger > 1.03 * counts["default"]
        share = f"{larger / counts['default'] - 1:+.1%}"
        assert note == f"{name}: parameters differ by {share} from those of default."
    for name, count in counts.items():
        assert count == pytest.approx(counts["default"], rel=0.03), name


def test_the_default_is_one_run_for_all_studies() -> None:
    keys = {
        name: {t.key for t in make_plan(load_study(name), Settings(quick=True)).trainings}
        for name in ("ablation", "balance", "order")
    }
    assert len(keys["ablation"] & keys["balance"] & keys["order"]) == 2


def test_key_is_what_decides_the_weights() -> None:
    base = plan_of(Variant("a"), Variant("b", changes=("workers=2", "eval_every=7")))
    assert len({t.key for t in base.trainings}) == 2  # two seeds
    other = [
        plan_of(Variant("a", changes=("lr=1e-4",))),
        plan_of(Variant("a"), data=DataOptions(spec=small.DATA.replace("16", "24"))),
        plan_of(Variant("a", changes=("model.edges=sobel",))),
    ]
    keys = {p.trainings[0].key for p in (base, *other)}
    assert len(keys) == 4
    manifest = base.manifest(base.trainings[0])
    keys = {
        content_key(base.trainings[0].recipe, clips_key(replace(manifest, flips=flips)))
        for flips in (None, {label: label for label in manifest.labels})
    }
    assert len(keys) == 2
    test = plan_of(Variant("a"), data=DataOptions(spec=small.DATA.replace("test=8", "test=16")))
    assert test.trainings[0].key == base.trainings[0].key


def test_match_reaches_what_it_can() -> None:
    config = plan_of(Variant("a")).trainings[0].recipe.model
    wanted = count_parameters(config) + 500
    found = match_parameters(config, wanted)
    assert abs(count_parameters(found) - wanted) <= 2 * 16 * 8 / 2
    assert match_parameters(config, count_parameters(config)) is config


def test_sizes_are_left_alone() -> None:
    plan = plan_of(Variant("a"), Variant("deep", changes=("model.depth=2",)))
    counts = {t.variant: count_parameters(t.recipe.model) for t in plan.trainings}
    assert counts["deep"] > 1.3 * counts["a"]
    free = plan_of(Variant("a"), Variant("b", changes=("model.cell=none",), match=False))
    assert free.trainings[2].recipe.model.channel_mix_ratio == 2.0
    assert plan_of(
        Variant("a"), Variant("b", changes=("model.cell=none",))
    ).trainings[2].recipe.model.channel_mix_ratio > 2.0  # fmt: skip


def test_what_is_matched_is_what_it_is_compared_with() -> None:
    lstm = Variant("lstm", changes=("model.cell=lstm",), match=False)
    plan = plan_of(lstm, Variant("none", changes=("model.cell=none",)), seeds=1)
    counts = [count_parameters(t.recipe.model) for t in plan.trainings]
    assert counts[1] == pytest.approx(counts[0], rel=0.03) or plan.notes


def test_own_measures_are_known_by_their_text(tmp_path: Path) -> None:
    text = """
from dataclasses import dataclass
from studies import Measured, Study, Variant

@dataclass(frozen=True)
class Mine:
    name = "mine"
    unit = "ms"
    lower_is_better = True
    needs_generated = False

    def measure(self, trained):
        return Measured(1.0)

STUDY = Study("small", question="?", variants=(Variant("default"),), measures=(Mine(),))
"""
    keys = [
        object_key(load_study(small.study_file(tmp_path, t, name)).measures[0])
        for t, name in ((text, "one.py"), (text, "same.py"), (text.replace("1.0", "2.0"), "two.py"))
    ]
    assert keys[0] == keys[1] != keys[2]
    # The one that was loaded counts, also when its file is edited while a study runs.
    study = load_study(small.study_file(tmp_path, text, "edited.py"))
    small.study_file(tmp_path, text.replace("1.0", "3.0"), "edited.py")
    assert object_key(study.measures[0]) == keys[0]


def test_what_cannot_be_matched_is_said() -> None:
    plan = plan_of(Variant("a"), Variant("b", changes=("model.stem=patch", "model.stem_frames=1")))
    ratio = count_parameters(plan.trainings[2].recipe.model) / count_parameters(
        plan.trainings[0].recipe.model
    )
    assert (abs(ratio - 1) > 0.03) == bool(plan.notes)


def test_commands_say_the_same_again() -> None:
    from videorwkv.cli.main import make_parser
    from videorwkv.cli.train_recipe import recipe_of
    from videorwkv.data import load_manifest
    from videorwkv.training.setup import for_data

    plan = plan_of(Variant("a"), Variant("b", changes=("model.cell=none",)))
    for training in plan.trainings:
        options = make_parser().parse_args(list(training.command[1:]))
        manifest = load_manifest(options.data)
        recipe = for_data(recipe_of(options, manifest, None, None, begun=False)[0], manifest)
        assert recipe == training.recipe


def test_a_page_says_data_for_a_place_on_this_machine(tmp_path: Path) -> None:
    import shlex

    place = tmp_path / "my clips"
    place.mkdir()
    for spec, said in ((str(place), '"$DATA"'), (f"folder:{place}", 'folder:"$DATA"')):
        shown = _shown(["videorwkv", "train", spec, "--set", "a b"], spec)
        assert shown == f"videorwkv train {said} --set 'a b'"
    command = ["videorwkv", "train", "motion:train=8", "--seed", "1"]
    assert _shown(command, None) == _shown(command, "motion:train=8") == shlex.join(command)


def test_generated_data_alone(tmp_path: Path) -> None:
    import tiny

    for label in ("a", "b"):
        for i in range(3):
            for split in ("train", "test"):
                tiny.write_clip(tmp_path / split / label / f"{i}.mp4")
    variants = (Variant("x"), Variant("y", data="order=2,frames=16"))
    study = Study(
        "t", question="?", variants=variants, measures=(Accuracy(), Accuracy(data="frames=32"))
    )
    own = small.settings(tmp_path, data=DataOptions(spec=str(tmp_path)), recipe="motion_demo")
    plan = make_plan(study, own)
    assert [v.name for v in plan.variants] == ["x"]
    assert [m.name for m in plan.measures] == ["accuracy"]
    assert len(plan.notes) == 2
    needy = replace(study, variants=(*variants, Variant("z", against="y")))
    assert [v.name for v in make_plan(needy, own).variants] == ["x"]
    assert "z is skipped, as is y" in "".join(make_plan(needy, own).notes)
    quick = make_plan(study, replace(own, quick=True)).trainings[0]
    assert (quick.recipe.steps, plan.trainings[0].recipe.steps) == (2, 2)  # --set steps stands
    quick = make_plan(study, replace(own, quick=True, changes=())).trainings[0]
    assert (
        4 * quick.recipe.steps
        == make_plan(study, replace(own, changes=())).trainings[0].recipe.steps
    )
    assert plan.trainings[0].recipe.model.num_classes == 2
    alone = Study("t", question="?", variants=(Variant("x", data="order=2,frames=16"),))
    assert not runs_on(alone, own)
    with pytest.raises(UsageError, match="leave DATA out"):
        make_plan(alone, own)
    generated = make_plan(study, small.settings(tmp_path))
    assert generated.trainings[-1].recipe.model.num_classes == 2
    assert "order=2" in generated.trainings[-1].data


def test_nothing_to_measure_on(tmp_path: Path) -> None:
    from studies.data import test_clips

    manifest = DataOptions(spec="m").load("motion:train=8,validation=0,test=0")[0]
    with pytest.raises(DataError, match="no labelled clip in a test or a validation"):
        test_clips(manifest)
    # Said before anything is trained.
    with pytest.raises(DataError, match="no labelled clip"):
        plan_of(Variant("a"), data=DataOptions(spec=small.DATA.replace("test=8", "test=0")))
    # As Jester and Something-Something V2 come: a test split without labels.
    manifest = DataOptions(spec="m").load("motion:train=8,validation=2,test=4")[0]
    rows = tuple(r._replace(label=None) if r.split == "test" else r for r in manifest.rows)
    assert {row.split for row in test_clips(replace(manifest, rows=rows)).rows} == {"validation"}


def test_only() -> None:
    plan = plan_of(Variant("a"), Variant("b"), Variant("c", against="b"), only=("c",))
    assert [v.name for v in plan.variants] == ["a", "b", "c"]
    chain = (Variant("d"), Variant("c"), Variant("b", against="c"), Variant("a", against="b"))
    assert [v.name for v in plan_of(*chain, only=("a",)).variants] == ["d", "c", "b", "a"]
    with pytest.raises(UsageError, match="no such variant"):
        plan_of(Variant("a"), only=("z",))


def test_what_is_left_to_the_full_size() -> None:
    variants = (Variant("a"), Variant("b", full_only=True))
    quick = plan_of(*variants, quick=True)
    assert [v.name for v in quick.variants] == ["a"]
    assert quick.notes == ("Only in a full study: b.",)
    assert [v.name for v in plan_of(*variants).variants] == ["a", "b"]
    assert [v.name for v in plan_of(*variants, quick=True, only=("b",)).variants] == ["a", "b"]


def test_study_with_a_measure_of_its_own(tmp_path: Path) -> None:
    """A dataclass looks for its module by name."""
    text = """from __future__ import annotations
from dataclasses import KW_ONLY, dataclass
from studies import Accuracy, Study, Variant

@dataclass(frozen=True)
class Own(Accuracy):
    _: KW_ONLY
    more: int = 1

STUDY = Study("own", question="?", variants=(Variant("a"),), measures=(Own(),))
"""
    assert load_study(small.study_file(tmp_path, text)).measures[0].name == "accuracy"


def test_merge_options() -> None:
    assert merge_options("motion:train=8,size=64", "size=32,order=2") == (
        "motion:order=2,size=32,train=8"
    )
    assert merge_options("motion", "frames=8") == "motion:frames=8"


FILE_WITHOUT_VARIANTS = """
from studies import Study

STUDY = Study("own", question="?")
"""


def test_mistakes_in_a_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two variants"):
        Study("t", question="?", variants=(Variant("a"), Variant("a")))
    with pytest.raises(ConfigError, match="unknown variant"):
        Study("t", question="?", variants=(Variant("a"), Variant("b", against="z")))
    with pytest.raises(ConfigError, match="neither variants nor probes"):
        Study("t", question="?")
    with pytest.raises(ConfigError, match="a tuple"):
        Variant("a", changes="model.cell=none")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Did you mean 'ablation'"):
        load_study("ablatoin")
    with pytest.raises(UsageError, match="defines no STUDY"):
        load_study(small.study_file(tmp_path, "x = 1\n"))
    for text, message in (
        ("x = 1\ny = = 1\n", r"small\.py, line 2: SyntaxError: invalid syntax"),
        ("def f(x):\n    return int(x)\n\nf('a')\n", r"small\.py, line 2: ValueError: .* 'a'\.$"),
        ("import json\n\njson.loads('{')\n", r"small\.py, line 3: JSONDecodeError: .*\.$"),
        ("assert not 1\n", r"small\.py, line 1: AssertionError\.$"),
    ):
        with pytest.raises(UsageError, match=message):
            load_study(small.study_file(tmp_path, text))
    with pytest.raises(ConfigError, match="neither variants nor probes"):
        load_study(small.study_file(tmp_path, FILE_WITHOUT_VARIANTS))
    with pytest.raises(UsageError, match="No study at"):
        load_study("nothing/here.py")
