from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import model_config
from videorwkv.run import recipes
from videorwkv.run.recipes import Recipe, apply_overrides
from videorwkv.training.setup import validation_interval


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_survives_json(name: str) -> None:
    recipe = recipes.recipe(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_overrides_are_typed_by_their_field() -> None:
    changed = apply_overrides(
        tiny.recipe(),
        [
            "model.width=32", "lr=2e-3", "sampling.fps=10", "augmentation.scale=0.5,1",
            "model.edges=sobel", "model.edge_options.norm=l1", "compile=yes", "views=2x3",
            "precision=bfloat16", "model.cell=none", "model.residual=false",
        ],
    )  # fmt: skip
    assert changed.model.width == 32
    assert changed.lr == 2e-3
    assert changed.sampling.fps == 10.0
    assert changed.augmentation.scale == (0.5, 1.0)
    assert changed.model.edge_options.norm == "l1"
    assert changed.compile is True
    assert changed.views == (2, 3)
    assert changed.model.cell == "none"  # the word, not the absence of a value
    assert changed.model.residual is False
    assert apply_overrides(changed, ["sampling.fps=none"]).sampling.fps is None


def test_options_that_hang_together_change_together() -> None:
    changed = apply_overrides(tiny.recipe(), ["model.image_size=36", "model.patch_size=12"])
    assert (changed.model.image_size, changed.model.patch_size) == (36, 12)


def test_crops_of_a_stretched_frame_are_refused() -> None:
    changed = apply_overrides(tiny.recipe(), ["model.frame_fit=stretch", "views=4x1"])
    assert (changed.model.frame_fit, changed.views) == ("stretch", (4, 1))
    with pytest.raises(ConfigError, match=r"Recipe: views 4x3.*as in 4x1"):
        apply_overrides(changed, ["views=4x3"])


def test_a_recipe_from_before_an_option_existed() -> None:
    values = tiny.recipe().to_dict()
    del values["model"]["frame_fit"], values["model"]["memory_clock"]
    for name in ("rotate", "tint", "grey_probability"):
        del values["augmentation"][name]
    recipe = Recipe.from_dict(values)
    assert recipe == tiny.recipe()
    assert (recipe.model.frame_fit, recipe.model.memory_clock) == ("crop", "frames")
    augmentation = recipe.augmentation
    assert augmentation.rotate == augmentation.tint == augmentation.grey_probability == 0


def test_another_model_keeps_how_frames_become_squares() -> None:
    wide = apply_overrides(tiny.recipe(), ["model.frame_fit=stretch"])
    other = recipes.with_model(wide, "lcr_nano")
    assert other == replace(wide, model=model_config("lcr_nano", frame_fit="stretch"))


def test_epochs_and_steps_replace_each_other() -> None:
    by_epochs = apply_overrides(tiny.recipe(), ["epochs=3"])
    assert (by_epochs.epochs, by_epochs.steps) == (3, None)
    by_steps = apply_overrides(by_epochs, ["steps=7"])
    assert (by_steps.epochs, by_steps.steps) == (None, 7)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("modle.width=96", ["modle", "Did you mean 'model'?"]),
        ("model.widht=96", ["model.widht", "Did you mean 'width'?"]),
        ("model.width=wide", ["model.width", "'wide'", "a whole number"]),
        ("lr=fast", ["lr", "'fast'", "a number"]),
        ("precision=bf16", ["precision", "'bf16'", "bfloat16"]),
        ("augmentation.scale=0.5", ["augmentation.scale", "2 values"]),
        ("compile=maybe", ["compile", "true or false"]),
        ("lr", ["'lr'", "key=value"]),
        ("lr.x=1", ["lr", "no parts"]),
        ("model=big", ["model", "model.PART"]),
        ("batch_size=none", ["batch_size", "a whole number"]),
        ("model.image_size=100", ["image_size (100)", "96 and 104"]),
        ("batch_size=0", ["batch_size (0)", "at least 1"]),
        ("warmup=1", ["warmup (1.0)", "[0, 1)"]),
        ("steps=none", ["epochs or steps"]),
    ],
)
def test_a_wrong_override_names_option_and_allowed(assignment: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(tiny.recipe(), [assignment])
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"learning_rate": 1.0}, "unknown option 'learning_rate'"),
        ({"batch_size": "8"}, "recipe.batch_size"),
        ({"batch_size": True}, "recipe.batch_size"),
        ({"sampling": {"frames": 8}}, "recipe.sampling: unknown option 'frames'"),
        ({"model": {"depht": 2}}, "Did you mean 'depth'?"),
        ({"sampling": 8}, "recipe.sampling"),
    ],
)
def test_from_dict_rejects(change: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe.from_dict({**tiny.recipe().to_dict(), **change})
    assert part in str(caught.value)


def test_unknown_recipe_and_model() -> None:
    with pytest.raises(UsageError, match="Did you mean 'handwash'"):
        recipes.recipe("handwsh")
    with pytest.raises(UsageError, match="Did you mean 'lcr_tiny'"):
        recipes.default("lcr_tinny")


def test_what_has_no_effect_beside_another_is_refused() -> None:
    with pytest.raises(ConfigError, match="recompute=true has no effect with compile=true"):
        apply_overrides(tiny.recipe(), ["compile=true", "recompute=true"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "clip_norm", "warmup", "ema", "min_lr"])
def test_numbers_are_finite(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(tiny.recipe(), **{name: value})  # type: ignore[arg-type]
    values = {**tiny.recipe().to_dict(), name: value}
    with pytest.raises(ConfigError, match=f"{name}: got {value}; allowed: a finite number"):
        Recipe.from_dict(values)


@pytest.mark.parametrize(
    ("eval_every", "steps_per_epoch", "total", "wanted"),
    [
        (0, 200, 12_000, 200),  # long epochs: each
        (0, 2, 120, 6),  # 60 of 2 steps: 20 validations, not 60
        (0, 2, 8, 2),  # --epochs 4: each
        (0, 10, 10_000, 50),
        (7, 2, 120, 7),
    ],
)
def test_validations_are_spread_over_a_run(
    eval_every: int, steps_per_epoch: int, total: int, wanted: int
) -> None:
    recipe = tiny.recipe(eval_every=eval_every)
    assert validation_interval(recipe, steps_per_epoch, total) == wanted


def test_a_run_of_another_length_has_as_many_validations() -> None:
    recipe = tiny.recipe(steps=600, eval_every=150)
    assert apply_overrides(recipe, ["steps=40"]).eval_every == 10
    assert apply_overrides(recipe, ["epochs=4"]).eval_every == 0
    assert apply_overrides(recipe, ["steps=40", "eval_every=9"]).eval_every == 9
    assert apply_overrides(recipe, ["lr=1"]).eval_every == 150
