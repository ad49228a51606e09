"""`videorwkv data`: unpack downloads, fill a cache, check clips."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.cli.beside import add_beside
from videorwkv.cli.options import (
    DATA_HELP,
    add_command,
    add_data_options,
    load_data,
    number,
)
from videorwkv.cli.output import as_json, make_console
from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.data.cache import FrameCache
    from videorwkv.data.manifest import Manifest


PREPARE = """\
Unpack downloads, fill a frame cache, pack shards.

With --out, SOURCE is what was downloaded: folders or files with split tars (20bn-jester-v1-00,
...), zips of such parts with their md5, .zip, .tar, .tar.gz and lists. They are recognised by
their content. A folder of SOURCE is unpacked into the folder of the same name in ROOT. Whatever is
missing or broken is listed; the same command continues later: with the next parts, after Ctrl-C or
after a full disk. SOURCE is not changed.

With --cache, the decoded and resized frames of every clip are stored in DIR; `train` and `evaluate`
read them with the same --cache DIR. SOURCE is then a data set, as in `train`; together with --out,
it is what was unpacked.

With --shards, the clips are packed into tars of WebDataset in DIR, split by split, with an index
beside them: a few large files in place of many small ones, on this disk or uploaded to
https:// or s3://. `train DIR` reads them.

The exit code is 1 as long as anything is missing or unreadable."""


def add_data(commands: Commands) -> None:
    """Add `data` with its own commands."""
    parser = add_command(
        commands,
        "data",
        "Unpack, check and benchmark a data set.",
        "  videorwkv data prepare downloads --out jester\n"
        "  videorwkv data check jester:jester\n"
        "  videorwkv data bench my_videos",
    )
    parts = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for add in (_add_prepare, _add_check):
        add(parts)
    add_beside(parts, "data bench")


def _add_prepare(commands: Commands) -> None:
    parser = add_command(
        commands,
        "prepare",
        PREPARE,
        "  videorwkv data prepare downloads --out jester\n"
        "  videorwkv data prepare 20bn-jester-v1-*.zip labels.zip --out jester\n"
        "  videorwkv data prepare my_videos --cache cache\n"
        "  videorwkv data prepare kinetics400:k400 --cache cache --size 224 --store jpeg --workers "
        "8\n"
        "  videorwkv data prepare downloads --out ssv2 --cache ssv2_cache\n"
        "  videorwkv data prepare ssv2:ssv2 --shards ssv2_shards",
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="what was downloaded; with --cache or --shards alone, a data set",
    )
    parser.add_argument("--out", metavar="ROOT", help="unpack into this folder")
    group = parser.add_argument_group("shards")
    group.add_argument("--shards", metavar="DIR", help="pack the clips into tars in this folder")
    group.add_argument(
        "--shard-size",
        type=number,
        metavar="MB",
        help="size in megabytes from which on a shard is full (default: 1000)",
    )
    group = parser.add_argument_group("frame cache")
    group.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="the model's image size; frames are stored a quarter larger, to allow crops (default: "
        "that of the recipe that `train` chooses for these clips)",
    )
    group.add_argument(
        "--timeline",
        action="store_true",
        help="keep whole files, as `train --timeline` and `evaluate --timeline` read them; else "
        "each segment is kept as the clip that it is without --timeline",
    )
    group.add_argument(
        "--store",
        default="auto",
        metavar="KIND",
        help="raw: exact and large; jpeg: about a twelfth of the size, still fast; auto: what the "
        "cache already uses, else raw if all of it fits into a quarter of the memory (default: "
        "auto)",
    )
    group.add_argument(
        "--quality", type=int, default=90, metavar="N", help="JPEG quality, 1 to 100 (default: 90)"
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes that decode (default: one per core)",
    )
    add_data_options(parser)
    parser.set_defaults(run=run_prepare)


def _add_check(commands: Commands) -> None:
    parser = add_command(
        commands,
        "check",
        "Decode every clip and report what is wrong.\n\n"
        "Every frame of every clip of all splits is decoded, in processes that may crash or hang. "
        "Writes\nreport.csv (a verdict and remarks for each clip), bad.csv and good.csv, a data "
        "set that `train`\ntakes. Copies of a clip in another split are bad, all but those in the "
        "split that is scored.\nResults are saved as they arrive: after Ctrl-C, or when clips were "
        "added or changed, the same\ncommand continues.\n\n"
        "The exit code is 1 if any clip is bad.",
        "  videorwkv data check my_videos\n"
        "  videorwkv data check kinetics400:k400 --out k400_check --workers 16 --timeout 60\n"
        "  videorwkv data check clips.csv --quick\n"
        "  videorwkv train my_videos-check/good.csv",
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--out", metavar="FOLDER", help="results and lists go here (default: NAME-check)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes that decode (default: one per core)",
    )
    parser.add_argument(
        "--timeout",
        type=number,
        default=120.0,
        metavar="SECONDS",
        help="time limit for one clip; a clip that takes longer is bad (default: 120)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="read all bytes but decode only the first frames: finds missing, empty and truncated "
        "clips and exact copies, not damaged frames",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="treat damaged clips as bad as well, and leave them out of good.csv",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    add_data_options(parser)
    parser.set_defaults(run=run_check)


def run_prepare(options: argparse.Namespace) -> int:
    if options.out is None and options.cache is None and options.shards is None:
        raise UsageError(
            "data prepare: give --out ROOT to unpack downloads, --cache DIR to fill a frame cache, "
            "--shards DIR to pack shards, or several to do one after the other."
        )
    if options.out is None and len(options.sources) > 1:
        raise UsageError(
            "data prepare: --cache and --shards take one data set; --out ROOT would unpack several "
            "sources."
        )
    if options.shard_size is not None and (options.shards is None or options.shard_size <= 0):
        raise UsageError("data prepare: --shard-size goes with --shards and must be above 0.")
    if options.timeline and options.cache is None:
        raise UsageError("data prepare: --timeline needs --cache DIR.")
    if options.cache is not None:
        # Checked before the hours that unpacking may take; which size is chosen does not matter.
        _cache(options, 1 if options.size is None else options.size)
    code, spec = 0, options.sources[0]
    try:
        if options.out is not None:
            code, spec = _unpack(options)
        if options.cache is not None:
            code = max(code, _fill_cache(options, spec))
        if options.shards is not None:
            code = max(code, _pack(options, spec))
    except KeyboardInterrupt:
        print("Complete files are kept; run the same command to continue.", file=sys.stderr)
        raise
    return code


def _cache(options: argparse.Namespace, size: int) -> FrameCache:
    from videorwkv.data.cache import FrameCache

    if (options.workers is not None and options.workers < 1) or size < 1:
        raise UsageError("data prepare: --workers and --size must be at least 1.")
    return FrameCache.for_images(
        options.cache,
        size,
        store=options.store,
        quality=options.quality,
        frame_rate=options.frame_rate,
    )


def _unpack(options: argparse.Namespace) -> tuple[int, str]:
    """Unpack and say what stands there: the exit code, and the name that `train` takes for it."""
    from videorwkv.data.cache_fill import recognise
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


def _fill_cache(options: argparse.Namespace, spec: str) -> int:
    from videorwkv.data.cache_fill import fill_cache, plan_fill
    from videorwkv.data.timeline import whole_files
    from videorwkv.run.choose import choose, choose_timeline
    from videorwkv.run.recipes import default
    from videorwkv.utils.files import usable_cores

    options.data = spec
    manifest = load_data(options)
    is_timeline = options.timeline
    chosen, why, _ = choose_timeline(manifest) if is_timeline else choose(manifest)
    if is_timeline:
        manifest, _ = whole_files(manifest)
    elif any(row.segment is not None for row in manifest.rows):
        print("each segment is kept as a clip; `train --timeline` reads whole files: --timeline")
    size = chosen.model.image_size if options.size is None else options.size
    cache = replace(_cache(options, size), frame_rate=manifest.frame_rate)
    plan = plan_fill(manifest, cache)
    if options.size is None:
        print(f"{size} px, as `train` chooses: {why}")
    print(plan.describe(), flush=True)
    filled = fill_cache(manifest, plan, workers=options.workers or usable_cores())
    print(f"cached: {counted(filled.n_written, 'clip')} now, {plan.n_present:,} before")
    for clip in filled.unreadable:
        # Most reasons begin with the path themselves.
        print(f"unreadable: {clip.path}: {clip.reason.removeprefix(f'{clip.path}: ')}")
    if filled.unreadable:
        print(f"{counted(len(filled.unreadable), 'clip')} can't be read and not in the cache")
    command = ["videorwkv", "train", spec, "--cache", options.cache]
    command += ["--timeline"] * is_timeline
    # A model of another size would not find the entries.
    if size != chosen.model.image_size:
        command += ["--recipe", "default"]
        if size != default().model.image_size:
            command += ["--set", f"model.image_size={size}"]
    print(f"Train from it, at {size} px: {shlex.join(command)}")
    return int(bool(filled.unreadable))


def _pack(options: argparse.Namespace, spec: str) -> int:
    from videorwkv.data.shards.write import SHARD_SIZE, write_shards
    from videorwkv.utils.progress import Meter

    manifest = load_data(argparse.Namespace(**{**vars(options), "data": spec}))
    print(manifest.summary(), flush=True)
    size = SHARD_SIZE if options.shard_size is None else int(options.shard_size * 1e6)
    with Meter("packing", len(manifest), "clips") as meter:
        written = write_shards(manifest, options.shards, shard_size=size, on_clip=meter.update)
    for path, reason in written.unreadable.items():
        print(f"unreadable: {path}: {reason.removeprefix(f'{path}: ')}")
    print(
        f"{options.shards}: {counted(written.clips, 'clip')} in {counted(written.shards, 'shard')}"
    )
    if written.unreadable:
        print(f"{counted(len(written.unreadable), 'clip')} can't be read and in no shard")
    print(f"Train from them: {shlex.join(['videorwkv', 'train', options.shards])}")
    return int(bool(written.unreadable))


def run_check(options: argparse.Namespace) -> int:
    from videorwkv.data.check import check
    from videorwkv.utils.progress import Meter

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
            report = check(
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
            print(f"interrupted; {out} keeps what is done. Resume with: {again}", file=sys.stderr)
            return 130
    arguments = report.save(out)
    if options.json:
        print(as_json({**report.to_dict(), "out": str(out)}, indent=2))
        return int(bool(report.bad))
    make_console().print(report.table())
    if examples := report.examples():
        print(examples)
    print(
        f"{out}: report.csv; good.csv {len(report.good):,}, bad.csv "
        f"{counted(len(report.bad), 'clip')}"
    )
    if report.good:
        print(f"Train on the good ones: {shlex.join(['videorwkv', *arguments])}")
    return int(bool(report.bad))
