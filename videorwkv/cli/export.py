"""`videorwkv export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_OPTIONS,
    add_command,
    add_data_options,
    load_data,
    refuse,
)

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        "Write a run's recurrent step as one file for ONNX Runtime, or two for OpenVINO.\n\n"
        "One frame of any number of streams and their state in, logits and the next state out; "
        "labels,\nsizes and edge options stand in the file. It is run against PyTorch over 64 "
        "frames first, and "
        "a\nfile that differs is not written. `videorwkv predict` and `evaluate` take it in place "
        "of RUN.",
        "  videorwkv export runs/mine --to onnx\n"
        "  videorwkv export runs/mine --to openvino --precision bfloat16 --out wave.xml\n"
        "  videorwkv export runs/mine --to onnx --precision int8 --calibrate my_videos\n"
        "  videorwkv predict wave.xml clip.mp4",
    )
    parser.add_argument("model", metavar="RUN", help="a trained run's folder, RUN/best or RUN/last")
    parser.add_argument(
        "--to", required=True, metavar="NAME", help="onnx (ONNX Runtime) or openvino"
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="P",
        help="float32; bfloat16 (half the size; OpenVINO also computes in it); float16 (half the "
        "size); int8 (products and convolutions in 8 bits; needs --calibrate) (default: float32)",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="the file, or a folder for step-PRECISION.onnx or .xml (default: the run's folder)",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="fixed number of streams (default: any)"
    )
    parser.add_argument(
        "--size", type=int, metavar="PX", help="side of the frames (default: the run's)"
    )
    parser.add_argument(
        "--tube-mask",
        type=float,
        default=0.0,
        metavar="X",
        help="leave out this share of the patches of every frame: cheaper, less accurate",
    )
    parser.add_argument(
        "--clip", metavar="FILE", help="a video to verify on, beside the generated frames"
    )
    parser.add_argument(
        "--calibrate",
        dest="data",
        metavar="DATA",
        help="data set whose training split gives int8 its ranges; int8 needs it",
    )
    add_data_options(parser)
    parser.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    from videorwkv.exporting import export

    if options.data is None:
        refuse(options, DATA_OPTIONS, "needs --calibrate DATA")
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
    )
    for note in exported.notes:
        print(f"note: {note}")
    for verification in exported.verifications:
        print(f"verified against PyTorch: {verification.summary()}")
    files = " and ".join(str(file) for file in exported.files)
    print(f"Written to {files} ({exported.size / 1e6:.1f} MB, {exported.precision})")
    return 0
