"""What `videorwkv study` does with its arguments."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.commands import validation_share
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.study.data import DataOptions


def study(options: argparse.Namespace) -> int:
    from videorwkv.study import STUDIES, load_study
    from videorwkv.study.book import book
    from videorwkv.study.book import study as run_study
    from videorwkv.study.plan import Settings

    if options.list:
        for name in STUDIES:
            print(f"{name:<12} {load_study(name).question}")
        return 0
    if options.name is None:
        raise UsageError(f"study: which one? Available: {', '.join(STUDIES)}, all; or a file.")
    if options.fold is not None:
        raise UsageError("--fold: a study trains on every fold; leave it out.")
    settings = Settings(
        quick=options.quick,
        data=_data(options),
        recipe=options.recipe,
        changes=tuple(options.assignments),
        seeds=options.seeds,
        runs=Path(options.runs),
        device=options.device,
        jobs=_jobs(options),
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
        written = run_study(options.name, settings, out=options.out, say=_say)
    except KeyboardInterrupt:
        again = shlex.join(["videorwkv", *options.command_line])
        print(f"Stopped; the same command goes on: {again}", file=sys.stderr)
        return 130
    for sentence in written.page.findings:
        print(f"- {sentence}")
    print(f"Written to {written.html} and {written.markdown}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _jobs(options: argparse.Namespace) -> int:
    if options.jobs is not None:
        return int(options.jobs)
    from videorwkv.scoring import pick_device

    if pick_device(options.device).type != "cpu":
        return 1
    # Not os.cpu_count(): a container may own fewer cores than the machine has.
    own = getattr(os, "sched_getaffinity", None)
    return max(1, len(own(0)) if own else os.cpu_count() or 1)


def _data(options: argparse.Namespace) -> DataOptions:
    from videorwkv.study.data import DataOptions

    return DataOptions(
        spec=options.data,
        fold_by=options.fold_by,
        folds=options.folds,
        validation_share=validation_share(options),
        flips=options.flips,
        layout=options.layout,
        label_names=options.label_names,
    )
