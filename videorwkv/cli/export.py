"""`videorwkv export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_OPTIONS,
    add_command,
    add_data_options,
    load_data,
    number,
    refuse,
)
from videorwkv.cli.serve import RUNTIME_HELP
from videorwkv.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.exporting import Exported


TARGETS = ("onnx", "openvino", "executorch", "web")


def add_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        "Export a run's recurrent step as one file for ONNX Runtime or ExecuTorch, two for "
        "OpenVINO, or a\nweb page.\n\n"
        "The inputs are one frame of any number of streams and their state, the outputs logits and "
        "the next\nstate. Labels, sizes and edge options are stored in the file and, beside it, in "
        "FILE.json. It is\nverified against PyTorch over 64 frames first; a file that differs is "
        "not written. `videorwkv\npredict`, `evaluate` and `stream` accept it in place of RUN.\n\n"
        "--to web writes a folder for any web server: a page that recognises what a visitor's "
        "camera or file\nshows, in the visitor's browser. `videorwkv serve RUN` shows it on this "
        "machine.",
        "  videorwkv export runs/mine --to onnx\n"
        "  videorwkv export runs/mine --to openvino --precision bfloat16 --out wave.xml\n"
        "  videorwkv export runs/mine --to openvino --precision bfloat16 --frames 4\n"
        "  videorwkv export runs/mine --to onnx --precision int8 --calibrate my_videos\n"
        "  videorwkv export runs/mine --to web --out site/\n"
        "  videorwkv predict wave.xml clip.mp4",
    )
    parser.add_argument(
        "model",
        metavar="RUN",
        help="the folder of a trained run, RUN/best or RUN/last, or hf:OWNER/NAME[@REVISION]",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="NAME",
        help="onnx (ONNX Runtime), openvino, executorch (phones; float32, a fixed number of "
        "streams) or web (a page)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="P",
        help="float32; bfloat16 (half the size; OpenVINO also computes in it); float16 (half the "
        "size); int8 (8-bit matrix multiplications and convolutions; needs --calibrate) (default: "
        "float32)",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="the file to write, or a folder for step-PRECISION.onnx, .xml or .pte (default: the "
        "run's folder); with --to web the page's folder (default: RUN/web)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="export for a fixed number of streams (default: any number; executorch: 1)",
    )
    parser.add_argument(
        "--size", type=int, metavar="PX", help="side of the frames in pixels (default: the run's)"
    )
    parser.add_argument(
        "--tube-mask",
        type=number,
        default=0.0,
        metavar="X",
        help="mask ratio in [0, 1): drop the same random patches in all frames, which is faster "
        "and less accurate",
    )
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="also write a graph of N frames (2 to 16; 4 is a good choice), which `predict` and "
        "`evaluate` use for whole clips: the same numbers in less time; not with int8",
    )
    parser.add_argument(
        "--clip", metavar="FILE", help="a video to verify with, in addition to the generated frames"
    )
    parser.add_argument(
        "--calibrate",
        dest="data",
        metavar="DATA",
        help="data set whose training split calibrates the value ranges (required for int8)",
    )
    parser.add_argument("--runtime", metavar="FILE", help=f"with --to web: {RUNTIME_HELP}")
    add_data_options(parser)
    parser.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    from videorwkv.exporting import export

    if options.data is None:
        refuse(options, DATA_OPTIONS, "needs --calibrate DATA")
    if options.to not in TARGETS:
        raise UsageError(f"Unknown target {options.to!r}. {did_you_mean(options.to, TARGETS)}")
    if options.to == "web":
        return _export_site(options)
    refuse(options, ("runtime",), "needs --to web")
    exported = export(
        options.model,
        options.out,
        to=options.to,
        precision=options.precision,
        batch_size=options.batch_size,
        image_size=options.size,
        tube_mask_ratio=options.tube_mask,
        calibrate=None if options.data is None else load_data(options),
        cache=options.cache,
        clip=options.clip,
        clip_frames=options.frames,
    )
    _report(exported)
    *most, last = map(str, exported.files)
    files = f"{', '.join(most)} and {last}" if most else last
    print(
        f"Written to {files} ({exported.size / 1e6:.1f} MB, {exported.precision}); "
        f"{exported.description.name} says how to run it"
    )
    return 0


def _export_site(options: argparse.Namespace) -> int:
    from videorwkv.web import export_site

    for name, value in (
        ("--batch-size", options.batch_size),
        ("--calibrate", options.data),
        ("--tube-mask", options.tube_mask or None),
        ("--frames", options.frames),
    ):
        if value is not None:
            raise UsageError(f"{name} has no effect on a page (--to web). Leave it out.")
    site = export_site(
        options.model,
        options.out,
        precision=options.precision,
        image_size=options.size,
        clip=options.clip,
        runtime=options.runtime,
    )
    _report(site.exported)
    print(
        f"Written to {site.folder} ({site.size / 1e6:.1f} MB, of which the model has "
        f"{site.exported.size / 1e6:.1f} MB, {site.exported.precision})\n"
        f"See it on this machine: videorwkv serve {site.folder}\n"
        "To show it to others, put the folder on any web server with https, which cameras need."
    )
    return 0


def _report(exported: Exported) -> None:
    for note in exported.notes:
        print(f"note: {note}")
    for verification in exported.verifications:
        print(f"verified against PyTorch: {verification.summary()}")
