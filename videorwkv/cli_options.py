"""What several commands have in common: how one is added, which data set, which device."""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

DATA_HELP = (
    "the data set: a folder with a folder per class (DATA/<class>/clip.mp4, or "
    "DATA/{train,validation,test}/<class>/clip.mp4); a CSV file with header path,label[,split]; "
    "a list without header (`path label`, `path,label` or `folder n_frames label`); jester:ROOT, "
    "ssv2:ROOT or kinetics400:ROOT, as they are distributed; or `motion`, a generated one "
    "(motion:train=800,size=64 sets its options). folder:, csv: and list: name the reader"
)


class Parser(argparse.ArgumentParser):
    """One that names the nearest allowed word where it is given an unknown one."""

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            near = get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), n=1)
            message += f". Did you mean {near[0]!r}?" if near else ""
        super().error(message)


def add_command(commands: Commands, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text.splitlines()[0].rstrip("."),
        description=text,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Also after the command; SUPPRESS, or its default would undo one given before it.
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 (default: auto)"
    )


def add_masks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--tube-mask",
        type=float,
        default=0.0,
        metavar="X",
        help="leave out this share of the patches, the same in all frames: cheaper, less accurate; "
        "an exported file keeps to the share that it was exported with",
    )
    group.add_argument(
        "--motion-mask",
        type=float,
        default=0.0,
        metavar="X",
        help="leave out this share of the patches, in each frame those that changed least",
    )


def add_decoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--decoder",
        default="auto",
        metavar="NAME",
        help="what decodes video files: pyav, or torchcodec if it is installed (the same frames); "
        "auto is pyav (default: auto)",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--layout",
        metavar="NAME",
        help="force the layout that is recognised otherwise: 20bn, qualcomm or kaggle (jester); "
        "20bn or qualcomm (ssv2); cvdf, classes or flat (kinetics400); classes or splits (a "
        "folder); space, comma, semicolon, tab or frames (a list)",
    )
    group.add_argument(
        "--label-names",
        metavar="FILE",
        help="one name a line, for labels that are numbers; the first is the name of 0",
    )
    group.add_argument(
        "--validation-share",
        type=float,
        metavar="X",
        help="share of each class held out where the data names no split (default: 0.2)",
    )
    group.add_argument(
        "--flips",
        metavar="FILE",
        help="CSV `label,flipped` of labels that swap in a mirror; turns left-right flips on",
    )
    group.add_argument("--cache", metavar="DIR", help="keep decoded, shrunk frames here")
    group.add_argument(
        "--fold-by", metavar="REGEX", help="its first bracket names a clip's group, in the path"
    )
    group.add_argument(
        "--folds", metavar="SPEC", help="groups of each fold: 001+002,003+004,005+006"
    )
    group.add_argument("--fold", type=int, metavar="K", help="which fold is `test`; 0 is the first")
