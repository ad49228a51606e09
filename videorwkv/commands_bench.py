"""What `videorwkv bench` does with its arguments."""

from __future__ import annotations

import argparse
import sys

from videorwkv.commands import as_json, make_console
from videorwkv.errors import UsageError


def bench(options: argparse.Namespace) -> int:
    from videorwkv.bench import BenchOptions
    from videorwkv.bench import bench as run_bench
    from videorwkv.bench.summary import sentences

    defaults = BenchOptions()
    asked = BenchOptions(
        models=tuple(options.models) or defaults.models,
        against=() if options.against == "none" else _names(options.against),
        ways=_names(options.ways),
        num_frames=options.frames,
        batch_size=options.batch,
        threads=options.threads,
        seconds=options.seconds,
        tube_mask_ratio=options.tube_mask,
        lengths=_numbers(options.lengths) if options.lengths else (),
        memory_limit=options.memory_limit,
        time_limit=options.time_limit,
    )
    report = run_bench(asked, on_note=lambda text: print(text, file=sys.stderr, flush=True))
    if options.out:
        report.save(options.out)
    if options.json:
        print(as_json(report.to_dict(), indent=2))
        return 0
    console = make_console()
    tables = list(report.tables())
    # Cut to a narrow terminal, the table would lose names and digits; so the terminal wraps it.
    wide = console.options.update(max_width=1000)
    needed = (console.measure(table, options=wide).maximum for table in tables)
    console.width = max(console.width, *needed)
    print(report.about())
    for table in tables:
        console.print(table)
    print(report.legend())
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
