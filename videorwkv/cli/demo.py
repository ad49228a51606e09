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

# Few clips to validate on, as each look costs seconds; enough held out for a figure to +-1 %.
DATA = "motion:train=8000,validation=160,test=400"


def add_demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "Train, evaluate and predict on generated data.\n\nTakes a few minutes on two cores and "
        "writes a report to look at, one HTML page: a film of clips with the answers, the "
        "learning\ncurve, the confusion matrix.",
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
        report: the HTML page that shows it; it needs no file beside it.
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
    from videorwkv.cli import demo_page
    from videorwkv.data.load import load_manifest
    from videorwkv.inference.evaluate import evaluate
    from videorwkv.inference.plots import save_learning_curve
    from videorwkv.inference.predict import expand, predict
    from videorwkv.inference.recogniser import Recogniser, load_run
    from videorwkv.run.recipes import motion_demo
    from videorwkv.training.lock import locked
    from videorwkv.training.loggers.jsonl import read_log
    from videorwkv.training.loop import train
    from videorwkv.utils.files import write_atomic
    from videorwkv.video.writer import write_video

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
    save_learning_curve(
        folder / "learning_curve.png",
        read_log(run_folder / "log.jsonl"),
        least=demo_page.least_loss(len(run.labels), recipe.label_smoothing),
    )
    shown = demo_page.scenes(Recogniser.open(run, what="demo", device=device), _larger(data))
    write_video(folder / "film.mp4", demo_page.film(shown, run.labels), shown[0].fps)

    clip, truth = _write_clip(test, folder / "held_out.mp4")
    prediction = predict(clip, model=run, device=device, save=folder / "prediction.gif")[0]
    own = None
    if video is not None:
        own = predict(video, model=run, device=device, save=folder / "your_video.mp4")[0]
    report = folder / "report.html"
    text = demo_page.page(
        folder, run=run, evaluation=evaluation, steps=result.step, minutes=minutes, own=own
    )
    write_atomic(report, text.encode())
    if not quiet:
        print(f"Held-out test split: {evaluation.summary()}")
        print(f"Held-out clip of {truth!r}: {demo_page.words(prediction)}")
        if own is not None:
            print(f"{own.path}: {demo_page.words(own)}")
        print(f"Report: {report.resolve()}")
    return DemoResult(report, run, evaluation, prediction, own, truth)


def _fresh(folder: Path) -> Path:
    """A run's folder without a run of an earlier demo; anything else in it is refused."""
    from videorwkv.training.lock import LOCK, MARK
    from videorwkv.training.loggers.known import KNOWN_FILE

    ours = {"config.json", "best.safetensors", "last.safetensors", "state.pt"}
    ours |= {"log.jsonl", KNOWN_FILE}
    if folder.exists():
        known = {*ours, "tensorboard", LOCK, MARK}
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


def _larger(data: str) -> Manifest:
    """The held-out clips painted in more pixels than the model reads, to be looked at."""
    from videorwkv.data.motion.clips import MotionOptions, motion_manifest

    options = MotionOptions.parse(data.partition(":")[2])
    return motion_manifest(replace(options, size=max(options.size, 192))).split("test")


def _write_clip(test: Manifest, path: Path) -> tuple[Path, str]:
    """The first held-out clip as a real file, so that the prediction starts from one."""
    from videorwkv.video.writer import write_video

    row = test.rows[0]
    with test.open(row) as video:
        clip = video.read_all()
    rate = (len(clip) - 1) / clip.times[-1] if len(clip) > 1 else 8.0
    write_video(path, clip.frames_THWC, float(rate))
    return path, row.label or ""
