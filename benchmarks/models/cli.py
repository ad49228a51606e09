"""`videorwkv bench`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from videorwkv.cli.options import add_command, add_old_spelling, number
from videorwkv.cli.output import as_json, make_console
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_bench(commands: Commands) -> None:
    parser = add_command(
        commands,
        "bench",
        "Time models on this machine, beside baselines.\n\nA new frame of a stream and a clip: "
        "latency, throughput, memory, multiply-accumulates and the\nshare of what a matrix product "
        "reaches here. All in turns in one process, on the same frames.",
        "  videorwkv bench                                  lcr_tiny and lcr_nano, a minute\n"
        "  videorwkv bench runs/mine --ways all             also compiled and exported\n"
        "  videorwkv bench lcr_tiny --against vit_tiny,x3d_m --out timing\n"
        "  videorwkv bench lcr_tiny --lengths 16,64,256     cost over the frames seen",
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a model's name, a run's folder or a file that `videorwkv export` wrote "
        "(default: lcr_tiny lcr_nano)",
    )
    parser.add_argument(
        "--against",
        default="none",
        metavar="NAMES",
        help="baselines, with commas: softmax (the same body with softmax attention), vit_tiny, "
        "mobilenet_v2, movinet_a0, x3d_m, r3d_18, videomae_tiny, videomae_small, timesformer; "
        "all; none. Some need pip install 'videorwkv[bench]' (default: none)",
    )
    parser.add_argument(
        "--ways",
        default="eager,inference",
        metavar="NAMES",
        help="with commas: eager, inference (folded weights), bfloat16, compiled, "
        "compiled-bfloat16, onnx, onnx-int8, openvino, openvino-bfloat16, openvino-int8; or all "
        "that can run here (default: eager,inference)",
    )
    parser.add_argument(
        "--frames", type=int, default=16, metavar="T", help="frames of a clip (default: 16)"
    )
    parser.add_argument(
        "--clip-frames",
        type=int,
        metavar="N",
        help="export with a graph of N frames for clips, as `export --frames N` does; it is timed "
        "in place of N steps (default: none)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="streams or clips at once (default: 1)",
    )
    add_old_spelling(parser, "--batch", "--batch-size", type=int)
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of PyTorch and the runtimes (default: 1)",
    )
    parser.add_argument(
        "--seconds",
        type=number,
        default=30.0,
        metavar="N",
        help="seconds of timing, roughly (default: 30)",
    )
    parser.add_argument(
        "--tube-mask",
        type=number,
        default=0.0,
        metavar="X",
        help="also time the models with this mask ratio in [0, 1)",
    )
    parser.add_argument(
        "--lengths",
        metavar="T,T,...",
        help="also the cost of a new frame after so many frames, beside joint space-time attention",
    )
    parser.add_argument(
        "--memory-limit",
        type=number,
        default=8.0,
        metavar="GIB",
        help="skip a --lengths entry that would take more memory (default: 8)",
    )
    parser.add_argument(
        "--time-limit",
        type=number,
        default=60.0,
        metavar="N",
        help="skip a --lengths entry that would take longer than N seconds (default: 60)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="write bench.md, bench.json and plots into this folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and no table")
    parser.set_defaults(run=run_bench)


def run_bench(options: argparse.Namespace) -> int:
    from benchmarks.models.report import about, legend, save_report, sentences, tables
    from benchmarks.models.runner import SpeedOptions, bench

    defaults = SpeedOptions()
    asked = SpeedOptions(
        models=tuple(options.models) or defaults.models,
        against=() if options.against == "none" else _names(options.against),
        ways=_names(options.ways),
        num_frames=options.frames,
        batch_size=options.batch_size,
        threads=options.threads,
        seconds=options.seconds,
        tube_mask_ratio=options.tube_mask,
        clip_frames=options.clip_frames,
        lengths=_numbers(options.lengths) if options.lengths else (),
        memory_limit=options.memory_limit,
        time_limit=options.time_limit,
    )
    report = bench(asked, on_note=lambda text: print(text, file=sys.stderr, flush=True))
    if options.out:
        save_report(report, options.out)
    if options.json:
        print(as_json(report.to_dict(), indent=2))
        return 0
    console = make_console()
    shown = list(tables(report))
    # Cut to a narrow terminal, the table would lose names and digits; so the terminal wraps it.
    wide = console.options.update(max_width=1000)
    needed = (console.measure(table, options=wide).maximum for table in shown)
    console.width = max(console.width, *needed)
    print(about(report))
    for table in shown:
        console.print(table)
    print(legend(report))
    for text in (*sentences(report), *report.notes):
        print(f"- {text}")
    if options.out:
        print(f"Written to {options.out}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(f"--lengths {text}: give whole numbers, such as 16,64,256.") from error
