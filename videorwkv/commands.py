"""What each command does with its arguments: call the verb, print the result, give the exit code.

0 is success, 1 that something could not be done, 130 an interrupt.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from videorwkv.data.manifest import Manifest
    from videorwkv.train.recipes import Recipe

# Options of `train` that are the recipe's.
_RECIPE_OPTIONS = (
    "epochs", "steps", "batch_size", "lr", "seed", "workers", "clip_timeout", "precision"
)  # fmt: skip


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
    bad = f", {len(result.bad)} clips unreadable (log.jsonl lists them)" if result.bad else ""
    print(f"{result.folder}: {result.step} of {result.total_steps} steps{best}{bad}")
    if result.interrupted:
        again = [word for word in options.command_line if word != "--resume"]
        print(f"Go on with: {shlex.join(['videorwkv', *again, '--resume'])}", file=sys.stderr)
        return 130
    return 0


def evaluate(options: argparse.Namespace) -> int:
    from videorwkv.evaluate import evaluate as run_evaluate
    from videorwkv.files import make_folder
    from videorwkv.masks import Masks
    from videorwkv.train.checkpoint import load_run
    from videorwkv.train.setup import is_split_anew

    run = load_run(options.model)
    everything = load_data(options)
    manifest = _split(everything, options.split)
    if is_split_anew(everything, run.data):
        print(
            "note: the run was trained on these clips split in another way: some that it was "
            f"trained on may be among the {len(manifest)}. Give the folds, share or list of "
            "its training.",
            file=sys.stderr,
        )
    views = _views(options.views) if options.views else None
    masks = Masks(tube_mask_ratio=options.tube_mask, motion_mask_ratio=options.motion_mask)
    out = Path(options.out or run.results(options.split, views=views, masks=masks))
    make_folder(out)  # before the work, which may take hours
    with _progress(len(manifest)) as on_batch:
        evaluation = run_evaluate(
            run,
            manifest,
            views=views,
            batch_size=options.batch_size,
            workers=options.workers,
            device=options.device,
            cache=options.cache,
            tube_mask_ratio=options.tube_mask,
            motion_mask_ratio=options.motion_mask,
            clip_timeout=options.clip_timeout,
            on_batch=on_batch,
        )
    evaluation.save(out)
    if options.json:
        print(as_json(evaluation.to_dict(), indent=2))
        return 0
    make_console().print(evaluation.table())
    print(evaluation.summary())
    for clip in evaluation.bad:
        where = "" if clip.path in clip.reason else f"{clip.path}: "
        print(f"unreadable, counted as wrong: {where}{clip.reason}")
    for text in evaluation.warnings[:5]:
        print(f"note: {text}")
    if len(evaluation.warnings) > 5:
        print(f"note: {len(evaluation.warnings) - 5} more in evaluation.json")
    print(f"Written to {out}")
    return 0


def predict(options: argparse.Namespace) -> int:
    from videorwkv.predict import iter_predictions, predictions_table

    if options.submission is not None:
        return _submit(options)
    refuse(options, _SUBMISSION_OPTIONS, "needs --submission FILE, which predicts a data set")
    views = _views(options.views, crops="1") if options.views else None
    if views is not None and views[1] > 1:
        raise UsageError(f"--views {options.views}: crops are for --submission alone.")
    predictions = []
    for prediction in iter_predictions(
        options.sources,
        model=options.model,
        top=5 if options.top is None else options.top,
        views=None if views is None else views[0],
        device=options.device,
        save=options.save,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
    ):
        predictions.append(prediction)
        if options.json:
            print(as_json(prediction.to_dict()), flush=True)
    if not options.json and any(not prediction.error for prediction in predictions):
        make_console().print(predictions_table(predictions))
    # After the table, or the first of many would scroll away.
    sys.stdout.flush()
    errors = [p.error or p.save_error for p in predictions if p.error or p.save_error]
    if options.save and not options.json and len(errors) < len(predictions):
        print(f"Written to {options.save}", flush=True)
    for error in errors:
        print(f"videorwkv: error: {' '.join(error.split())}", file=sys.stderr)
    return 1 if errors else 0


# Options that speak of a data set; those of `predict` that do, and that speak of single videos.
DATA_OPTIONS = (
    *("layout", "label_names", "validation_share", "flips", "cache", "fold_by", "folds", "fold"),
)
_SUBMISSION_OPTIONS = ("split", "batch_size", "workers", "clip_timeout", *DATA_OPTIONS)
_VIDEO_OPTIONS = ("top", "save", "json")


def _submit(options: argparse.Namespace) -> int:
    from videorwkv.submission import predict_split

    refuse(options, _VIDEO_OPTIONS, "does not go with --submission")
    if len(options.sources) > 1:
        raise UsageError(
            f"--submission: one data set is wanted, got {len(options.sources)} "
            f"({' '.join(options.sources[:3])})."
        )
    options.data, options.split = options.sources[0], options.split or "test"
    manifest = _split(load_data(options), options.split)
    with _progress(len(manifest)) as on_batch:
        submission = predict_split(
            options.model,
            manifest,
            options.submission,
            views=_views(options.views, crops="1") if options.views else None,
            batch_size=8 if options.batch_size is None else options.batch_size,
            workers=2 if options.workers is None else options.workers,
            clip_timeout=options.clip_timeout,
            device=options.device,
            cache=options.cache,
            tube_mask_ratio=options.tube_mask,
            motion_mask_ratio=options.motion_mask,
            on_batch=on_batch,
        )
    print(submission.summary())
    sys.stdout.flush()
    for clip in submission.unreadable:
        print(f"videorwkv: left out: {' '.join(clip.reason.split())}", file=sys.stderr)
    for path in submission.missing[:5]:
        print(f"videorwkv: left out: {path}: not on disk", file=sys.stderr)
    if len(submission.missing) > 5:
        more = len(submission.missing) - 5
        print(
            f"videorwkv: left out: {more} more that are not on disk; `videorwkv data check` lists "
            "them",
            file=sys.stderr,
        )
    return 0 if submission.is_complete else 1


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
        print(as_json(rows, indent=2))
        return 0
    make_console().print(models_table(rows))
    return 0


def env(options: argparse.Namespace) -> int:
    from videorwkv.environment import environment

    values = environment()
    if options.json:
        print(as_json(values, indent=2))
    else:
        for name, value in values.items():
            print(f"{name:<16} {value}")
    return 0


def load_data(options: argparse.Namespace) -> Manifest:
    """The manifest that `add_data_options`' arguments describe."""
    from videorwkv.data.folds import folds
    from videorwkv.data.manifest import load_manifest

    manifest = load_manifest(
        options.data,
        validation_share=validation_share(options),
        flips=options.flips,
        layout=options.layout,
        label_names=options.label_names,
    )
    # Not every command that reads a data set has a choice of decoders.
    manifest = replace(manifest, decoder=getattr(options, "decoder", "auto"))
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


def make_console() -> Console:
    """What writes tables to stdout. A reader that has gone is left to `cli.main`, as by `print`."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Piped()


def validation_share(options: argparse.Namespace) -> float:
    """What `--validation-share` says. It has no default there: what was given could not be told."""
    from videorwkv.data.manifest import VALIDATION_SHARE

    return VALIDATION_SHARE if options.validation_share is None else options.validation_share


def as_json(values: object, *, indent: int | None = None) -> str:
    """JSON that stdout can take: readable in UTF-8, with escapes in any other encoding."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return json.dumps(values, indent=indent, ensure_ascii=encoding != "utf8")


def _split(manifest: Manifest, name: str) -> Manifest:
    """The rows of `--split`; `all` keeps every one."""
    return manifest if name == "all" else manifest.split(name)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal; what it gives is called with the number of clips done."""
    from rich.console import Console
    from rich.progress import Progress

    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("clips", total=total)
        yield lambda done: progress.update(task, completed=done)


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """An option that would have no effect is a mistake."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:  # 0 is a value, and equals False
            raise UsageError(f"--{name.replace('_', '-')} {why}.")


def _views(text: str, *, crops: str = "") -> tuple[int, int]:
    """`2x3`, or `2` where `crops` says what it means."""
    clips, _, crops = text.partition("x") if "x" in text else (text, "x", crops)
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
        for name in _RECIPE_OPTIONS
        if getattr(options, name) is not None
    ]
    return recipes.apply_overrides(recipe, [*assignments, *options.assignments])
