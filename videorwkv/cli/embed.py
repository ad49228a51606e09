"""`videorwkv embed`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.cli.options import (
    DATA_HELP,
    DATA_OPTIONS,
    RUN_HELP,
    TIMEOUT_HELP,
    add_batches,
    add_command,
    add_data_options,
    add_decoder,
    add_device,
    batches,
    load_data,
    number,
    parse_views,
    refuse,
    split_of,
)
from videorwkv.cli.output import show_progress
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands
    from videorwkv.data.manifest import Manifest
    from videorwkv.inference.embed import Embeddings


def add_embed(commands: Commands) -> None:
    parser = add_command(
        commands,
        "embed",
        "Turn clips into vectors, for search, clustering, or a few examples a class.\n\nA vector "
        "is what the classifier sees after the last frame. Clips need no labels. With --shots,\n"
        "it is measured how well clips of another split are named by the nearest mean of a few "
        "clips of the\ntrain split; the run need not know the classes.",
        "  videorwkv embed runs/mine my_videos --out vectors.npz\n"
        "  videorwkv embed runs/mine my_videos --every 1 --out seconds.parquet\n"
        "  videorwkv embed runs/mine other_videos --shots 1,2,5,10 --baselines",
    )
    parser.add_argument("model", metavar="RUN", help=RUN_HELP)
    parser.add_argument("data", metavar="DATA", help=f"one video file, or {DATA_HELP}")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="the .npz or .parquet file to write (the latter needs pyarrow)",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which split to embed: train, validation, test or all; with --shots the one that is "
        "named (default: all; with --shots test if there is one, else validation)",
    )
    parser.add_argument(
        "--every",
        type=number,
        metavar="S",
        help="a vector for each S seconds of a clip, not one for the whole; frames go through the "
        "model one after another, in this process",
    )
    parser.add_argument(
        "--shots",
        metavar="N,N",
        help="measure the accuracy with so many examples of each class, such as 1,2,5,10",
    )
    parser.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="how often --shots draws the examples (default: 20)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of --draws (default: 0)")
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="with --shots: the same with features without a network",
    )
    parser.add_argument(
        "--views",
        metavar="TxS",
        help="temporal x spatial views per clip, averaged (default: the run's)",
    )
    add_batches(parser)
    parser.add_argument("--clip-timeout", type=number, metavar="S", help=TIMEOUT_HELP)
    add_decoder(parser)
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run=run_embed)


def run_embed(options: argparse.Namespace) -> int:
    from videorwkv.inference.embed import check_target
    from videorwkv.inference.recogniser import load_run

    if options.out is None and options.shots is None:
        raise UsageError("embed: nothing to do; give --out FILE, --shots N,N or both.")
    if options.shots is None:
        for name in ("draws", "seed", "baselines"):
            if getattr(options, name):
                raise UsageError(f"--{name} needs --shots.")
    if options.shots is not None and options.every is not None:
        raise UsageError("--every does not go with --shots, which names whole clips.")
    if options.every is not None:
        refuse(options, _OF_WHOLE_CLIPS, "does not go with --every, which streams clip after clip")
    shots = None if options.shots is None else _parse_shots(options.shots)
    if options.out is not None:
        check_target(Path(options.out))
    run = load_run(options.model)
    everything = _one_video(options) or load_data(options, run)
    split = options.split or ("all" if shots is None else _asked_split(everything))
    if shots is not None and split in ("all", "train"):
        raise UsageError(
            f"--split {split}: the examples of --shots are from the train split; name another."
        )
    if shots is not None and everything.multilabel:
        raise UsageError(
            f"--shots names one class a clip, and clips of {options.data} have several labels."
        )
    chosen = split_of(everything, split)
    if shots is not None:
        chosen = replace(chosen, rows=everything.split("train").rows + chosen.rows)
    found = _embed(options, chosen)
    for path, reason in found.bad.items():
        print(f"unreadable, left out: {reason if path in reason else f'{path}: {reason}'}")
    if options.out is not None:
        found.save(options.out)
        print(
            f"{len(found.paths):,} vectors of {found.vectors_NE.shape[1]} numbers written to "
            f"{options.out}"
        )
    if shots is not None:
        _print_shots(options, everything, split, found, shots)
    return 1 if found.bad else 0


# Options that have no effect where the frames of a clip are streamed.
_OF_WHOLE_CLIPS = ("views", "batch_size", "workers", "clip_timeout", "cache")
# Options that one video has no use for.
_OF_DATA_SETS = tuple(name for name in DATA_OPTIONS if name != "cache")


def _one_video(options: argparse.Namespace) -> Manifest | None:
    """A data set of one video file without a label."""
    from videorwkv.data.manifest import Row, make_manifest
    from videorwkv.video.base import VIDEO_SUFFIXES

    path = Path(options.data)
    if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
        return None
    refuse(options, _OF_DATA_SETS, f"is for data sets, and {path} is one video")
    video = make_manifest("video", [Row(options.data, None)], root=path.parent)
    return replace(video, decoder=options.decoder or "auto")


def _parse_shots(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--shots {text!r}: wanted whole numbers of 1 or more, such as 1,2,5,10.")
    return sorted({int(part) for part in parts})


def _asked_split(manifest: Manifest) -> str:
    return "test" if "test" in manifest.splits else "validation"


def _embed(options: argparse.Namespace, manifest: Manifest) -> Embeddings:
    from videorwkv.inference.embed import embed

    with show_progress("embed", len(manifest)) as on_clip:
        return embed(
            options.model,
            manifest,
            every=options.every,
            views=parse_views(options.views) if options.views else None,
            **batches(options),
            device=options.device,
            cache=options.cache,
            clip_timeout=options.clip_timeout,
            on_clip=on_clip,
        )


def _print_shots(
    options: argparse.Namespace,
    everything: Manifest,
    split: str,
    found: Embeddings,
    shots: list[int],
) -> None:
    from videorwkv.inference.baselines import read_features
    from videorwkv.inference.few_shots import few_shots

    draws = 20 if options.draws is None else options.draws
    seed = options.seed or 0
    known, asked = found.labelled("train"), found.labelled(split)
    print(f"{options.data}: {split}, examples from train")
    for result in few_shots(
        known.vectors_NE,
        known.labels,
        asked.vectors_NE,
        asked.labels,
        shots,
        draws=draws,
        seed=seed,
    ):
        print(result.summary())
    if not options.baselines:
        return
    known_rows, asked_rows = everything.split("train"), everything.split(split)
    limit = 300.0 if options.clip_timeout is None else options.clip_timeout
    with show_progress("baselines", len(known_rows) + len(asked_rows)) as on_clip:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            on_clip(done)

        known_features, known_labels = read_features(known_rows, count, (), limit)
        asked_features, asked_labels = read_features(asked_rows, count, (), limit)
    for name, known_NX in known_features.items():
        for result in few_shots(
            *(known_NX, known_labels.tolist(), asked_features[name], asked_labels.tolist(), shots),
            draws=draws,
            seed=seed,
        ):
            print(f"baseline {name}, {result.summary()}")
