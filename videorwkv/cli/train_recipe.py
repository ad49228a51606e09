"""The recipe of a training, from the options of `videorwkv train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest
    from videorwkv.models.config import LCRConfig
    from videorwkv.run.choose import Choice
    from videorwkv.run.pretrained import Pretrained
    from videorwkv.run.recipes import Recipe

# Options of `train` that are the recipe's.
_RECIPE_OPTIONS = (
    *("epochs", "steps", "batch_size", "lr", "seed", "workers", "clip_timeout", "precision"),
    *("layer_decay", "checkpoint_minutes", "accumulate", "patience"),
    "best_by",
)  # fmt: skip


def recipe_of(
    options: argparse.Namespace,
    manifest: Manifest,
    init: Pretrained | str | None,
    configured: Recipe | None,
    *,
    begun: bool,
) -> tuple[Recipe, str | None]:
    """The recipe that the options describe, and weights to start from where they are chosen with
    it; why it was chosen is said, where it was.

    Args:
        options: of `train`, those of the file given by --config taken over.
        manifest: the data set.
        init: weights to start from, read or named; None without any.
        configured: the recipe of that file, if it has one.
        begun: whether the run in --out has a checkpoint, which is to be resumed.
    """
    from videorwkv.run import recipes
    from videorwkv.run.run import read_run

    why, start = "", None
    if configured is not None:
        recipe = configured
        if options.model is not None:
            recipe = recipes.with_model(recipe, options.model)
    elif begun:
        run = read_run(options.out)
        # A recipe that was laid over the one chosen for the clips stands in the run alone.
        named = options.recipe is not None and options.recipe not in recipes.FROM_WEIGHTS
        recipe = recipes.recipe(options.recipe) if named else run.recipe
        if named and run.init is not None:
            recipe = replace(recipe, model=run.recipe.model)
        if options.model is not None:
            recipe = recipes.with_model(recipe, options.model)
    else:
        recipe, why, start = new_recipe(options, manifest, init)
    if options.timeline:
        from videorwkv.run.choose import with_timeline

        recipe = with_timeline(recipe)
    assignments = [
        f"{name}={getattr(options, name)}"
        for name in _RECIPE_OPTIONS
        if getattr(options, name) is not None
    ]
    if options.negatives is not None:
        assignments.append(f"augmentation.negatives={options.negatives}")
    assignments += options.assignments
    if why and recipe.model.stem_flow and _sets_other_stem(assignments):
        # It was chosen, for a stem of pixels that this run has not.
        assignments.append("model.stem_flow=false")
        why += " Without directions of movement, as --set names a stem that has no place for them."
    recipe = recipes.apply_overrides(recipe, assignments)
    if options.freeze:
        recipe = replace(recipe, freeze=tuple(options.freeze))
    if why and not options.quiet:
        print(why, file=sys.stderr)
    if not recipe.timeline and not options.quiet and any(r.segment for r in manifest.rows):
        print(
            "note: each segment is learnt as a clip by itself; --timeline learns when they happen",
            file=sys.stderr,
        )
    return recipe, start


def _sets_other_stem(assignments: Sequence[str]) -> bool:
    """Whether assignments name a stem that does not see directions, and do not ask for them."""
    from videorwkv.models.config import PRETRAINED, TIMM

    given = {
        key.strip(): value.strip() for key, _, value in (a.partition("=") for a in assignments)
    }
    stem = given.get("model.stem", "")
    other = stem == PRETRAINED or stem.startswith(TIMM) or given.get("model.stem_frames") == "1"
    return other and "model.stem_flow" not in given


def _with_model(recipe: Recipe, name: str | None, model: LCRConfig | None) -> Recipe:
    """A recipe with the preset that was named, else with the model of the weights, if any."""
    from videorwkv.run import recipes

    if name is not None:
        return recipes.with_model(recipe, name)
    if model is None:
        return recipe
    return replace(recipe, model=replace(model, frame_fit=recipe.model.frame_fit))


def new_recipe(
    options: argparse.Namespace, manifest: Manifest, init: Pretrained | str | None
) -> Choice:
    """The recipe of a new run, in a line why it is that one (nothing where it was named), and
    weights to start from."""
    from videorwkv.models.shipped import FREE_OPTIONS
    from videorwkv.run import recipes
    from videorwkv.run.choose import Choice, choose, choose_timeline
    from videorwkv.run.pretrained import Pretrained

    model = None
    if isinstance(init, Pretrained) and options.model is None:
        model = init.config
    over = options.recipe
    if over is None and init is not None and manifest.name not in recipes.OF_DATA_SETS:
        over = "finetune"
    if over is not None and over not in recipes.FROM_WEIGHTS:
        return Choice(_with_model(recipes.recipe(over), options.model, model), "")
    if options.recipe is None and manifest.name in recipes.OF_DATA_SETS:
        recipe = recipes.recipe(manifest.name)
        recipe = _with_model(recipe, options.model, model)
        return Choice(
            recipe,
            f"recipe {manifest.name}, as for every data set of this kind; --recipe default or "
            "another one, --model and --set choose otherwise. --dry-run says how long it takes.",
        )
    if over is not None and init is None:
        raise UsageError(f"--recipe {over} starts from weights: name a run with --init.")
    names = {assignment.partition("=")[0].strip() for assignment in options.assignments}
    free = {f"model.{option}" for option in FREE_OPTIONS}
    other = any(name.startswith("model.") and name not in free for name in names)
    workers = int(options.workers != "0")
    if options.timeline:
        chosen = choose_timeline(manifest, options.model, model=model, workers=workers)
    else:
        starts = options.init is None and not other
        chosen = choose(manifest, options.model, model=model, starts=starts, workers=workers)
    if over is None:
        return chosen
    recipe = chosen.recipe
    if model is not None and isinstance(init, Pretrained) and init.lr is not None:
        recipe = replace(recipe, lr=init.lr)
    return Choice(recipes.FROM_WEIGHTS[over](recipe), f"recipe {over} over the {chosen.why}")
