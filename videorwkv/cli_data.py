"""The arguments of `videorwkv data ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videorwkv.cli_options import DATA_HELP, add_command, add_data_options, add_decoder

if TYPE_CHECKING:
    from videorwkv.cli_options import Commands


PREPARE = """\
Unpack what was downloaded; fill a frame cache.

With --out, SOURCE is what was downloaded: folders or files with split tars (20bn-jester-v1-00,
...), zips of such parts with their md5, .zip, .tar, .tar.gz and lists. They are recognised by
what is in them. What lies in a folder of SOURCE is unpacked into the same folder of ROOT. What is
missing or broken is named; the same command goes on later, with the next parts, after Ctrl-C,
after a full disk. SOURCE is not changed.

With --cache, the frames of every clip are stored, shrunk, in DIR; `train` and `evaluate` read
them with the same --cache DIR. SOURCE is then a data set, as in `train`; with --out as well, it
is what was unpacked.

The exit code is 1 while anything is missing or can't be read."""


def add_data(commands: Commands) -> None:
    """Add `data` with its own commands."""
    parser = add_command(
        commands,
        "data",
        "Unpack, check and time a data set.",
        "  videorwkv data prepare downloads --out jester\n"
        "  videorwkv data check jester:jester\n"
        "  videorwkv data bench my_videos",
    )
    parts = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for add in (_add_prepare, _add_check, _add_bench):
        add(parts)


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
        "  videorwkv data prepare downloads --out ssv2 --cache ssv2_cache",
    )
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="downloads; with --cache alone, a data set"
    )
    parser.add_argument("--out", metavar="ROOT", help="unpack into this folder")
    group = parser.add_argument_group("frame cache")
    group.add_argument(
        "--size",
        type=int,
        default=224,
        metavar="N",
        help="the model's image size; frames are kept a quarter larger, for crops (default: 224)",
    )
    group.add_argument(
        "--store",
        default="auto",
        metavar="KIND",
        help="raw: exact, large; jpeg: about a twelfth of it, still fast; auto: as the cache was "
        "begun, else raw if all of it fits into a quarter of the memory (default: auto)",
    )
    group.add_argument(
        "--quality", type=int, default=90, metavar="N", help="of jpeg, 1 to 100 (default: 90)"
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (default: one a core)"
    )
    add_data_options(parser)
    parser.set_defaults(run="commands_data:prepare")


def _add_check(commands: Commands) -> None:
    parser = add_command(
        commands,
        "check",
        "Decode every clip and tell what is wrong.\n\n"
        "Every frame of every clip of all splits is decoded, in processes that may crash or hang. "
        "Writes\nreport.csv (a verdict and remarks for each clip), bad.csv and good.csv, a data "
        "set that `train`\ntakes. Copies of a clip in another split are bad, all but those in the "
        "split that is scored.\nResults are kept as they come: after Ctrl-C, or when clips were "
        "added or changed, the same\ncommand goes on.\n\n"
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
        "--workers", type=int, metavar="N", help="processes that decode (default: one a core)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="for one clip, which is bad if it takes longer (default: 120)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="read all bytes, but decode first frames alone: finds what is missing, empty, cut or "
        "copied byte by byte, not what is damaged",
    )
    parser.add_argument(
        "--strict", action="store_true", help="damaged clips are bad, too, and not in good.csv"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    add_data_options(parser)
    parser.set_defaults(run="commands_data:check")


def _add_bench(commands: Commands) -> None:
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
    parser.set_defaults(run="commands_data:bench")
