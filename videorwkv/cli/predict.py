"""`videorwkv predict`: single videos, or a whole split for a benchmark's server."""

from __future__ import annotations

import argparse
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_OPTIONS,
    PLAYLISTS_HELP,
    RUN_HELP,
    TIMEOUT_HELP,
    add_batches,
    add_command,
    add_data_options,
    add_device,
    add_masks,
    batches,
    load_data,
    number,
    parse_views,
    refuse,
    split_of,
)
from videorwkv.cli.output import as_json, make_console, show_progress
from videorwkv.cli.timeline import ALL_OPTIONS, add_timeline_options, predict_timeline
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.data.manifest import Manifest
    from videorwkv.inference.predict import Prediction
    from videorwkv.utils.processes import Processes


def add_predict(commands: Commands) -> None:
    parser = add_command(
        commands,
        "predict",
        "Recognise the action in videos.\n\nA file that can't be read, or an annotated video that "
        "can't be written, is reported and\ndoesn't stop the others; the exit code is then 1.\n\n"
        "With --timeline, every frame of a long video goes through the model in order, in constant "
        "memory, and\nwhat happens when is printed, and written to FILE.json, .csv (a data set to "
        "correct and to train on),\n.vtt (subtitles) or .eaf (ELAN).\n\n"
        "With --submission, FILE is a data set. The predictions for one of its splits, labelled or "
        "not, are\nwritten in the benchmark server's submission format: `id;label` (jester), "
        "`id;n1;...;n5` (ssv2),\nActivityNet's JSON (kinetics400), or CSV with the five best "
        "labels (any other data set). A clip\nthat can't be read or is not on disk is skipped and "
        "listed; the exit code is then 1.",
        "  videorwkv predict runs/mine clip.mp4\n"
        "  videorwkv predict runs/mine 'holiday/*.mp4' more_clips/ --top 3\n"
        "  videorwkv predict runs/mine *.mp4 --json > labels.jsonl\n"
        "  videorwkv predict runs/mine clip.mp4 --save annotated.gif\n"
        "  videorwkv predict runs/mine day.mp4 --timeline day.vtt\n"
        "  videorwkv predict runs/jester jester:jester --split test --submission test.csv",
    )
    parser.add_argument("model", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "sources",
        metavar="FILE",
        nargs="+",
        help="a video, a folder of videos, a folder with the frames of one clip, or a quoted glob "
        "pattern; with --submission a data set, as in `train`",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="number of labels per video (default: 5)"
    )
    parser.add_argument(
        "--views",
        metavar="TxS",
        help="temporal x spatial views per clip, whose scores are averaged; N is Nx1, and without "
        "--submission S is 1 (default: the run's)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per file and line"
    )
    parser.add_argument(
        "--save",
        metavar="OUT",
        help="write an annotated video with edge map, labels and scores: a .mp4 or .gif file, or a "
        "folder for several videos",
    )
    parser.add_argument(
        "--timeline",
        metavar="FILE",
        nargs="?",
        const="",
        help="print from when to when something happens, and write it to a .json, .csv, .vtt or "
        ".eaf file",
    )
    parser.add_argument(
        "--fps",
        type=number,
        metavar="N",
        help="with --timeline: frames per second for the model (default: those of its training)",
    )
    add_timeline_options(parser)
    parser.add_argument("--clip-timeout", type=number, metavar="S", help=TIMEOUT_HELP)
    parser.add_argument("--allow-playlists", action="store_true", default=None, help=PLAYLISTS_HELP)
    add_masks(parser)
    group = parser.add_argument_group("a whole split (with --submission)")
    group.add_argument(
        "--submission",
        metavar="FILE",
        help="write the predictions of a whole split in the benchmark server's submission format",
    )
    group.add_argument(
        "--split",
        metavar="NAME",
        help="which split to predict: train, validation, test or all (default: test)",
    )
    add_batches(group)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run=run_predict)


# Options that speak of a data set, and those that speak of single videos.
_SUBMISSION_OPTIONS = (
    *("split", "batch_size", "workers"),
    *(name for name in DATA_OPTIONS if name != "frame_rate"),
)
_VIDEO_OPTIONS = ("top", "save", "json", "allow_playlists")
_NOT_OF_TIMELINES = (*_SUBMISSION_OPTIONS, "submission", "top", "views", "save", "clip_timeout")


def run_predict(options: argparse.Namespace) -> int:
    from videorwkv.inference.predict import predictions_table
    from videorwkv.utils.processes import connected

    if options.timeline is not None:
        return predict_timeline(options, _NOT_OF_TIMELINES)
    refuse(options, ("fps", *ALL_OPTIONS), "needs --timeline")
    if options.submission is not None:
        with connected(options.device) as processes:
            return _submit(options, processes)
    refuse(options, _SUBMISSION_OPTIONS, "needs --submission FILE, which predicts a data set")
    views = parse_views(options.views) if options.views else None
    if views is not None and views[1] > 1:
        raise UsageError(
            f"--views {options.views}: several crops are for --submission alone; give {views[0]}x1."
        )
    with connected(options.device) as processes:
        predictions = _predictions(options, None if views is None else views[0], processes)
    if not processes.is_first:
        return 0
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


def _predictions(
    options: argparse.Namespace, views: int | None, processes: Processes
) -> list[Prediction]:
    """Those of all videos, in order; with --json they are printed as they come, or by several
    processes at the end."""
    from videorwkv.inference.predict import iter_predictions

    found = iter_predictions(
        options.sources,
        model=options.model,
        top=5 if options.top is None else options.top,
        views=views,
        device=processes.device(options.device),
        save=options.save,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
        frame_rate=options.frame_rate,
        allow_playlists=bool(options.allow_playlists),
        clip_timeout=options.clip_timeout,
        part=(processes.rank, processes.size),
    )
    if processes.size > 1:
        shares = processes.collect(processes.each(lambda: list(found)))
        turns = zip_longest(*shares)
        found = (prediction for turn in turns for prediction in turn if prediction is not None)
    predictions = []
    for prediction in found:
        predictions.append(prediction)
        if options.json:
            print(as_json(prediction.to_dict()), flush=True)
    return predictions


def _submit(options: argparse.Namespace, processes: Processes) -> int:
    from videorwkv.inference.recogniser import Recogniser
    from videorwkv.inference.submission import predict_split
    from videorwkv.models.masking import Masks

    refuse(options, _VIDEO_OPTIONS, "does not go with --submission")
    if len(options.sources) > 1:
        raise UsageError(
            f"--submission: one data set is wanted, got {len(options.sources)} "
            f"({' '.join(options.sources[:3])})."
        )
    options.data, options.split = options.sources[0], options.split or "test"

    def opened() -> tuple[Manifest, Recogniser]:
        masks = Masks(tube_mask_ratio=options.tube_mask, motion_mask_ratio=options.motion_mask)
        return split_of(load_data(options), options.split), Recogniser.open(
            options.model,
            what="predict",
            views=parse_views(options.views) if options.views else None,
            masks=masks,
            device=processes.device(options.device),
            clip_timeout=options.clip_timeout,
        )

    manifest, recogniser = processes.each(opened)
    with show_progress("predict", len(manifest)) as on_batch:
        submission = predict_split(
            recogniser,
            manifest,
            options.submission,
            **batches(options),
            cache=options.cache,
            on_batch=on_batch,
            processes=processes,
        )
    if not processes.is_first:
        return 0
    print(submission.summary())
    sys.stdout.flush()
    for clip in submission.unreadable:
        print(f"videorwkv: skipped: {' '.join(clip.reason.split())}", file=sys.stderr)
    for path in submission.missing[:5]:
        print(f"videorwkv: skipped: {path}: not on disk", file=sys.stderr)
    if len(submission.missing) > 5:
        more = len(submission.missing) - 5
        print(
            f"videorwkv: skipped: {more} more that are not on disk; `videorwkv data check` lists "
            "them",
            file=sys.stderr,
        )
    return 0 if submission.is_complete else 1
