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

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        "Export a run's recurrent step as one file for ONNX Runtime, or two for OpenVINO.\n\n"
        "The inputs are one frame of any number of streams and their state, the outputs are logits "
        "and the\nnext state. Labels, sizes and edge options are stored in the file. It is "
        "verified against PyTorch\nover 64 frames first; a file that differs is not written. "
        "`videorwkv predict`, `evaluate` and\n`stream` accept it in place of RUN.",
        "  videorwkv export runs/mine --to onnx\n"
        "  videorwkv export runs/mine --to openvino --precision bfloat16 --out wave.xml\n"
        "  videorwkv export runs/mine --to onnx --precision int8 --calibrate my_videos\n"
        "  videorwkv predict wave.xml clip.mp4",
    )
    parser.add_argument(
        "model", metavar="RUN", help="the folder of a trained run, RUN/best or RUN/last"
    )
    parser.add_argument(
        "--to", required=True, metavar="NAME", help="onnx (ONNX Runtime) or openvino"
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
        help="the file to write, or a folder for step-PRECISION.onnx or .xml (default: the run's "
        "folder)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="export for a fixed number of streams (default: any number)",
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
        "--clip", metavar="FILE", help="a video to verify with, in addition to the generated frames"
    )
    parser.add_argument(
        "--calibrate",
        dest="data",
        metavar="DATA",
        help="data set whose training split calibrates the value ranges (required for int8)",
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
