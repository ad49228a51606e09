"""`--timeline` of `predict`, `stream` and `evaluate`: when something happens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.cli.options import number, refuse
from videorwkv.cli.output import as_json, grouped_notes, make_console, show_progress
from videorwkv.errors import UsageError
from videorwkv.utils.files import require_no_source
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest
    from videorwkv.data.timeline import ActionSegment
    from videorwkv.inference.stream import Stream, StreamPrediction
    from videorwkv.inference.timeline.choose import TimelineChoice
    from videorwkv.inference.timeline.find import FrameScores
    from videorwkv.inference.timeline.results import TimelineEvaluation
    from videorwkv.inference.timeline.segments import Timeline, TimelineOptions
    from videorwkv.run.run import Run
    from videorwkv.utils.processes import Processes

# Those that only a timeline has; `stream` has a threshold and a smoothing of its own.
OWN_OPTIONS = ("min_length", "merge", "lag")
ALL_OPTIONS = ("threshold", "smooth", *OWN_OPTIONS)


def add_timeline_options(parser: argparse.ArgumentParser, *, is_stream: bool = False) -> None:
    """How probabilities become segments."""
    group = parser.add_argument_group("a timeline (with --timeline)")
    if not is_stream:
        group.add_argument(
            "--threshold",
            type=number,
            metavar="X",
            help="a segment begins once the probability of its class reaches X, and lasts until "
            "another class reaches X or its own falls below X/2 (default: what evaluate --timeline "
            "--choose-thresholds has chosen, else 0.5)",
        )
        group.add_argument(
            "--smooth",
            type=number,
            metavar="S",
            help="time constant in seconds of the running mean over probabilities (default: 0.5)",
        )
    group.add_argument(
        "--min-length",
        type=number,
        metavar="S",
        help="leave out segments shorter than S seconds (default: 0.5)",
    )
    group.add_argument(
        "--merge",
        type=number,
        metavar="S",
        help="a class that is recognised again at most S seconds after its last segment goes on "
        "with it (default: 0.5)",
    )
    group.add_argument(
        "--lag",
        type=number,
        metavar="S",
        help="date segments back by S seconds, which the model needs to be sure; `evaluate "
        "--timeline` measures it (default: what was chosen with --threshold, else 0)",
    )


def given_options(options: argparse.Namespace) -> dict[str, float]:
    """Those of a `TimelineOptions` that stand on the command line."""
    given = {name: getattr(options, name) for name in ALL_OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def timeline_options(options: argparse.Namespace) -> TimelineOptions:
    """The given ones, the others as they were chosen for the model, which is said, or as usual."""
    from videorwkv.inference.choices import Choices, chosen_timeline
    from videorwkv.inference.exported import open_exported
    from videorwkv.inference.recogniser import is_exported, load_run
    from videorwkv.inference.timeline.segments import TimelineOptions

    given = given_options(options)
    usual = TimelineOptions(**given)
    model = (open_exported if is_exported(options.model) else load_run)(options.model)
    chosen = chosen_timeline(model, Choices.of(model).temperature)
    if chosen is None:
        return usual
    part = ", the other options as given" if given else ""
    print(f"note: {chosen.described}: chosen for this model{part}", file=sys.stderr)
    return replace(chosen, **given)


def segment_line(segment: ActionSegment) -> str:
    """A segment for people: from, to, label, probability."""
    return f"{segment.start:10.2f} {segment.end:10.2f} s  {segment.label}  {segment.score:.2f}"


def predict_timeline(options: argparse.Namespace, unfit: Sequence[str]) -> int:
    """`predict --timeline`; `unfit` are the options that don't go with it."""
    from videorwkv.inference.predict import expand
    from videorwkv.inference.timeline.files import check_target, write_timelines
    from videorwkv.inference.timeline.find import timeline
    from videorwkv.utils.processes import launched

    refuse(options, unfit, "does not go with --timeline")
    if launched()[1] > 1:
        raise UsageError("--timeline runs in one process; start it without torchrun.")
    files = list(expand(options.sources))
    if options.timeline:  # before the work, which may take hours
        check_target(options.timeline, len(files))
        require_no_source([Path(options.timeline)], files, "--timeline")
    found: list[Timeline] = []
    for one in timeline(
        files,
        model=options.model,
        options=timeline_options(options),
        fps=options.fps,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
        device=options.device,
        frame_rate=options.frame_rate,
        allow_playlists=bool(options.allow_playlists),
    ):
        found.append(one)
        if options.json:
            print(as_json(one.to_dict()), flush=True)
        elif not one.error:
            print(f"{one.path}: {counted(len(one.segments), 'segment')} in {one.seconds:.1f} s")
            for segment in one.segments:
                print(segment_line(segment))
            sys.stdout.flush()
        for warning in one.warnings:
            print(f"note: {one.path}: {warning}", file=sys.stderr)
    errors = [one.error for one in found if one.error]
    if options.timeline and len(errors) < len(found):
        write_timelines(options.timeline, found)
        print(f"Written to {options.timeline}", file=sys.stderr)
    for error in errors:
        print(f"videorwkv: error: {' '.join(error.split())}", file=sys.stderr)
    return 1 if errors else 0


class SegmentPrinter:
    """Prints and writes what `stream --timeline` finds; a context manager."""

    def __init__(self, options: argparse.Namespace, rules: TimelineOptions, stream: Stream) -> None:
        from videorwkv.inference.timeline.files import TimelineFile
        from videorwkv.inference.timeline.live import StreamTimeline

        self._json, self._several = options.json, len(stream.names) > 1
        self._found = StreamTimeline(stream, rules)
        self._target = options.timeline
        if options.timeline:
            require_no_source([Path(options.timeline)], options.sources, "--timeline")
        self._file = TimelineFile(options.timeline, stream.names) if options.timeline else None

    def __enter__(self) -> SegmentPrinter:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._show(self._found.finish())
        finally:
            if self._file is not None:
                self._file.__exit__(*error)
                print(f"Written to {self._target}", file=sys.stderr)

    def add(self, prediction: StreamPrediction) -> None:
        """One more frame."""
        self._show(self._found.add(prediction))

    def _show(self, found: Sequence[tuple[str, ActionSegment]]) -> None:
        for source, segment in found:
            if self._json:
                print(as_json({"source": source, **segment.to_dict()}), flush=True)
            else:
                name = f"{source}  " if self._several else ""
                print(f"{name}{segment_line(segment)}", flush=True)
            if self._file is not None:
                self._file.add(source, segment)


def score_timeline(
    options: argparse.Namespace,
    run: Run,
    manifest: Manifest,
    split: str,
    notes: Sequence[str],
    processes: Processes,
) -> int:
    """`evaluate --timeline`."""
    from videorwkv.inference.timeline.evaluate import evaluate_timeline
    from videorwkv.inference.timeline.segments import TimelineOptions
    from videorwkv.models.masking import Masks
    from videorwkv.utils.files import make_folder

    frames: dict[str, list[FrameScores]] | None = {} if options.choose_thresholds else None
    if frames is not None and processes.size > 1:
        raise UsageError("--choose-thresholds with --timeline runs in one process.")
    # What chooses anew does not go by what was chosen before.
    anew = frames is not None
    rules = TimelineOptions(**given_options(options)) if anew else timeline_options(options)
    masks = Masks(tube_mask_ratio=options.tube_mask, motion_mask_ratio=options.motion_mask)
    usual = run.results(split, masks=masks)
    out = Path(options.out or usual.with_name(usual.name.replace("evaluation-", "timeline-", 1)))
    processes.first(lambda: make_folder(out))
    with show_progress("timeline", len({row.path for row in manifest.rows})) as on_video:
        found = evaluate_timeline(
            run,
            manifest,
            options=rules,
            kept=frames,
            device=processes.device(options.device),
            cache=options.cache,
            tube_mask_ratio=options.tube_mask,
            motion_mask_ratio=options.motion_mask,
            on_video=on_video,
            processes=processes,
        )
    if not processes.is_first:
        return 0
    found.save(out)
    chosen = None if frames is None else _choose(options, run, found, frames)
    for note in notes:
        print(f"note: {note}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        values = found.to_dict()
        if chosen is not None:
            values["chosen"] = dataclass_to_dict(chosen)
        print(as_json(values, indent=2))
        return 0
    make_console().print(found.table())
    print(found.summary())
    if doubt := found.warning():
        print(f"warning: {doubt}")
    for video in found.bad:
        where = "" if video.path in video.reason else f"{video.path}: "
        print(f"unreadable, its segments count as missed: {where}{video.reason}")
    for text in grouped_notes(found.warnings)[:5]:
        print(f"note: {text}")
    if chosen is not None:
        print(f"{chosen.summary()}\nKept in {chosen.path(run)}: predict, stream and evaluate with "
              "--timeline go by it from now on")  # fmt: skip
    print(f"Written to {out}")
    return 0


def _choose(
    options: argparse.Namespace,
    run: Run,
    evaluation: TimelineEvaluation,
    frames: Mapping[str, Sequence[FrameScores]],
) -> TimelineChoice:
    """Choose threshold and lag, and keep them with the run."""
    from videorwkv.inference.choices import Choices
    from videorwkv.inference.timeline.choose import TimelineChoice

    chosen = TimelineChoice.choose(
        evaluation,
        frames,
        given=given_options(options),
        labels=run.labels,
        weights_sha256=run.weights_sha256(),
        temperature=Choices.of(run).temperature,
        most_alarms=options.max_false_alarms,
    )
    chosen.save(run)
    return chosen
