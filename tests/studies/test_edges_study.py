from __future__ import annotations

import re
from pathlib import Path

import fake
import pytest
import small

from studies import load_study
from studies.compare import cautions
from studies.corruptions import Noise
from studies.index import study as write_study
from studies.plan import Settings, make_plan
from studies.questions import edges
from studies.questions.edges import ACCURACY, DEFAULT, NONE, SCATTERED
from studies.sentences import NO_DIFFERENCE


@pytest.mark.parametrize(
    ("default", "scattered", "none", "words"),
    [
        (0.9, 0.7, 0.7, "pixels are worse, so the content of the map matters: edges minus"),
        (0.9, 0.7, 0.9, "but the gain over no map at all is not significant"),
        (0.7, 0.9, 0.7, "No, as many scattered pixels do better"),
        (0.9, 0.9, 0.7, "Undecided: scattered pixels help too"),
        (0.8, 0.8, 0.8, "No significant difference between edges and as many scattered pixels"),
        (0.7, 0.7, 0.9, "No significant difference between edges and as many scattered pixels"),
    ],
)
def test_is_it_the_edges(default: float, scattered: float, none: float, words: str) -> None:
    pairs = ((DEFAULT, default), (SCATTERED, scattered), (NONE, none))
    shares = {(variant, ACCURACY.name): share for variant, share in pairs}
    text = edges._needed(fake.results("edges", shares))
    assert words in text
    assert f"edges minus scattered pixels {100 * (default - scattered):+.1f} [" in text
    assert f"scattered pixels minus none {100 * (scattered - none):+.1f} [" in text


def test_who_stands_a_change() -> None:
    shares = {(DEFAULT, "noise 16"): 0.5, ("Sobel", "noise 16"): 0.7, (NONE, "noise 16"): 0.3}
    names = (DEFAULT, "Sobel", NONE)
    results = fake.results("edges", shares, names=names)
    text = edges._robust(results, Noise(16))
    assert text.startswith(f"noise 16: the accuracy of {DEFAULT} changes by -30.0 [")
    assert "to 50.0 %; better: Sobel (+20.0 [" in text
    assert "; worse: no edges (-20.0 [" in text
    assert NO_DIFFERENCE in edges._robust(results, Noise(8))
    (table, *_) = edges._robust_blocks(results)
    rows = {row[0]: row for row in table.rows}  # type: ignore[union-attr]
    column = table.header.index("noise 16")  # type: ignore[union-attr]
    assert [rows[name][column][-1] for name in names] == ["%", "▲", "▼"]
    assert "Of 16 such comparisons without any effect about 1" in table.caption  # type: ignore[union-attr]


def test_a_default_at_chance_is_named() -> None:
    results = fake.results("edges", {(DEFAULT, ACCURACY.name): 0.13})
    (caution,) = cautions(results, [DEFAULT, "Sobel"], ACCURACY)
    assert caution.startswith(f"{DEFAULT} reaches 13.0 %")
    assert "hardly learned" in caution
    two = fake.results("edges", {(DEFAULT, ACCURACY.name): 0.55}, classes={DEFAULT: 2})
    assert "chance is 50.0 %" in cautions(two, [DEFAULT], ACCURACY)[0]


def test_variants_differ_in_the_edges_alone() -> None:
    plan = make_plan(load_study("edges"), Settings())
    models = {t.variant: t.recipe.model.to_dict() for t in plan.trainings}
    default = models[DEFAULT]
    for name, model in models.items():
        changed = {key for key in model if model[key] != default[key]}
        if name == NONE:
            assert changed == {"edges", "key_value_source", "channel_mix_ratio"}
        else:
            assert len(changed) == (name != DEFAULT)
            assert changed <= {"edges", "edge_options"}
    given = {(e.method, e.options) for e in edges.COST.extractors}
    used = {(t.recipe.model.edges, t.recipe.model.edge_options) for t in plan.trainings}
    assert given == {pair for pair in used if pair[0] != "none"}


def test_a_variant_is_what_its_name_says_whatever_the_recipe(tmp_path: Path) -> None:
    for own, blur in (
        (("model.edges=sobel",), 5),
        (("model.edges=none", "model.key_value_source=frame"), 5),
        (("model.edge_options.high=90", "model.edge_options.blur_size=15"), 15),
    ):
        plan = make_plan(load_study("edges"), small.settings(tmp_path, changes=own))
        made = {e.name: e for e in edges.extractors({t.variant: t.recipe.model
                                                     for t in plan.trainings})}  # fmt: skip
        canny = {name for name in made if "Canny" in name or "blur" in name}
        assert len(canny) == 7
        assert {made[name].method for name in canny} == {"canny"}
        assert [made[name].options.high for name in (DEFAULT, "no pre-blur")] == [0, 0]
        # What no variant names is the user's.
        assert made[DEFAULT].options.blur_size == made["Sobel"].options.blur_size == blur


def test_maps_are_those_that_the_models_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for blur in (5, 15):
        changes = (*small.CHANGES, f"model.edge_options.blur_size={blur}")
        settings = small.settings(
            tmp_path, quick=True, seeds=1, only=(DEFAULT,), changes=changes, show_frames=False
        )
        text = write_study("edges", settings, out=tmp_path / "pages").markdown.read_text()
        maps = text.partition("## The maps")[2]
        rows += re.findall(rf"^\| {DEFAULT} \| ([\d.]+) %", maps, re.M)
    assert len(rows) == 2
    assert float(rows[1]) < float(rows[0])  # a wide blur leaves fewer edges


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small.settings(
        tmp_path, quick=True, seeds=1, only=("Canny, high threshold", SCATTERED, NONE)
    )
    written = write_study("edges", settings, out=tmp_path / "pages")
    text = written.markdown.read_text()
    assert "Is it the edges?" in text
    assert "Single seed: " in text
    assert len(re.findall(r"^- (?:noise|blur|light|JPEG) [\d.]+: the accuracy", text, re.M)) == 8
    for picture in ("difference", "noise", "blur", "darkness", "JPEG", "maps"):
        assert f"(edges-part/{picture}.png)" in text
    # What was not trained has a cost, but no map and no accuracy.
    assert len(re.findall(r"^\| Sobel \|", text, re.M)) == 1
    assert len(re.findall(r"^\| Canny, high threshold \|", text, re.M)) == 4
    assert "% of that." in text
