"""The command `videorwkv`: arguments only. Verbs are imported when they are called."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from videorwkv.cli_bench import add_bench
from videorwkv.cli_data import add_data
from videorwkv.cli_export import add_export
from videorwkv.cli_options import (
    DATA_HELP,
    Parser,
    add_command,
    add_data_options,
    add_decoder,
    add_device,
    add_masks,
)
from videorwkv.cli_stream import add_stream
from videorwkv.cli_study import add_study
from videorwkv.errors import UsageError, VideoRWKVError

if TYPE_CHECKING:
    from videorwkv.cli_options import Commands

TIMEOUT_HELP = (
    "seconds after which a worker that is still at a clip is ended, and the clip counts as "
    "unreadable; 0 waits forever (default: the run's, 300 for a new one)"
)
RUN_HELP = (
    "a trained run's folder, or RUN/best or RUN/last (default: best if there is one), or a file "
    "that `videorwkv export` wrote"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for wrong use, 1 for any other failure."""
    options = make_parser().parse_args(arguments)
    if arguments is None and not options.traceback:
        sys.excepthook = _report_bug
    options.command_line = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files and labels can hold what a terminal can't show, or no UTF-8 at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("videorwkv: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VideoRWKVError, OSError) as error:
        if options.traceback:
            raise
        print(f"videorwkv: error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _run(options: argparse.Namespace) -> int:
    module, _, function = options.run.rpartition(":")
    commands = importlib.import_module(f"videorwkv.{module or 'commands'}")
    code: int = getattr(commands, function)(options)
    return code


def _report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What nobody foresaw, in one line; Python then ends with exit code 1."""
    print(
        f"videorwkv: internal error: {kind.__name__}: {_one_line(error)}. This is a bug: please "
        "report it with what `videorwkv --traceback ...` and `videorwkv env` print.",
        file=sys.stderr,
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser: argparse.ArgumentParser = Parser(
        prog="videorwkv",
        description="Recognise actions in video with LSTM-CrossRWKV, a recurrent model of linear "
        "cost (arXiv 2411.05636).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Start here:\n"
        "  videorwkv demo                            train, evaluate, predict on generated data\n"
        "  videorwkv train my_videos --out runs/mine learn your own classes, one folder each\n"
        "  videorwkv predict runs/mine clip.mp4      name the action in a clip\n\n"
        "`videorwkv COMMAND --help` explains a command and shows examples.",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show Python's traceback of an error"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _add_demo,
        _add_train,
        _add_evaluate,
        _add_predict,
        add_stream,
        add_export,
        add_bench,
        add_study,
        add_data,
        _add_models,
        _add_env,
    ):
        add(commands)
    return parser


def _add_train(commands: Commands) -> None:
    parser = add_command(
        commands,
        "train",
        "Train a model on videos.\n\nWrites a run's folder: config.json, best.safetensors and "
        "last.safetensors (weights),\nstate.pt (for --resume), log.jsonl and tensorboard/. Ctrl-C "
        "stops at the next step and\nleaves a run that --resume goes on with, to the same weights.",
        "  videorwkv train my_videos --out runs/mine\n"
        "  videorwkv train my_videos --model lcr_nano --epochs 30 --set augmentation.scale=0.5,1\n"
        "  videorwkv train motion --recipe motion_demo --out runs/motion\n"
        "  videorwkv train clips.csv --flips mirrored.csv --out runs/flipped\n"
        "  videorwkv train jester:jester --out runs/jester\n"
        "  videorwkv train list:train.txt --label-names classes.txt --out runs/list\n"
        "  videorwkv train my_videos --fold-by 'session_(\\d+)' --folds 1+2,3+4 --fold 0 --out "
        "runs/f0\n"
        "  videorwkv train my_videos --out runs/mine --resume",
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("--out", metavar="RUN", help="the run's folder (default: runs/DATA-MODEL)")
    parser.add_argument("--model", metavar="NAME", help="a preset: `videorwkv models` lists them")
    parser.add_argument(
        "--recipe", metavar="NAME", help="default, motion_demo or handwash (default: default)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", metavar="N", help="passes over the training split")
    length.add_argument("--steps", metavar="N", help="optimiser steps instead")
    parser.add_argument("--batch-size", metavar="N", help="clips in a step")
    parser.add_argument("--lr", metavar="X", help="highest learning rate")
    parser.add_argument("--seed", metavar="N", help="of weights, order, sampling and augmentation")
    parser.add_argument(
        "--workers", metavar="N", help="processes that decode; 0: none of their own"
    )
    parser.add_argument("--clip-timeout", metavar="S", help=TIMEOUT_HELP)
    parser.add_argument("--precision", metavar="P", help="float32 or bfloat16")
    parser.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="any option of the recipe, such as model.width=96, model.edges=sobel, "
        "sampling.fps=10, augmentation.scale=0.5,1; repeatable",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--quiet", action="store_true", help="print the result alone")
    add_decoder(parser)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run="train")


def _add_evaluate(commands: Commands) -> None:
    parser = add_command(
        commands,
        "evaluate",
        "Score a trained run on a data set.\n\nPrints top-1, top-5 and accuracy per class; writes "
        "evaluation.json, predictions.csv, confusion.csv\nand confusion.png. A clip that can't be "
        "read counts as wrong.",
        "  videorwkv evaluate runs/mine my_videos\n"
        "  videorwkv evaluate runs/mine my_videos --split test --views 2x3\n"
        "  videorwkv evaluate runs/mine my_videos --motion-mask 0.5\n"
        "  videorwkv evaluate runs/mine/last clips.csv --split all --json",
    )
    parser.add_argument("model", metavar="RUN", help=RUN_HELP)
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--split",
        default="validation",
        metavar="NAME",
        help="train, validation, test or all (default: validation)",
    )
    parser.add_argument(
        "--views",
        metavar="TxS",
        help="temporal x spatial views of a clip, scores averaged (default: the run's)",
    )
    add_masks(parser)
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="default: RUN/evaluation-SPLIT, and what is unusual behind it: -last beside a best "
        "checkpoint, -views-2x3 if not the run's, -tube-mask-0.5, -motion-mask-0.5",
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--clip-timeout", type=float, metavar="S", help=TIMEOUT_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    add_decoder(parser)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run="evaluate")


def _add_predict(commands: Commands) -> None:
    parser = add_command(
        commands,
        "predict",
        "Name the action in videos.\n\nA file that can't be read, or an annotated video that can't "
        "be written, is reported and\ndoesn't stop the others; the exit code is then 1.\n\n"
        "With --submission, FILE is a data set, and what the run says about one of its splits, "
        "labelled\nor not, is written in the form that its owners take: `id;label` (jester), "
        "`id;n1;...;n5` (ssv2),\nActivityNet's JSON (kinetics400), else CSV with the five best. A "
        "clip that can't be read\nor is not on disk is left out and named; the exit code is then "
        "1.",
        "  videorwkv predict runs/mine clip.mp4\n"
        "  videorwkv predict runs/mine 'holiday/*.mp4' more_clips/ --top 3\n"
        "  videorwkv predict runs/mine *.mp4 --json > labels.jsonl\n"
        "  videorwkv predict runs/mine clip.mp4 --save annotated.gif\n"
        "  videorwkv predict runs/jester jester:jester --split test --submission test.csv",
    )
    parser.add_argument("model", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "sources",
        metavar="FILE",
        nargs="+",
        help="a video, a folder of videos, a folder of one clip's frames, or a quoted glob; with "
        "--submission a data set, as in `train`",
    )
    parser.add_argument("--top", type=int, metavar="N", help="labels each (default: 5)")
    parser.add_argument(
        "--views",
        metavar="N",
        help="temporal views to average; TxS with --submission (default: the run's)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line and file")
    parser.add_argument(
        "--save",
        metavar="OUT",
        help="write the video with edge map, labels and scores drawn in: a .mp4 or .gif file, or "
        "a folder for many",
    )
    add_masks(parser)
    group = parser.add_argument_group("a whole split, with --submission")
    group.add_argument("--submission", metavar="FILE", help="write the answers here")
    group.add_argument(
        "--split", metavar="NAME", help="train, validation, test or all (default: test)"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="default: 8")
    group.add_argument("--workers", type=int, metavar="N", help="default: 2")
    group.add_argument("--clip-timeout", type=float, metavar="S", help=TIMEOUT_HELP)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run="predict")


def _add_demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "The whole way on generated data: train, evaluate, predict, show.\n\nTakes a few minutes "
        "on two cores and leaves a small report with pictures.",
        "  videorwkv demo\n  videorwkv demo --video my_clip.mp4 --out my_demo",
    )
    parser.add_argument("--out", default="demo", metavar="FOLDER", help="default: demo")
    parser.add_argument("--video", metavar="FILE", help="a video of yours to predict as well")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--steps", type=int, metavar="N", help="fewer steps: quicker, worse")
    add_device(parser)
    parser.set_defaults(run="demo")


def _add_models(commands: Commands) -> None:
    parser = add_command(
        commands,
        "models",
        "List the presets with parameters and cost.",
        "  videorwkv models\n  videorwkv models 'lcr_*' --classes 27 --json",
    )
    parser.add_argument("pattern", nargs="?", default="*", metavar="GLOB", help="names to list")
    parser.add_argument(
        "--classes", type=int, metavar="N", help="classes of the head (default: the preset's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.set_defaults(run="models")


def _add_env(commands: Commands) -> None:
    parser = add_command(
        commands,
        "env",
        "Show versions and hardware, for a bug report.",
        "  videorwkv env\n  videorwkv env --json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.set_defaults(run="env")


if __name__ == "__main__":
    sys.exit(main())
