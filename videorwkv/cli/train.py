"""`videorwkv train`."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_HELP,
    DATA_OPTIONS,
    TIMEOUT_HELP,
    add_command,
    add_data_options,
    add_decoder,
    add_device,
    data_name,
    load_data,
)
from videorwkv.cli.run_file import RUN_FILE, apply_run_file, write_run_file
from videorwkv.cli.train_recipe import recipe_of
from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.data.manifest import Manifest
    from videorwkv.run.recipes import Recipe
    from videorwkv.run.run import Run
    from videorwkv.utils.processes import Processes


def add_train(commands: Commands) -> None:
    parser = add_command(
        commands,
        "train",
        "Train a model on videos.\n\nWrites a run's folder: config.json, best.safetensors and "
        "last.safetensors (weights),\nstate.pt (for --resume), log.jsonl, curves (--log). Ctrl-C, "
        "SIGTERM, SIGHUP and SIGUSR1 save\na checkpoint; --resume continues from it and ends with "
        "bit-identical weights.\n\n"
        "At the end, baselines without a network are scored on the validation split beside the\n"
        "model.",
        "  videorwkv train my_videos --out runs/mine\n"
        "  videorwkv train my_videos --model lcr_nano --epochs 30 --set augmentation.scale=0.5,1\n"
        "  videorwkv train motion --recipe motion_demo --out runs/motion\n"
        "  videorwkv train clips.csv --flips mirrored.csv --out runs/flipped\n"
        "  videorwkv train jester:jester --out runs/jester\n"
        "  videorwkv train list:train.txt --label-names classes.txt --out runs/list\n"
        "  videorwkv train my_videos --fold-by 'session_(\\d+)' --folds 1+2,3+4 --fold 0 --out "
        "runs/f0\n"
        "  videorwkv train segments.csv --timeline --out runs/when\n"
        "  videorwkv train my_videos --out runs/mine --resume\n"
        "  videorwkv train my_videos --init runs/large --out runs/tuned\n"
        "  videorwkv train my_videos --out runs/mine --log wandb,tensorboard\n"
        "  videorwkv train jester:jester --dry-run\n"
        "  torchrun --nproc-per-node 8 -m videorwkv train my_videos --out runs/mine --resume",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help=DATA_HELP)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="take data and recipe from a TOML file, such as the run.toml that every run writes; "
        "what is given beside it counts more",
    )
    parser.add_argument(
        "--out",
        metavar="RUN",
        help="folder of the run (default: runs/DATA, with --model or --recipe runs/DATA-NAME)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model preset; `videorwkv models` lists them (default: the recipe's)",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="training recipe: default, motion_demo, motion_timeline, pretrain_scenes, handwash, "
        "jester, ssv2, kinetics400 or imagenet; with --init also finetune and linear_probe "
        "(default: that of a known data set, else chosen by number, length and shape of the clips, "
        "with --init finetune; it is said)",
    )
    parser.add_argument(
        "--init",
        metavar="RUN",
        help="start from the weights of a run, RUN/last, hf:OWNER/NAME or a safetensors file: "
        "every tensor that fits by name and shape, of the classifier the classes that both have; "
        "the model is that of the weights unless --model is given; scenes: weights that come with "
        "the package, learnt from generated clips (default where lcr_pico is chosen for short "
        "clips); none: random weights",
    )
    parser.add_argument(
        "--freeze",
        metavar="PATTERN",
        action="append",
        help="with --init: parameters that keep their values, by name or pattern, such as stem, "
        "layers.0 or '*.norm_*'; may be given several times",
    )
    parser.add_argument(
        "--layer-decay",
        metavar="X",
        help="factor on the learning rate from each layer to the one below it, in (0, 1]; 1 is one "
        "rate for all (default: the recipe's, 0.75 in finetune)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", metavar="N", help="number of passes over the training split")
    length.add_argument(
        "--steps", metavar="N", help="number of optimiser steps, in place of --epochs"
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        help="clips per optimiser step, on all processes together where torchrun starts several",
    )
    parser.add_argument(
        "--accumulate",
        metavar="N",
        help="cut each batch into N pieces, whose gradients are added up: a large batch in little "
        "memory (default: the recipe's, 1)",
    )
    parser.add_argument("--lr", metavar="X", help="peak learning rate")
    parser.add_argument(
        "--seed", metavar="N", help="seed of weights, clip order, sampling and augmentation"
    )
    parser.add_argument(
        "--workers", metavar="N", help="worker processes that decode; 0 decodes in the main process"
    )
    parser.add_argument("--clip-timeout", metavar="S", help=TIMEOUT_HELP)
    parser.add_argument(
        "--patience",
        metavar="N",
        help="end after N validations in a row without a better one; 0: never (default: the "
        "recipe's, 0)",
    )
    parser.add_argument(
        "--best-by",
        metavar="NAME",
        help="what chooses the best checkpoint on the validation split: top1, or "
        "mean_class_accuracy, in which every class counts the same; with --timeline also f1_50, "
        "the segmental F1 at an overlap of 0.5",
    )
    parser.add_argument(
        "--timeline",
        action="store_true",
        help="learn when something happens, from DATA whose clips are segments of long files: "
        "windows of whole files, each frame with the class of its segment, or `background` where "
        "there is none; for `predict`, `stream` and `evaluate` with --timeline",
    )
    parser.add_argument(
        "--precision",
        metavar="P",
        help="float32; for mixed precision bfloat16, or float16 on GPUs without it; auto takes "
        "bfloat16 on a GPU that has it, else float32: CPUs are slower in bfloat16",
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override any option of the recipe, such as model.width=96, model.edges=sobel, "
        "sampling.fps=10, augmentation.scale=0.5,1; may be given several times",
    )
    parser.add_argument(
        "--negatives",
        metavar="SHARE",
        help="put clips of nothing (black, still, noisy, flickering; made of the training clips) "
        "in the place of this share of what is trained on, as a class `background` that is learnt "
        "and never named; for streams, such as 0.2 (default: the recipe's, 0)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out from its last checkpoint; begin it where there is none",
    )
    parser.add_argument(
        "--checkpoint-minutes",
        metavar="N",
        help="minutes after which a checkpoint is written between two validations, too; 0: never "
        "(default: the recipe's, 10)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing: find the data, take a few steps, and say what memory and time the "
        "whole run would take",
    )
    parser.add_argument(
        "--no-baselines",
        dest="baselines",
        action="store_false",
        help="do not score baselines without a network at the end; they learn from at most 2,000 "
        "clips of the train split and are scored on at most 1,000 of the validation split",
    )
    parser.add_argument(
        "--log",
        metavar="NAME[,NAME]",
        help="where curves go beside log.jsonl: tensorboard, wandb, trackio or mlflow, the last "
        "three also as NAME:PROJECT; jsonl: nowhere else (default: as the run that is resumed, "
        "else tensorboard)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only the result")
    add_decoder(parser)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> int:
    begun = time.perf_counter()
    from videorwkv.training.lock import locked
    from videorwkv.training.loggers import choose
    from videorwkv.training.setup import check_folder
    from videorwkv.utils.processes import connected, is_restarted

    # torchrun --max-restarts calls the same command once more.
    options.resume = options.resume or is_restarted()
    configured = apply_run_file(options)
    if options.out is None:
        data = data_name(options.data)
        chosen = options.model or options.recipe
        options.out = f"runs/{data}-{chosen}" if chosen else f"runs/{data}"
    folder = Path(options.out)
    if options.dry_run:
        return _dry_run(options, configured, begun)
    # Locked before clips are looked for and opened, which takes long.
    with connected(options.device) as processes, locked(folder, processes):
        processes.first(lambda: list(choose(options.log, folder, resume=options.resume)))
        manifest = processes.each(lambda: load_data(options, _begun(options)))
        processes.first(lambda: check_folder(folder, resume=options.resume))
        return _train(options, manifest, configured, processes)


def _train(
    options: argparse.Namespace,
    manifest: Manifest,
    configured: Recipe | None,
    processes: Processes,
) -> int:
    from videorwkv.models.shipped import NOTHING
    from videorwkv.run.pretrained import read_pretrained
    from videorwkv.training.loggers.jsonl import describe_best
    from videorwkv.training.loop import train
    from videorwkv.training.setup import checkpoint_in, init_noted_in

    folder, init = Path(options.out), options.init
    begun = bool(checkpoint_in(folder))
    if not begun:
        if init is None and options.resume:
            init = options.init = init_noted_in(folder)
        init = None if init in (None, NOTHING) else read_pretrained(init)
    # Clips are opened, in a limited time: the same recipe for all.
    recipe, start = processes.first(
        lambda: recipe_of(options, manifest, init, configured, begun=begun)
    )
    if start is not None:
        options.init, init = start, read_pretrained(start)

    # What an attempt without a checkpoint has left is of another run.
    noted = not processes.is_first or (begun and (folder / RUN_FILE).is_file())

    def on_step(step: int) -> None:
        nonlocal noted
        if not noted:  # not before: a training that can't begin leaves no folder
            write_run_file(options, recipe, folder)
            noted = True

    result = train(
        recipe,
        manifest,
        options.out,
        init=init,
        resume=options.resume,
        device=options.device,
        cache=options.cache,
        on_step=on_step,
        quiet=options.quiet,
        baselines=options.baselines,
        log=options.log,
    )
    best = "" if result.best is None else f", best validation {describe_best(result.best)}"
    if result.baselines:
        baseline = max(result.baselines, key=lambda baseline: baseline.best)
        best += f", best baseline {baseline.best:.4f} ({baseline.name})"
    bad = ""
    if result.bad:
        bad = f", {counted(len(result.bad), 'clip')} unreadable (log.jsonl lists them)"
    print(f"{result.folder}: {result.step} of {result.total_steps} steps{best}{bad}")
    if result.interrupted:
        again = [word for word in options.command_line if word != "--resume"]
        if processes.size > 1:
            print("Resume with the same torchrun command, and --resume.", file=sys.stderr)
            return 130
        print(f"Resume with: {shlex.join(['videorwkv', *again, '--resume'])}", file=sys.stderr)
        return 130
    if not options.quiet:
        lines = next_commands(options, manifest.splits, timeline=recipe.timeline)
        print("\n".join(["Next:", *lines]), file=sys.stderr)
    return 0


def _dry_run(options: argparse.Namespace, configured: Recipe | None, begun: float) -> int:
    from videorwkv.models.shipped import NOTHING
    from videorwkv.run.pretrained import read_pretrained
    from videorwkv.training.dry import dry_run
    from videorwkv.training.loggers import choose
    from videorwkv.utils.processes import connected

    if options.resume:
        raise UsageError("--dry-run says what a new run would take; --resume goes on with one.")
    choose(options.log, Path(options.out), resume=False)
    with connected(options.device) as processes:
        manifest = processes.each(lambda: load_data(options))
        init = None if options.init in (None, NOTHING) else read_pretrained(options.init)
        recipe, start = processes.first(
            lambda: recipe_of(options, manifest, init, configured, begun=False)
        )
        init = init if start is None else read_pretrained(start)
        # Loading libraries, listing clips and looking at some of them are part of a run, too.
        before = time.perf_counter() - begun
        found = dry_run(
            recipe,
            manifest,
            init=init,
            device=options.device,
            cache=options.cache,
            baselines=options.baselines,
        )
        found = replace(found, start_seconds=found.start_seconds + before)
        if processes.is_first:
            print(manifest.summary())
            if processes.size > 1:
                print(f"{processes.size} processes share each batch")
            print(found.report())
    return 0


def next_commands(
    options: argparse.Namespace, splits: Sequence[str], *, timeline: bool = False
) -> list[str]:
    """Lines with the commands that use the run of these `options`, each with what it does."""
    data = [options.data]
    for name in DATA_OPTIONS:
        if (value := getattr(options, name)) is not None:
            data += [f"--{name.replace('_', '-')}", str(value)]
    if "validation" not in splits:
        data += ["--split", "test" if "test" in splits else "train"]
    run, when = options.out, ["--timeline"] if timeline else []
    scored = "how well segments are found" if timeline else "accuracy per class, confusion matrix"
    found = "from when to when in a video" if timeline else "the labels of a new clip"
    commands = (
        (["evaluate", run, *data, *when], scored),
        (["predict", run, "CLIP.mp4", *when], found),
        (["stream", run, "0", *when], "live, from the first camera"),
        (["export", run, "--to", "onnx"], "a file for ONNX Runtime (needs videorwkv[onnx])"),
    )
    lines = [shlex.join(["videorwkv", *words]) for words, _ in commands]
    # A long evaluation command must not push what the others do out of sight.
    width = max(map(len, lines[1:]))
    return [f"  {line:<{width}}  # {what}" for line, (_, what) in zip(lines, commands, strict=True)]


def _begun(options: argparse.Namespace) -> Run | None:
    """The run to resume; None without one that can be read, of which the training says why."""
    from videorwkv.run.run import read_run

    try:
        return read_run(options.out) if options.resume else None
    except VideoRWKVError:
        return None
