"""What each command does with its arguments: call the verb, print the result, give the exit code.

0 is success, 1 that something could not be done, 130 an interrupt.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest
    from videorwkv.train.recipes import Recipe


def train(options: argparse.Namespace) -> int:
    from videorwkv.train.loop import train as run_train

    if options.out is None:
        data = Path(options.data.partition(":")[0]).stem or "data"
        options.out = f"runs/{data}-{options.model or options.recipe or 'lcr_tiny'}"
    recipe = _recipe(options)
    result = run_train(
        recipe,
        load_data(options),
        options.out,
        resume=options.resume,
        device=options.device,
        cache=options.cache,
        quiet=options.quiet,
    )
    best = "" if result.best_top1 is None else f", best validation top-1 {result.best_top1:.4f}"
    print(f"{result.folder}: {result.step} of {result.total_steps} steps{best}")
    if result.interrupted:
        again = [word for word in options.command_line if word != "--resume"]
        print(f"Go on with: {shlex.join(['videorwkv', *again, '--resume'])}", file=sys.stderr)
        return 130
    return 0


def evaluate(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from videorwkv.evaluate import evaluate as run_evaluate
    from videorwkv.train.checkpoint import load_run

    run = load_run(options.model)
    manifest = load_data(options)
    if options.split != "all":
        manifest = manifest.split(options.split)
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("clips", total=len(manifest))
        evaluation = run_evaluate(
            run,
            manifest,
            views=_views(options.views) if options.views else None,
            batch_size=options.batch_size,
            workers=options.workers,
            device=options.device,
            cache=options.cache,
            tube_mask_ratio=options.tube_mask,
            on_batch=lambda done: progress.update(task, completed=done),
        )
    out = Path(options.out or run.folder / f"evaluation-{options.split}")
    evaluation.save(out)
    if options.json:
        print(json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False))
        return 0
    Console().print(evaluation.table())
    print(evaluation.summary())
    for clip in evaluation.bad:
        print(f"unreadable, counted as wrong: {clip.path}: {clip.reason}")
    for text in evaluation.warnings[:5]:
        print(f"note: {text}")
    if len(evaluation.warnings) > 5:
        print(f"note: {len(evaluation.warnings) - 5} more in evaluation.json")
    print(f"Written to {out}")
    return 0


def predict(options: argparse.Namespace) -> int:
    from videorwkv.predict import iter_predictions, predictions_table

    predictions = []
    for prediction in iter_predictions(
        options.sources,
        model=options.model,
        top=options.top,
        views=options.views,
        device=options.device,
        save=options.save,
    ):
        predictions.append(prediction)
        if options.json:
            print(json.dumps(prediction.to_dict(), ensure_ascii=False), flush=True)
    if not options.json and any(not prediction.error for prediction in predictions):
        from rich.console import Console

        Console().print(predictions_table(predictions))
    # After the table, or the first of many would scroll away.
    sys.stdout.flush()
    for prediction in predictions:
        if prediction.error:
            print(f"videorwkv: error: {' '.join(prediction.error.split())}", file=sys.stderr)
    return 1 if any(prediction.error for prediction in predictions) else 0


def demo(options: argparse.Namespace) -> int:
    from videorwkv.demo import demo as run_demo

    run_demo(
        options.out,
        video=options.video,
        seed=options.seed,
        steps=options.steps,
        device=options.device,
    )
    return 0


def models(options: argparse.Namespace) -> int:
    from videorwkv.environment import describe_models, models_table

    rows = describe_models(options.pattern, num_classes=options.classes)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.console import Console

    Console().print(models_table(rows))
    return 0


def env(options: argparse.Namespace) -> int:
    from videorwkv.environment import environment

    values = environment()
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        for name, value in values.items():
            print(f"{name:<16} {value}")
    return 0


def load_data(options: argparse.Namespace) -> Manifest:
    """The manifest that `add_data_options`' arguments describe."""
    from videorwkv.data.folds import folds
    from videorwkv.data.manifest import load_manifest

    manifest = load_manifest(
        options.data, validation_share=options.validation_share, flips=options.flips
    )
    given = [options.fold_by, options.folds, options.fold]
    if all(value is None for value in given):
        return manifest
    if any(value is None for value in given):
        raise UsageError("--fold-by, --folds and --fold belong together: give all three or none.")
    all_folds = folds(manifest, options.fold_by, options.folds)
    if not 0 <= options.fold < len(all_folds):
        raise UsageError(
            f"--fold {options.fold}: --folds names {len(all_folds)}; allowed: 0 to "
            f"{len(all_folds) - 1}."
        )
    return all_folds[options.fold]


def _views(text: str) -> tuple[int, int]:
    clips, _, crops = text.partition("x")
    if not (clips.isdecimal() and crops.isdecimal() and int(clips) and int(crops)):
        raise UsageError(f"--views {text!r}: wanted temporal x spatial views, such as 2x3.")
    return int(clips), int(crops)


def _recipe(options: argparse.Namespace) -> Recipe:
    from videorwkv.train import recipes
    from videorwkv.train.checkpoint import load_run

    if options.resume and options.recipe is None and options.model is None:
        recipe = load_run(options.out).recipe
    elif options.recipe is not None:
        recipe = recipes.recipe(options.recipe)
        if options.model is not None:
            recipe = recipes.with_model(recipe, options.model)
    else:
        recipe = recipes.default(options.model or "lcr_tiny")
    assignments = [
        f"{name}={getattr(options, name)}"
        for name in ("epochs", "steps", "batch_size", "lr", "seed", "workers", "precision")
        if getattr(options, name) is not None
    ]
    return recipes.apply_overrides(recipe, [*assignments, *options.assignments])
