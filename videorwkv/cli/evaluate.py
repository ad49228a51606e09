"""`videorwkv evaluate`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_HELP,
    RUN_HELP,
    TIMEOUT_HELP,
    add_batches,
    add_command,
    add_data_options,
    add_decoder,
    add_device,
    add_masks,
    batches,
    load_data,
    number,
    parse_views,
    read_as_asked,
    refuse,
    split_of,
)
from videorwkv.cli.output import as_json, grouped_notes, make_console, show_progress
from videorwkv.cli.timeline import ALL_OPTIONS, add_timeline_options, score_timeline
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.data.manifest import Manifest
    from videorwkv.inference.alarms import FalseAlarms
    from videorwkv.inference.baselines import Baseline
    from videorwkv.inference.calibration import Calibration
    from videorwkv.inference.metrics import Evaluation
    from videorwkv.run.run import Run
    from videorwkv.utils.processes import Processes


def add_evaluate(commands: Commands) -> None:
    parser = add_command(
        commands,
        "evaluate",
        "Evaluate a trained run on a data set.\n\nPrints top-1, top-5 and accuracy per class, and "
        "writes evaluation.json, predictions.csv,\nconfusion.csv and confusion.png. An unreadable "
        "clip counts as wrong.\n\nWhere clips have several labels, it prints the mean average "
        "precision, F1, and average\nprecision per class, and writes evaluation.json, classes.csv "
        "and predictions.csv.\n\n"
        "With --timeline, DATA are segments of long files. Every file is read from its first frame "
        "on, and\nthe segments that are found are scored: F1@10,25,50, edit score, mAP at tIoU 0.1 "
        "to 0.7, point mAP,\nframe accuracy and false alarms; into RUN/timeline-SPLIT go "
        "timeline.json, segments.csv and\nconfusion.csv.",
        "  videorwkv evaluate runs/mine my_videos\n"
        "  videorwkv evaluate runs/mine my_videos --split test --views 2x3\n"
        "  videorwkv evaluate runs/mine my_videos --motion-mask 0.5\n"
        "  videorwkv evaluate runs/mine my_videos --baselines\n"
        "  videorwkv evaluate runs/mine segments.csv --timeline --threshold 0.6\n"
        "  videorwkv evaluate runs/mine my_videos --choose-thresholds\n"
        "  videorwkv evaluate runs/mine my_videos --unknown nothing:minutes=10\n"
        "  videorwkv evaluate runs/mine/last clips.csv --split all --json",
    )
    parser.add_argument("model", metavar="RUN", help=RUN_HELP)
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which split to evaluate: train, validation, test or all (default: validation; all, "
        "if DATA names no splits and is not what the run was trained on)",
    )
    parser.add_argument(
        "--views",
        metavar="TxS",
        help="temporal x spatial views per clip, whose scores are averaged; N is Nx1 (default: the "
        "run's)",
    )
    add_masks(parser)
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder for the results (default: RUN/evaluation-SPLIT, with a suffix for whatever "
        "differs from the run's default: -last, -views-2x3, -tube-mask-0.5, -motion-mask-0.5)",
    )
    add_batches(parser)
    parser.add_argument("--clip-timeout", type=number, metavar="S", help=TIMEOUT_HELP)
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also score baselines without a network, which learn from the train split: the change "
        "of small grey frames and their gradients, with a nearest neighbour and ridge regression",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="write the score of every class into predictions.csv, a column for each",
    )
    parser.add_argument(
        "--timeline",
        action="store_true",
        help="score when something happens: the segments that are found in whole files",
    )
    parser.add_argument(
        "--choose-thresholds",
        action="store_true",
        help="on the validation split, fit a temperature to the probabilities and choose the "
        "threshold below which no class is named; where clips have several labels, for each class "
        "the probability with the best F1, from which on it is taken to hold. They are kept with "
        "the run, and predict, stream and exported files go by them. With --timeline: the "
        "threshold and the lag with the best F1@50, for predict, stream and evaluate with it",
    )
    parser.add_argument(
        "--keep-recall",
        type=number,
        metavar="X",
        help="with --choose-thresholds: share of the recognised clips that stay named "
        "(default: 0.95)",
    )
    parser.add_argument(
        "--max-false-alarms",
        type=number,
        metavar="N",
        help="with --timeline --choose-thresholds: false alarms in 10 minutes that are allowed "
        "(default: any number)",
    )
    parser.add_argument(
        "--unknown",
        metavar="DATA",
        help="also stream videos that show none of the classes, and count false alarms an hour by "
        "threshold: a data set as DATA, or `nothing:minutes=10`, which is generated (black, still, "
        "noisy and flickering pictures)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    add_timeline_options(parser)
    add_decoder(parser)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run=run_evaluate)


_NOT_OF_TIMELINES = (
    "views", "batch_size", "workers", "clip_timeout", "baselines", "scores",
    "keep_recall", "unknown",
)  # fmt: skip


def run_evaluate(options: argparse.Namespace) -> int:
    from videorwkv.utils.processes import connected

    with connected(options.device) as processes:
        return _evaluate(options, processes)


def _evaluate(options: argparse.Namespace, processes: Processes) -> int:
    from videorwkv.data.frame_rate import frame_rate_note
    from videorwkv.data.transforms import check_views
    from videorwkv.inference.baselines import baselines
    from videorwkv.inference.evaluate import evaluate
    from videorwkv.inference.multilabel import ClassThresholds, MultilabelEvaluation
    from videorwkv.inference.recogniser import is_exported, load_run
    from videorwkv.models.masking import Masks
    from videorwkv.utils.files import make_folder
    from videorwkv.utils.options import dataclass_to_dict

    if options.timeline:
        refuse(options, _NOT_OF_TIMELINES, "does not go with --timeline")
    else:
        refuse(options, ALL_OPTIONS, "needs --timeline")

    def opened() -> tuple[Run, Manifest, str, list[str], Manifest]:
        run = load_run(options.model)
        everything = load_data(options, run)
        split, notes = _choose_split(options, run, everything)
        return run, everything, split, notes, split_of(everything, split)

    if options.keep_recall is not None and not options.choose_thresholds:
        raise UsageError("--keep-recall needs --choose-thresholds.")
    if options.max_false_alarms is not None:
        if not (options.timeline and options.choose_thresholds):
            raise UsageError("--max-false-alarms needs --timeline and --choose-thresholds.")
        if options.max_false_alarms < 0:
            raise UsageError(
                f"--max-false-alarms ({options.max_false_alarms:g}) must be at least 0."
            )
    run, everything, split, notes, manifest = processes.each(opened)
    unknown = None
    if options.unknown is not None:
        from videorwkv.data.load import load_manifest

        unknown = processes.each(
            lambda: read_as_asked(load_manifest(options.unknown), options, run)
        )
    if rate := frame_rate_note(everything, run.recipe.sampling):
        notes.append(rate)
    if run.is_split_anew(everything):
        print(
            "note: the run was trained on these clips split in another way: some that it was "
            f"trained on may be among the {len(manifest)}. Give the folds, fraction or list of "
            "its training.",
            file=sys.stderr,
        )
    if options.choose_thresholds and (run.source or is_exported(options.model)):
        raise UsageError(
            "--choose-thresholds writes into a run's folder, and a repository of the Hub or an "
            "exported file is none. Choose them for the run, and export it afterwards."
        )
    if options.choose_thresholds and options.split in ("train", "test", "all"):
        print(
            f"note: thresholds chosen on the {split} split are too good for it; the validation "
            "split is for choices",
            file=sys.stderr,
        )
    if options.timeline:
        return score_timeline(options, run, manifest, split, notes, processes)
    views = parse_views(options.views) if options.views else None
    if views is not None:
        check_views(views, run.recipe.model.frame_fit, "--views")
    masks = Masks(tube_mask_ratio=options.tube_mask, motion_mask_ratio=options.motion_mask)
    out = Path(options.out or run.results(split, views=views, masks=masks))
    processes.first(lambda: make_folder(out))  # before the work, which may take hours
    scored: tuple[Baseline, ...] = ()
    is_multilabel = run.recipe.model.multilabel
    if is_multilabel and (options.unknown is not None or options.keep_recall is not None):
        raise UsageError(
            "--unknown and --keep-recall are for runs that name one class a clip; this one answers "
            "each class by itself."
        )
    if options.baselines:
        if is_multilabel:
            raise UsageError(
                "--baselines: they name one class a clip, and this run answers with several."
            )
        if split in ("train", "all"):
            raise UsageError(
                f"--baselines: they learn from the train split, which is part of --split {split}; "
                "give another split."
            )
        known = split_of(everything, "train")
    with show_progress("evaluate", len(manifest)) as on_batch:
        evaluation = evaluate(
            run,
            manifest,
            views=views,
            **batches(options),
            device=processes.device(options.device),
            cache=options.cache,
            tube_mask_ratio=options.tube_mask,
            motion_mask_ratio=options.motion_mask,
            clip_timeout=options.clip_timeout,
            on_batch=on_batch,
            processes=processes,
            calibrated=not options.choose_thresholds,
        )
    if not processes.is_first:
        return 0
    if options.baselines:
        given = options.clip_timeout
        limit = run.recipe.clip_timeout if given is None else given
        with show_progress("baselines", len(known) + len(manifest)) as on_clip:
            scored = tuple(baselines(known, manifest, on_clip, clip_timeout=limit))
    evaluation = replace(evaluation, baselines=scored)
    evaluation.save(out, scores=options.scores)
    chosen = alarms = None
    if options.choose_thresholds and isinstance(evaluation, MultilabelEvaluation):
        best = ClassThresholds.choose(evaluation, weights_sha256=run.weights_sha256())
        notes.append(f"thresholds with the best F1 here are kept in {best.save(run)}: predict, "
                     "evaluate and export take them from now on")  # fmt: skip
    elif options.choose_thresholds:
        chosen = _choose(options, run, evaluation)
    if unknown is not None:
        alarms = _count_alarms(options, run, unknown, out)
    for note in notes:  # beside the numbers that they are about
        print(f"note: {note}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        values = evaluation.to_dict()
        if chosen is not None:
            values["calibration"] = dataclass_to_dict(chosen)
        if alarms is not None:
            values["false_alarms"] = alarms.to_dict()
        print(as_json(values, indent=2))
        return 0
    of = f", {len(manifest):,} of {len(everything):,} clips" if split != "all" else ""
    print(f"{options.data}: {split}{of}")
    make_console().print(evaluation.table())
    print(evaluation.summary())
    if doubt := evaluation.warning():
        print(f"warning: {doubt}")
    for baseline in evaluation.baselines:
        print(baseline.summary())
    for clip in evaluation.bad:
        where = "" if clip.path in clip.reason else f"{clip.path}: "
        print(f"unreadable, counted as wrong: {where}{clip.reason}")
    kinds = grouped_notes(evaluation.warnings)
    for text in kinds[:5]:
        print(f"note: {text}")
    if len(kinds) > 5:
        print(f"note: {len(kinds) - 5} more of other kinds in evaluation.json")
    if chosen is not None:
        print(f"{chosen.summary()}\nKept in {chosen.path(run)}")
    if alarms is not None:
        # Chosen just now, the temperature is in the alarms and not yet in the clips' scores.
        temperature = 1.0 if chosen is None else chosen.temperature
        shares = {x: evaluation.named(x, temperature) for x in alarms.alarms}
        make_console().print(alarms.table(shares))
        for path, reason in (alarms.unreadable or {}).items():
            print(f"unreadable, left out: {path}: {reason}")
        if alarms.known:
            print(f"note: {alarms.known} of its clips show classes of the run and were left out")
    print(f"Written to {out}")
    return 0


def _choose(options: argparse.Namespace, run: Run, evaluation: Evaluation) -> Calibration:
    """Choose the temperature and the threshold, and keep them with the run."""
    from videorwkv.inference.calibration import KEEP, Calibration

    scores_NK, truth_N = evaluation.arrays()
    chosen = Calibration.choose(
        scores_NK,
        truth_N,
        labels=evaluation.labels,
        weights_sha256=run.weights_sha256(),
        data=evaluation.data or {},
        keep=KEEP if options.keep_recall is None else options.keep_recall,
    )
    chosen.save(run)
    return chosen


def _count_alarms(
    options: argparse.Namespace, run: Run, unknown: Manifest, out: Path
) -> FalseAlarms:
    """Stream the videos of no class; the counts are written beside the evaluation."""
    from videorwkv.inference.alarms import THRESHOLDS, count_alarms
    from videorwkv.inference.recogniser import Recogniser
    from videorwkv.models.masking import Masks
    from videorwkv.utils.files import write_atomic

    recogniser = Recogniser.open(
        run,
        what="evaluate",
        masks=Masks(tube_mask_ratio=options.tube_mask, motion_mask_ratio=options.motion_mask),
        device=options.device,
        fastest=True,
    )
    own = () if recogniser.threshold is None else (recogniser.threshold,)
    with show_progress("false alarms", len(unknown)) as on_video:
        found = count_alarms(
            recogniser,
            unknown,
            thresholds=sorted({*THRESHOLDS, *own}),
            on_video=on_video,
        )
    write_atomic(out / "false_alarms.json", as_json(found.to_dict(), indent=2) + "\n")
    return found


def _choose_split(
    options: argparse.Namespace, run: Run, everything: Manifest
) -> tuple[str, list[str]]:
    """The split to score, and what to say about it."""
    from videorwkv.run.run import place_digest

    given = (options.validation_share, options.group_by, options.group_column)
    drawn = everything.held_out and all(value is None for value in given)
    if options.split is not None or not drawn:
        return options.split or "validation", []
    relation = run.relation(everything)
    if relation == "same" and run.data.get("place", "") in ("", place_digest(everything)):
        return "validation", []
    if relation == "same":
        return "validation", [
            "these clips have the names and labels of those that the run was trained on, so the "
            "validation split alone is scored. If they are others, give --split all."
        ]
    if relation == "changed":
        return "validation", [
            "clips were added to or removed from the run's data, so the clips that are validation "
            "now are scored; the run may have been trained on some of them. For those that it was "
            "not trained on, give their own folder or list."
        ]
    seen = "the run notes no clips" if "names" not in run.data else "some have names of its clips"
    doubt = f"; {seen}: if it was trained on these, the result is too good"
    return "all", [
        f"all {len(everything):,} clips are scored, as {options.data} names no splits and is not "
        "what the run was trained on" + doubt * (relation == "alike" or "names" not in run.data)
    ]
