"""`videorwkv stream`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    add_command,
    add_device,
)
from videorwkv.cli.output import as_json
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_stream(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stream",
        "Name the action live: camera, broadcast or file.\n\nPrints a line whenever the action "
        "changes (seconds, label, probability), and at the end, on\nstderr, how many frames were "
        "classified and dropped, and the time of one. Ctrl-C ends it.\nThe model gets frames as "
        "far apart in time as in training. What a camera gives while the model\nis busy is "
        "dropped, so the answer is never late; a file is read whole, as fast as it goes.",
        "  videorwkv stream runs/mine 0                       the first camera\n"
        "  videorwkv stream runs/mine rtsp://host/door --json > door.jsonl\n"
        "  videorwkv stream runs/mine/step-bfloat16.xml 0     an exported file: faster\n"
        "  videorwkv stream runs/mine day.mp4 --threshold 0.8 --smooth 1 --save day-labels.mp4",
    )
    parser.add_argument(
        "model",
        metavar="RUN",
        help="a trained run's folder, RUN/best or RUN/last, or a file that `videorwkv export` "
        "wrote",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a camera's number, a URL (rtsp://, http://), a video file, or a folder of frames",
    )
    parser.add_argument(
        "--fps",
        type=float,
        metavar="N",
        help="frames a second for the model (default: as in training; where the training clips "
        "were spread over whole videos, the run's number of frames in 3 seconds)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="X",
        help="a class is named from this probability on, until another one gets there or its own "
        "falls below half of it; then it is `nothing` (default: 0.5)",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.5,
        metavar="S",
        help="seconds over which probabilities are averaged: calmer, later (default: 0.5)",
    )
    parser.add_argument(
        "--gap",
        type=float,
        default=2.0,
        metavar="S",
        help="begin anew where the source pauses for longer (default: 2)",
    )
    parser.add_argument(
        "--reset-every",
        type=float,
        metavar="S",
        help="begin anew after so many seconds; 0: never (default: never for the gated cell, which "
        "forgets by itself; a training clip's length for the others)",
    )
    masks = parser.add_mutually_exclusive_group()
    masks.add_argument(
        "--tube-mask",
        type=float,
        default=0.0,
        metavar="X",
        help="leave out this share of the patches, the same in all frames: cheaper, less accurate",
    )
    masks.add_argument(
        "--motion-mask",
        type=float,
        default=0.0,
        metavar="X",
        help="leave out this share of the patches, those that changed least",
    )
    parser.add_argument("--half", action="store_true", help="products in bfloat16")
    parser.add_argument("--top", type=int, metavar="N", help="classes a JSON line names (5)")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line and classified frame"
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write an .mp4 of the classified frames with edge map, labels and scores drawn in",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the model")
    add_device(parser)
    parser.set_defaults(run=run_stream)


def run_stream(options: argparse.Namespace) -> int:
    import torch

    from videorwkv.inference.stream import stream

    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads {options.threads}: at least 1.")
        torch.set_num_threads(options.threads)
    if options.top is not None and not options.json:
        raise UsageError("--top needs --json: a line for people names one class.")
    moments = stream(
        options.model,
        options.source,
        fps=options.fps,
        threshold=options.threshold,
        smooth=options.smooth,
        gap=options.gap,
        reset_every=options.reset_every,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
        top=5 if options.top is None else options.top,
        half=options.half,
        device=options.device,
        save=options.save,
    )
    code = 0
    with moments:
        for note in moments.notes:
            print(f"note: {note}", file=sys.stderr)
        print(
            f"{options.source}: {len(moments.labels)} classes, "
            f"{round(moments.fps, 3):.9g} frames/s; Ctrl-C ends",
            file=sys.stderr,
            flush=True,
        )
        try:
            for moment in moments:
                if options.json:
                    print(as_json(moment.to_dict()), flush=True)
                elif moment.changed or moments.frames == 1:
                    score = "" if moment.label is None else f"  {moment.score:.2f}"
                    print(f"{moment.time:10.2f} s  {moment.label or 'nothing'}{score}", flush=True)
        except KeyboardInterrupt:
            # Nothing else ends a camera; a file was not read whole.
            code = 0 if moments.is_live else 130
        finally:
            print(moments.summary(), file=sys.stderr)
    if options.save is not None and moments.frames:
        print(f"Written to {options.save}", file=sys.stderr)
    return code
