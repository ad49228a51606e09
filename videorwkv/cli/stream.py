"""`videorwkv stream`."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from videorwkv.cli.options import (
    PLAYLISTS_HELP,
    RUN_HELP,
    add_command,
    add_device,
    add_frame_rate,
    add_masks,
    add_old_spelling,
    number,
    refuse,
)
from videorwkv.cli.output import as_json
from videorwkv.cli.timeline import (
    OWN_OPTIONS,
    SegmentPrinter,
    add_timeline_options,
    timeline_options,
)
from videorwkv.errors import UsageError
from videorwkv.utils.interrupt import Interrupts
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


# More classes than any model has.
ALL = 1 << 31


def add_stream(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stream",
        "Recognise actions live from cameras, streams, pipes or files.\n\nPrints a line whenever "
        "the recognised action changes (seconds, label, probability; of several\nsources, the "
        "source first). At the end, stderr shows how many frames were classified and dropped,\n"
        "and the time per frame. Ctrl-C ends it. The model gets frames at the frame rate of its\n"
        "training. Frames that arrive while the model is busy are dropped and counted, so latency "
        "does\nnot grow; a file is read completely, as fast as possible. Several sources share the "
        "model: a step\ntakes the frames that wait, at most one of each.",
        "  videorwkv stream runs/mine 0                       the first camera\n"
        "  videorwkv stream runs/mine rtsp://host/door --reconnect --json > door.jsonl\n"
        "  videorwkv stream runs/mine rtsp://a/1 rtsp://b/1 --names door,yard\n"
        "  ffmpeg -i FILE -f matroska - | videorwkv stream runs/mine -\n"
        "  videorwkv stream runs/when day.mp4 --timeline day.csv\n"
        "  videorwkv stream runs/mine/step-bfloat16.xml 0     an exported file: faster\n"
        "  videorwkv stream runs/mine day.mp4 --threshold 0.8 --smooth 1 --save day-labels.mp4",
    )
    parser.add_argument(
        "model",
        metavar="RUN",
        help=RUN_HELP,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a camera's number, a URL (rtsp://, http://), `-` (the standard input), a FIFO, a "
        "video file, or a folder of frames; several are recognised side by side",
    )
    parser.add_argument(
        "--names",
        metavar="A,B",
        help="what the sources are called, in order, separated by commas (default: as given)",
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
        metavar="X",
        help="a class is shown once its probability reaches X, until another class reaches X or "
        "its own falls below X/2; without one, and for a class `background` or `none`, the line "
        "says `(no class)` (default: what evaluate --choose-thresholds has chosen, else 0.5)",
    )
    parser.add_argument(
        "--smooth",
        type=number,
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
    add_live(parser)
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
        "--json",
        action="store_true",
        help="print one JSON object per classified frame, with the time of day in UTC (clock), and "
        "one for each event: a stall, a lost connection, another picture size",
    )
    parser.add_argument(
        "--timeline",
        metavar="FILE",
        nargs="?",
        const="",
        help="print a line for each segment as soon as it has ended (from, to, label, "
        "probability), in place of changes, and write them to a .json, .csv, .vtt or .eaf file",
    )
    add_timeline_options(parser, is_stream=True)
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write an .mp4 of the classified frames with edge map, labels and scores drawn in; of "
        "several sources one each, numbered. Until the end it is called NAME.part.mp4 and can be "
        "played as far as it has come",
    )
    parser.add_argument(
        "--save-state",
        metavar="FILE",
        help="at the end, write what the model remembers of the sources (safetensors)",
    )
    parser.add_argument(
        "--load-state",
        metavar="FILE",
        help="go on from a state of --save-state, of the same weights and as many sources",
    )
    add_frame_rate(parser)
    parser.add_argument(
        "--threads", type=int, metavar="N", help="number of CPU threads for the model"
    )
    parser.add_argument("--allow-playlists", action="store_true", help=PLAYLISTS_HELP)
    add_device(parser)
    parser.set_defaults(run=run_stream)


def add_live(parser: argparse.ArgumentParser) -> None:
    """How sources that have no end are kept."""
    parser.add_argument(
        "--reconnect",
        action="store_true",
        help="open a camera or network stream again when it is lost or ends, after 1, 2, 4 s and "
        "so on up to 30 s",
    )
    parser.add_argument(
        "--after-drop",
        default="auto",
        choices=("auto", "reset", "keep"),
        metavar="WHAT",
        help="the state after a lost connection: auto (reset as after any pause, see --gap), reset "
        "(always) or keep (never) (default: auto)",
    )
    parser.add_argument(
        "--timeout",
        type=number,
        default=10.0,
        metavar="S",
        help="a network stream that sends nothing for S seconds is lost; 0: never (default: 10)",
    )
    parser.add_argument(
        "--stall",
        type=number,
        default=5.0,
        metavar="S",
        help="say so when a live source gives no frame for S seconds, or for three times as long "
        "as usual; 0: never (default: 5)",
    )
    parser.add_argument(
        "--source-fps",
        metavar="N",
        help="frames per second of a source whose frames carry no times, such as raw H.264; "
        "`arrival` takes the times at which they come",
    )


def _source_fps(text: str | None) -> Any:
    if text is None or text == "arrival":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--source-fps {text}: a number of frames a second, or `arrival` for the times at "
            "which frames come."
        ) from None


def run_stream(options: argparse.Namespace) -> int:
    import torch

    from videorwkv.inference.stream import StreamEvent, stream
    from videorwkv.video.live import LiveOptions

    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads {options.threads}: at least 1.")
        torch.set_num_threads(options.threads)
    is_timeline = options.timeline is not None
    rules = None
    if is_timeline:
        refuse(options, ("top",), "does not go with --timeline, which looks at all classes")
        rules = timeline_options(options)
    else:
        refuse(options, OWN_OPTIONS, "needs --timeline")
    if options.top is not None and not options.json:
        raise UsageError("--top needs --json: a line for people names one class.")

    def tell(event: StreamEvent) -> None:
        if options.json:
            print(as_json(event.to_dict()), flush=True)
        else:
            print(event.text, file=sys.stderr, flush=True)

    predictions = stream(
        options.model,
        options.sources,
        fps=options.fps,
        allow_playlists=options.allow_playlists,
        # Segments have a threshold of their own, as of `predict --timeline`.
        threshold=options.threshold if rules is None else rules.threshold,
        smooth=rules.smooth if rules else 0.5 if options.smooth is None else options.smooth,
        gap=options.gap,
        reset_every=options.reset_every,
        tube_mask_ratio=options.tube_mask,
        motion_mask_ratio=options.motion_mask,
        top=ALL if rules else 5 if options.top is None else options.top,
        half=options.precision == "bfloat16",
        device=options.device,
        save=options.save,
        frame_rate=options.frame_rate,
        names=None if options.names is None else options.names.split(","),
        reconnect=options.reconnect,
        after_drop=options.after_drop,
        stall=options.stall,
        live=LiveOptions(source_fps=_source_fps(options.source_fps), timeout=options.timeout),
        load_state=options.load_state,
        on_event=tell,
    )
    code = 0
    none = "(no class)"
    while none in predictions.labels:  # a class may have any name
        none = f"({none})"
    several = len(predictions.names) > 1
    seen: set[str] = set()
    with (
        Interrupts() as interrupts,
        predictions,
        SegmentPrinter(options, rules, predictions) if rules else nullcontext() as printer,
    ):
        for note in predictions.notes:
            print(f"note: {note}", file=sys.stderr)
        print(
            f"{', '.join(predictions.names)}: "
            f"{counted(len(predictions.labels), 'class', 'classes')}, "
            f"{round(predictions.fps, 3):.9g} frames/s; Ctrl-C ends",
            file=sys.stderr,
            flush=True,
        )
        try:
            for prediction in predictions:
                interrupts.check()
                if printer is not None:
                    printer.add(prediction)
                elif options.json:
                    print(as_json(prediction.to_dict()), flush=True)
                elif prediction.changed or prediction.source not in seen:
                    shown = none
                    if prediction.label is not None:
                        shown = f"{prediction.label}  {prediction.score:.2f}"
                    source = f"{prediction.source}  " if several else ""
                    print(f"{source}{prediction.time:10.2f} s  {shown}", flush=True)
                seen.add(prediction.source)
            code = int(bool(predictions.failed))
        except KeyboardInterrupt:
            # Nothing else ends a camera; a file was not read whole.
            code = 0 if predictions.is_live else 130
        finally:
            if options.save_state is not None:
                predictions.save_state(options.save_state)
            print(predictions.summary(), file=sys.stderr)
            for warning in predictions.warnings:
                print(f"warning: {warning}", file=sys.stderr)
    if options.save_state is not None:
        print(f"State written to {options.save_state}", file=sys.stderr)
    if options.save is not None and predictions.frames:
        print(f"Written to {', '.join(map(str, predictions.films))}", file=sys.stderr)
    return code
