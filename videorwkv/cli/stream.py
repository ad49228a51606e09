"""`videorwkv stream`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    PLAYLISTS_HELP,
    RUN_HELP,
    add_command,
    add_device,
    add_frame_rate,
    add_masks,
    add_old_spelling,
    number,
)
from videorwkv.cli.output import as_json
from videorwkv.errors import UsageError
from videorwkv.utils.interrupt import Interrupts
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_stream(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stream",
        "Recognise actions live from a camera, a stream or a file.\n\nPrints a line whenever the "
        "recognised action changes (seconds, label, probability). At the end,\nstderr shows how "
        "many frames were classified and dropped, and the time per frame. Ctrl-C ends it.\n"
        "The model gets frames at the frame rate of its training. Frames that arrive while the "
        "model is\nbusy are dropped and counted, so latency does not grow; a file is read "
        "completely, as fast as\npossible.",
        "  videorwkv stream runs/mine 0                       the first camera\n"
        "  videorwkv stream runs/mine rtsp://host/door --json > door.jsonl\n"
        "  videorwkv stream runs/mine/step-bfloat16.xml 0     an exported file: faster\n"
        "  videorwkv stream runs/mine day.mp4 --threshold 0.8 --smooth 1 --save day-labels.mp4",
    )
    parser.add_argument(
        "model",
        metavar="RUN",
        help=RUN_HELP,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a camera's number, a URL (rtsp://, http://), a video file, or a folder of frames",
    )
    parser.add_argument(
        "--fps",
        type=number,
        metavar="N",
        help="frames per second for the model (default: the frame rate of training; after uniform "
        "sampling over whole videos, the run's number of frames in 3 seconds)",
    )
    parser.add_argument(
        "--threshold",
        type=number,
        default=0.5,
        metavar="X",
        help="a class is shown once its probability reaches X, until another class reaches X or "
        "its own falls below X/2; without one the line says `(no class)` (default: 0.5)",
    )
    parser.add_argument(
        "--smooth",
        type=number,
        default=0.5,
        metavar="S",
        help="time constant in seconds of the running mean over probabilities; larger is smoother "
        "and slower to react (default: 0.5)",
    )
    parser.add_argument(
        "--gap",
        type=number,
        default=2.0,
        metavar="S",
        help="reset the state after a pause of the source longer than S seconds (default: 2)",
    )
    parser.add_argument(
        "--reset-every",
        type=number,
        metavar="S",
        help="reset the state every S seconds; 0: never (default: never for the gated cell, whose "
        "forget gate suffices; the length of a training clip for the other cells)",
    )
    add_masks(parser)
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16"),
        metavar="P",
        help="float32, or bfloat16 for matrix multiplications in bfloat16; an exported file has "
        "its own (default: float32)",
    )
    add_old_spelling(parser, "--half", "--precision", value="bfloat16")
    parser.add_argument(
        "--top", type=int, metavar="N", help="number of labels per JSON line (default: 5)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per classified frame"
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write an .mp4 of the classified frames with edge map, labels and scores drawn in",
    )
    add_frame_rate(parser)
    parser.add_argument(
        "--threads", type=int, metavar="N", help="number of CPU threads for the model"
    )
    parser.add_argument("--allow-playlists", action="store_true", help=PLAYLISTS_HELP)
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
    predictions = stream(
        options.model,
        options.source,
        fps=options.fps,
        allow_playlists=options.allow_playlists,
        threshold=options.threshold,
        smooth=options.smooth,
        gap=options.gap,
        reset_every=options.reset_every,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
        top=5 if options.top is None else options.top,
        half=options.precision == "bfloat16",
        device=options.device,
        save=options.save,
        frame_rate=options.frame_rate,
    )
    code = 0
    none = "(no class)"
    while none in predictions.labels:  # a class may have any name
        none = f"({none})"
    with Interrupts() as interrupts, predictions:
        for note in predictions.notes:
            print(f"note: {note}", file=sys.stderr)
        print(
            f"{options.source}: {counted(len(predictions.labels), 'class', 'classes')}, "
            f"{round(predictions.fps, 3):.9g} frames/s; Ctrl-C ends",
            file=sys.stderr,
            flush=True,
        )
        try:
            for prediction in predictions:
                interrupts.check()
                if options.json:
                    print(as_json(prediction.to_dict()), flush=True)
                elif prediction.changed or predictions.frames == 1:
                    shown = none
                    if prediction.label is not None:
                        shown = f"{prediction.label}  {prediction.score:.2f}"
                    print(f"{prediction.time:10.2f} s  {shown}", flush=True)
        except KeyboardInterrupt:
            # Nothing else ends a camera; a file was not read whole.
            code = 0 if predictions.is_live else 130
        finally:
            print(predictions.summary(), file=sys.stderr)
            for warning in predictions.warnings:
                print(f"warning: {warning}", file=sys.stderr)
    if options.save is not None and predictions.frames:
        print(f"Written to {options.save}", file=sys.stderr)
    return code
