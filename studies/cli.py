"""`videorwkv study`."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_HELP,
    add_command,
    add_data_options,
    add_device,
    add_old_spelling,
    validation_share,
)
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from studies.data import DataOptions
    from videorwkv.cli.options import Commands


def add_study(commands: Commands) -> None:
    parser = add_command(
        commands,
        "study",
        "Answer a question about the model with trainings and confidence intervals.\n\nTrains the "
        "variants of a study with an equal budget, over several seeds, and writes a page of "
        "Markdown\nwith tables, plots, commands and a sentence for each finding. An interrupted "
        "study is resumed\nby the same command; a run that another study has trained is reused.",
        "  videorwkv study --list\n"
        "  videorwkv study ablation --quick\n"
        "  videorwkv study ablation my_videos --set steps=2000 --only 'no edges'\n"
        "  videorwkv study ablation clips --recipe handwash --fold-by 'session_(\\d+)' "
        "--folds 1+2,3+4\n"
        "  videorwkv study my_study.py my_videos\n"
        "  videorwkv study all --quick --workers 2",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a study, a Python file that defines one, or all"
    )
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help=f"{DATA_HELP} (default: the study's generated one)"
    )
    parser.add_argument("--list", action="store_true", help="list the studies and their questions")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer steps and seeds: minutes, wide intervals (own data: a quarter of the recipe's "
        "steps or epochs)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="seeds per variant (default: 3 or 5, depending on the study; --quick: 2)",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="base recipe (own data: default, with lcr_nano)",
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set an option of the recipe for all variants, as in `train`; repeatable",
    )
    parser.add_argument(
        "--only",
        metavar="VARIANT",
        action="append",
        default=[],
        help="train only this variant and the default; repeatable",
    )
    parser.add_argument(
        "--no-frames",
        action="store_true",
        help="put no frames of clips on the pages, for data that may not be published",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes that train, of one thread each (default: number of CPU cores; 1 on "
        "a GPU)",
    )
    add_old_spelling(parser, "--jobs", "--workers", type=int)
    parser.add_argument(
        "--out",
        default="runs/study",
        metavar="FOLDER",
        help="for the pages (default: runs/study)",
    )
    parser.add_argument(
        "--runs",
        default="runs/study/runs",
        metavar="FOLDER",
        help="folder of the trained runs, shared by all studies (default: runs/study/runs)",
    )
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run=run_study)


def run_study(options: argparse.Namespace) -> int:
    from studies.index import book, study
    from studies.load import STUDIES, load_study
    from studies.plan import Settings

    # A study of the user's own that imports a name of before is told so, once.
    warnings.filterwarnings("once", category=DeprecationWarning, module="videorwkv_study_")
    if options.list:
        for name in STUDIES:
            print(f"{name:<12} {load_study(name).question}")
        return 0
    if options.name is None:
        raise UsageError(f"study: which one? Available: {', '.join(STUDIES)}, all; or a file.")
    if options.fold is not None:
        raise UsageError("--fold: a study trains on every fold; remove the option.")
    settings = Settings(
        quick=options.quick,
        data=_data(options),
        recipe=options.recipe,
        changes=tuple(options.assignments),
        seeds=options.seeds,
        runs=Path(options.runs),
        device=options.device,
        jobs=_workers(options),
        show_frames=not options.no_frames,
        cache=options.cache,
        only=tuple(options.only),
    )
    try:
        if options.name == "all":
            if options.only:
                raise UsageError("--only names variants of one study; `all` runs many.")
            index = book(list(STUDIES), settings, out=options.out, say=_say)
            print(f"Written to {index}")
            return 0
        written = study(options.name, settings, out=options.out, say=_say)
    except KeyboardInterrupt:
        again = shlex.join(["videorwkv", *options.command_line])
        print(f"Interrupted; to resume: {again}", file=sys.stderr)
        return 130
    for sentence in written.page.findings:
        print(f"- {sentence}")
    print(f"Written to {written.markdown}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _workers(options: argparse.Namespace) -> int:
    if options.workers is not None:
        return int(options.workers)
    from videorwkv.utils.device import pick_device
    from videorwkv.utils.files import usable_cores

    if pick_device(options.device).type != "cpu":
        return 1
    return usable_cores()


def _data(options: argparse.Namespace) -> DataOptions:
    from studies.data import DataOptions

    return DataOptions(
        spec=options.data,
        fold_by=options.fold_by,
        folds=options.folds,
        validation_share=validation_share(options),
        flips=options.flips,
        layout=options.layout,
        label_names=options.label_names,
    )
