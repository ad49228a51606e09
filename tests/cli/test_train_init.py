from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from commands import TRAIN, fails

from videorwkv.cli import train_recipe as train_module
from videorwkv.cli.main import main, make_parser
from videorwkv.cli.train_recipe import new_recipe
from videorwkv.errors import ConfigError
from videorwkv.models import model_config
from videorwkv.run import recipes
from videorwkv.run.choose import Choice
from videorwkv.run.pretrained import Pretrained, read_pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import read_run


def test_start_from_a_run(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny.trained(tmp_path / "old", steps=1, lr=3e-3)
    out = ["--out", str(tmp_path / "tuned"), "--workers=0", "--steps=1", "--no-baselines"]
    train = ["train", str(own_videos), *out, "--init", str(run)]
    assert main([*train, "--freeze=stem", "--layer-decay=0.5"]) == 0
    said = capsys.readouterr().err
    assert "recipe finetune over the recipe chosen for 6 clips" in said
    assert f"starts from {run}: " in said
    assert "the classifier knows 0 of 2 labels" in said
    made, begun = read_run(tmp_path / "tuned").recipe, read_run(run).recipe
    assert (made.freeze, made.layer_decay, made.steps) == (("stem",), 0.5, 1)
    assert (made.model.width, made.lr) == (begun.model.width, begun.lr)
    assert made.model.num_classes == 2
    # What is printed after Ctrl-C: the same command.
    again = [*train, "--freeze=stem", "--layer-decay=0.5", "--resume", "--quiet"]
    assert main(again) == 0
    # It was laid over what was chosen for the clips, which the run alone has.
    assert main([*train[:2], *out, "--resume", "--recipe=finetune", "--quiet"]) == 0

    code, line = fails(capsys, "train", own_videos, "--recipe=finetune", "--out", tmp_path / "x")
    assert code == 2
    assert "name a run with --init" in line
    code, line = fails(capsys, *train[:2], "--out", tmp_path / "x", "--init", tmp_path / "none")
    assert code == 2
    assert "No run at" in line
    code, line = fails(
        capsys, *train[:2], "--out", tmp_path / "x", "--init", run, "--model=lcr_nano", "--quiet"
    )
    assert code == 2
    assert "width 16 there, 96 here" in line


def test_a_dry_run_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TRAIN[1:], "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "steps would take about" in shown
    assert "batches of 4 clips: 3 frames of 32x32" in shown
    assert not list(tmp_path.iterdir())
    code, line = fails(capsys, *TRAIN, "--dry-run", "--resume")
    assert code == 2
    assert "--resume goes on with one" in line


@pytest.mark.parametrize("name", recipes.OF_DATA_SETS)
def test_known_data_sets_have_recipes_of_their_own(name: str, tmp_path: Path) -> None:
    manifest = replace(tiny.manifest(), name=name)

    def chosen(init: Pretrained | None = None, **options: str) -> Choice:
        known = {"recipe": None, "model": None, "workers": "0", "init": None, **options}
        return new_recipe(Namespace(assignments=[], timeline=False, **known), manifest, init)

    recipe, why, _ = chosen()
    assert recipe == recipes.recipe(name)
    assert f"recipe {name}, as for every data set of this kind" in why
    assert chosen(recipe="default") == (recipes.default(), "", None)
    small, *_ = chosen(model="lcr_nano")
    fit = recipe.model.frame_fit
    assert small == replace(recipe, model=model_config("lcr_nano", frame_fit=fit))
    given = read_pretrained(tiny.trained(tmp_path / "old", steps=1))
    started, why, _ = chosen(given)
    assert started.model.width == 16
    assert (started.epochs, started.lr) == (recipe.epochs, recipe.lr)
    assert "finetune" not in why
    assert chosen(given, recipe="linear_probe")[0].freeze


def test_a_stem_that_is_named_goes_without_the_directions_that_were_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = recipes.default("lcr_pico")
    chosen = replace(chosen, model=replace(chosen.model, stem_flow=True))
    monkeypatch.setattr(train_module, "new_recipe", lambda *_: Choice(chosen, "chosen."))

    def made(*assignments: str) -> Recipe:
        options = make_parser().parse_args(
            ["train", "motion", *(f"--set={text}" for text in assignments)]
        )
        return train_module.recipe_of(options, tiny.manifest(), None, None, begun=False)[0]

    assert made().model.stem_flow
    assert made("model.stem=patch").model.stem_flow
    capsys.readouterr()
    assert not made("model.stem=lite0").model.stem_flow
    assert "Without directions of movement" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="stem_flow=False"):
        made("model.stem=lite0", "model.stem_flow=true")
