"""What `videorwkv data ...` does with its arguments."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.commands import as_json, make_console
from videorwkv.errors import UsageError, VideoRWKVError

if TYPE_CHECKING:
    from videorwkv.data.cache import FrameCache
    from videorwkv.data.manifest import Manifest


def prepare(options: argparse.Namespace) -> int:
    if options.out is None and options.cache is None:
        raise UsageError(
            "data prepare: give --out ROOT to unpack downloads, --cache DIR to fill a frame cache, "
            "or both to do one after the other."
        )
    if options.out is None and len(options.sources) > 1:
        raise UsageError(
            "data prepare: --cache takes one data set; --out ROOT would unpack several sources."
        )
    # Checked before the hours that unpacking may take.
    cache = None if options.cache is None else _cache(options)
    code, spec = 0, options.sources[0]
    try:
        if options.out is not None:
            code, spec = _unpack(options)
        if cache is not None:
            code = max(code, _fill_cache(options, spec, cache))
    except KeyboardInterrupt:
        print("What is complete stays; the same command goes on.", file=sys.stderr)
        raise
    return code


def _cache(options: argparse.Namespace) -> FrameCache:
    from videorwkv.data.cache import FrameCache

    if (options.workers is not None and options.workers < 1) or options.size < 1:
        raise UsageError("data prepare: --workers and --size must be at least 1.")
    return FrameCache.for_images(
        options.cache, options.size, store=options.store, quality=options.quality
    )


def _unpack(options: argparse.Namespace) -> tuple[int, str]:
    """Unpack and say what stands there: the exit code, and the name that `train` takes for it."""
    from videorwkv.commands import load_data
    from videorwkv.data.prepare import recognise
    from videorwkv.data.unpack import unpack

    def load(spec: str) -> Manifest:
        return load_data(argparse.Namespace(**{**vars(options), "data": spec}))

    unpacked = unpack(options.sources, options.out)
    print(unpacked.summary(), flush=True)
    for problem in unpacked.problems:
        print(f"videorwkv: {problem}", file=sys.stderr)
    try:
        spec, manifest = recognise(options.out, " ".join(unpacked.archives), load)
    except VideoRWKVError as error:
        if options.cache is not None:
            raise
        print(f"not a whole data set yet: {error}")
        return int(bool(unpacked.problems)), options.out
    print(manifest.summary())
    if options.cache is None:
        print(f"Train on it: {shlex.join(['videorwkv', 'train', spec])}")
    return int(bool(unpacked.problems)), spec


def _fill_cache(options: argparse.Namespace, spec: str, cache: FrameCache) -> int:
    from videorwkv.commands import load_data
    from videorwkv.data.disk import usable_cores
    from videorwkv.data.prepare import fill_cache, plan_fill
    from videorwkv.train.recipes import default

    options.data = spec
    manifest = load_data(options)
    plan = plan_fill(manifest, cache)
    print(plan.describe(), flush=True)
    filled = fill_cache(manifest, plan, workers=options.workers or usable_cores())
    print(f"cached: {filled.n_written:,} clips now, {plan.n_present:,} before")
    for clip in filled.unreadable:
        # Most reasons begin with the path themselves.
        print(f"unreadable: {clip.path}: {clip.reason.removeprefix(f'{clip.path}: ')}")
    if filled.unreadable:
        print(f"{len(filled.unreadable):,} clips can't be read; they are not in the cache")
    command = ["videorwkv", "train", spec, "--cache", options.cache]
    # A model of another size would not find the entries.
    if options.size != default().model.image_size:
        command += ["--set", f"model.image_size={options.size}"]
    print(f"Train from it, at {options.size} px: {shlex.join(command)}")
    return int(bool(filled.unreadable))


def check(options: argparse.Namespace) -> int:
    from videorwkv.commands import load_data
    from videorwkv.data.check import check as run_check
    from videorwkv.data.meter import Meter

    if options.cache is not None:
        raise UsageError("data check: it reads the clips themselves; leave --cache out.")
    manifest = load_data(options)
    if not options.json:
        print(manifest.summary(), flush=True)
    name = Path(options.data.partition(":")[2] or options.data).stem or "data"
    out = options.out or f"{name}-check"
    with ExitStack() as stack:
        meters: list[Meter] = []

        def show(done: int, total: int) -> None:
            if not meters:
                meters.append(stack.enter_context(Meter("check", total, "clips")))
            meters[0].update(done)

        try:
            report = run_check(
                manifest,
                out,
                workers=options.workers,
                timeout=options.timeout,
                quick=options.quick,
                strict=options.strict,
                on_clip=show,
            )
        except KeyboardInterrupt:
            again = shlex.join(["videorwkv", *options.command_line])
            print(f"interrupted; {out} keeps what is done. Go on with: {again}", file=sys.stderr)
            return 130
    arguments = report.save(out)
    if options.json:
        print(as_json({**report.to_dict(), "out": str(out)}, indent=2))
        return int(bool(report.bad))
    make_console().print(report.table())
    if examples := report.examples():
        print(examples)
    print(f"{out}: report.csv; good.csv {len(report.good):,}, bad.csv {len(report.bad):,} clips")
    if report.good:
        print(f"Train on the good ones: {shlex.join(['videorwkv', *arguments])}")
    return int(bool(report.bad))


def bench(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from videorwkv.commands import load_data
    from videorwkv.data.bench import BenchOptions, unlabelled
    from videorwkv.data.bench import bench as run_bench
    from videorwkv.data.cache import FrameCache

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
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("timings", total=1.0)
        report = run_bench(
            manifest,
            settings,
            cache=cache,
            on_share=lambda share: progress.update(task, completed=share),
        )
    if options.json:
        print(as_json(report.to_dict(), indent=2))
        return 0
    make_console().print(report.table())
    print(report.summary())
    return 0
