"""`videorwkv demo`: train, evaluate, predict and show on generated data; leaves a report."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from videorwkv.cli.options import add_command, add_device
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.data.manifest import Manifest
    from videorwkv.inference.metrics import Evaluation
    from videorwkv.inference.predict import Prediction
    from videorwkv.run.recipes import Recipe
    from videorwkv.run.run import Run
    from videorwkv.training.loop import TrainResult

# Few clips to validate on, as each look costs seconds; enough held out for a figure to +-1 %.
DATA = "motion:train=8000,validation=160,test=400"


def add_demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "Train, evaluate and predict on generated data.\n\nTakes a few minutes on two cores and "
        "writes a small report with pictures.",
        "  videorwkv demo\n  videorwkv demo --video my_clip.mp4 --out my_demo",
    )
    parser.add_argument(
        "--out", default="demo", metavar="FOLDER", help="folder of the report (default: demo)"
    )
    parser.add_argument("--video", metavar="FILE", help="a video of your own to predict as well")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="number of optimiser steps; fewer are faster and less accurate",
    )
    add_device(parser)
    parser.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> int:
    demo(
        options.out,
        video=options.video,
        seed=options.seed,
        steps=options.steps,
        device=options.device,
    )
    return 0


class DemoResult(NamedTuple):
    """What the demo made.

    Args:
        report: the Markdown file that ties it together.
        run: the trained run.
        evaluation: on the held-out test split.
        prediction: for a held-out clip, read back from a file.
        own: for the user's video; None if none was given.
        truth: the held-out clip's class.
    """

    report: Path
    run: Run
    evaluation: Evaluation
    prediction: Prediction
    own: Prediction | None
    truth: str


def demo(
    out: str | Path = "demo",
    *,
    video: str | Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    data: str = DATA,
    recipe: Recipe | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> DemoResult:
    """Train on the generated motion data, score the held-out split and name the motion in a clip.

    Args:
        out: folder for the run and the report; a demo that is there already is made anew.
        video: a video of the user's to predict as well.
        seed: of the weights and the order of the data.
        steps: fewer steps than the recipe's; None keeps them.
        data: options of the generated data, `motion:train=...`.
        recipe: another recipe than `motion_demo`.
        device: `auto`, or a device by name.
        quiet: print nothing.

    Raises:
        UsageError: the user's video does not exist or is several, or `out` holds something else.
    """
    from videorwkv.data.load import load_manifest
    from videorwkv.inference.evaluate import evaluate
    from videorwkv.inference.plots import save_learning_curve
    from videorwkv.inference.predict import expand, predict
    from videorwkv.inference.recogniser import load_run
    from videorwkv.run.recipes import motion_demo
    from videorwkv.training.lock import locked
    from videorwkv.training.loop import train
    from videorwkv.training.monitor import read_log
    from videorwkv.utils.files import write_atomic

    folder = Path(out)
    if video is not None:
        if not Path(video).exists():
            raise UsageError(f"No video at {str(video)!r}. The demo goes without one, too.")
        found = list(expand(video))
        if len(found) > 1:
            raise UsageError(
                f"--video {video}: a folder of {len(found)} videos; give one of them, such as "
                f"{found[0]!s}."
            )
    manifest = load_manifest(data)
    recipe = replace(recipe or motion_demo(), seed=seed)
    if steps is not None:
        recipe = replace(recipe, steps=steps, epochs=None)

    begun = time.perf_counter()
    with locked(folder / "run"):
        run_folder = _fresh(folder / "run")
        result = train(recipe, manifest, run_folder, device=device, quiet=quiet)
    if result.interrupted:
        raise KeyboardInterrupt
    minutes = (time.perf_counter() - begun) / 60
    run = load_run(run_folder)
    test = manifest.split("test")
    evaluation = evaluate(run, test, workers=recipe.workers, device=device)
    evaluation.save(folder)
    save_learning_curve(folder / "learning_curve.png", read_log(run_folder / "log.jsonl"))

    clip, truth = _write_clip(test, folder / "held_out.mp4")
    prediction = predict(clip, model=run, device=device, save=folder / "prediction.gif")[0]
    own = None
    if video is not None:
        own = predict(video, model=run, device=device, save=folder / "your_video.mp4")[0]
    report = folder / "report.md"
    text = _report(run, result, evaluation, minutes, prediction, truth, own)
    write_atomic(report, text.encode())
    if not quiet:
        print(f"Held-out test split: {evaluation.summary()}")
        print(f"Held-out clip of {truth!r}: {_words(prediction)}")
        if own is not None:
            print(f"{own.path}: {_words(own)}")
        print(f"Report: {report.resolve()}")
    return DemoResult(report, run, evaluation, prediction, own, truth)


def _fresh(folder: Path) -> Path:
    """A run's folder without a run of an earlier demo; anything else in it is refused."""
    from videorwkv.training.lock import LOCK

    ours = {"config.json", "best.safetensors", "last.safetensors", "state.pt", "log.jsonl"}
    if folder.exists():
        known = {*ours, "tensorboard", LOCK}
        strange = sorted(p.name for p in folder.iterdir() if p.name not in known)
        if strange:
            raise UsageError(
                f"{folder} holds {strange[0]!r}, which no demo wrote; choose another --out."
            )
        for path in (folder / "tensorboard").glob("events.out.tfevents.*"):
            path.unlink()
        for name in ours:
            (folder / name).unlink(missing_ok=True)
    return folder


def _write_clip(test: Manifest, path: Path) -> tuple[Path, str]:
    """The first held-out clip as a real file, so that the prediction starts from one."""
    from videorwkv.video.writer import write_video

    row = test.rows[0]
    with test.open(row) as video:
        clip = video.read_all()
    rate = (len(clip) - 1) / clip.times[-1] if len(clip) > 1 else 8.0
    write_video(path, clip.frames_THWC, float(rate))
    return path, row.label or ""


def _words(prediction: Prediction) -> str:
    if prediction.error:
        return f"not readable ({prediction.error})"
    pairs = zip(prediction.labels[:3], prediction.scores[:3], strict=True)
    return ", ".join(f"{label} {score:.2f}" for label, score in pairs)


def _report(
    run: Run,
    result: TrainResult,
    evaluation: Evaluation,
    minutes: float,
    prediction: Prediction,
    truth: str,
    own: Prediction | None,
) -> str:
    rows = "".join(f"| {name} | {value:.3f} |\n" for name, value in evaluation.per_class.items())
    yours = ""
    if own is not None:
        drawn = "" if own.error else " Drawn in: [your_video.mp4](your_video.mp4)."
        yours = (
            f"\n## Your video\n\n`{own.path}`: {_words(own)}.{drawn}\n\nThe model knows the "
            f"{len(run.labels)} generated motions only, whatever your video shows. To teach it "
            "your own classes: `videorwkv train FOLDER --out runs/mine`.\n"
        )
    return f"""# Demo

A model of {run.recipe.model.depth} layers and width {run.recipe.model.width} learned to tell
{len(run.labels)} motions apart in generated clips: {result.step} steps of
{run.recipe.batch_size} clips in {minutes:.1f} minutes.

**Held-out test split: {evaluation.summary()}** (chance {1 / len(run.labels):.3f}).

![learning curve](learning_curve.png)

## A held-out clip

`held_out.mp4` shows *{truth}*; the model says {_words(prediction)}. Left the frame, in the middle
the edges that the model reads, right the classes as they become likely.

![prediction](prediction.gif)

## Where it errs

![confusion matrix](confusion.png)

| class | accuracy |
|---|---|
{rows}{yours}
## Go on

- The run: `{run.folder}` (`videorwkv predict {run.folder} FILE`)
- Every number: [evaluation.json](evaluation.json), [predictions.csv](predictions.csv),
  [confusion.csv](confusion.csv)
- Curves: `tensorboard --logdir {run.folder}`
"""
