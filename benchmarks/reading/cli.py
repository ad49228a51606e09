"""`videorwkv data bench`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_HELP,
    add_command,
    add_data_options,
    add_decoder,
    load_data,
)
from videorwkv.cli.output import as_json, make_console
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_bench(commands: Commands) -> None:
    parser = add_command(
        commands,
        "bench",
        "Time reading, step by step.\n\n"
        "Decoding, resizing, edges and batches are timed one upon the other, for each number of "
        "workers,\nbeside the shortest loop around the decoder that gives the same frames. All are "
        "timed in turn, with\nthe files in memory. DATA may also be a folder with videos in it.",
        "  videorwkv data bench my_videos\n"
        "  videorwkv data bench jester:jester --clips 100 --workers 0,4,8\n"
        "  videorwkv data bench my_videos --train --json > reading.json\n"
        "  videorwkv data bench my_videos --cache cache",
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--frames", type=int, default=16, metavar="T", help="frames of a clip (default: 16)"
    )
    parser.add_argument(
        "--size", type=int, default=224, metavar="N", help="their side in pixels (default: 224)"
    )
    parser.add_argument(
        "--edges",
        default="canny",
        metavar="NAME",
        help="canny, sobel, laplacian or none (default: canny)",
    )
    parser.add_argument(
        "--clips", type=int, default=32, metavar="N", help="read this many at most (default: 32)"
    )
    parser.add_argument(
        "--workers",
        default="0,1,2",
        metavar="N,N",
        help="numbers of worker processes; 0 reads in the process itself (default: 0,1,2)",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="time all so often (default: 5)"
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="random places, crops and colours, as in training; else fixed ones, as in evaluation",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    add_decoder(parser)
    add_data_options(parser)
    parser.set_defaults(run=run_bench)


def run_bench(options: argparse.Namespace) -> int:
    from rich.console import Console

    from benchmarks.reading.rates import BenchOptions, bench, unlabelled
    from videorwkv.data.cache import FrameCache
    from videorwkv.utils.progress import make_bar

    numbers = [text.strip() for text in options.workers.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise UsageError(f"--workers {options.workers!r}: wanted numbers, such as 0,1,2.")
    settings = BenchOptions(
        num_frames=options.frames,
        size=options.size,
        edges=options.edges,
        clips=options.clips,
        workers=tuple(int(number) for number in numbers),
        rounds=options.rounds,
        train=options.train,
    )
    manifest = unlabelled(options.data, options.decoder) or load_data(options)
    cache = None
    if options.cache is not None:
        cache = FrameCache.for_images(options.cache, options.size)
    errors = Console(stderr=True)
    bar = make_bar(errors, "timings", "{task.percentage:>3.0f} %", transient=True)
    with bar:
        task = bar.add_task("", total=1.0)
        report = bench(
            manifest,
            settings,
            cache=cache,
            on_share=lambda share: bar.update(task, completed=share),
        )
    if options.json:
        print(as_json(report.to_dict(), indent=2))
        return 0
    make_console().print(report.table())
    print(report.summary())
    return 0
