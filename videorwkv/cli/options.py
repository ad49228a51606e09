"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

TIMEOUT_HELP = (
    "seconds after which a worker that is still at a clip is ended, and the clip counts as "
    "unreadable; 0 waits forever (default: the run's, 300 for a new one)"
)
RUN_HELP = (
    "a trained run's folder, or RUN/best or RUN/last (default: best if there is one), or a file "
    "that `videorwkv export` wrote"
)
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


# Options that speak of a data set; those of `predict` that do, and that speak of single videos.
DATA_OPTIONS = (
    *("layout", "label_names", "validation_share", "flips", "cache", "fold_by", "folds", "fold"),
)


def load_data(options: argparse.Namespace) -> Manifest:
    """The manifest that `add_data_options`' arguments describe."""
    from videorwkv.data.folds import folds
    from videorwkv.data.load import load_manifest

    manifest = load_manifest(
        options.data,
        validation_share=validation_share(options),
        flips=options.flips,
        layout=options.layout,
        label_names=options.label_names,
    )
    # Not every command that reads a data set has a choice of decoders.
    manifest = replace(manifest, decoder=getattr(options, "decoder", "auto"))
    given = [options.fold_by, options.folds, options.fold]
    if all(value is None for value in given):
        return manifest
    if any(value is None for value in given):
        raise UsageError("--fold-by, --folds and --fold belong together: give all three or none.")
    all_folds = folds(manifest, options.fold_by, options.folds)
    if not 0 <= options.fold < len(all_folds):
        raise UsageError(
            f"--fold {options.fold}: --folds names {len(all_folds)}; allowed: 0 to "
            f"{len(all_folds) - 1}."
        )
    return all_folds[options.fold]


def validation_share(options: argparse.Namespace) -> float:
    """What `--validation-share` says. It has no default there: what was given could not be told."""
    from videorwkv.data.load import VALIDATION_SHARE

    return VALIDATION_SHARE if options.validation_share is None else options.validation_share


def split_of(manifest: Manifest, name: str) -> Manifest:
    """The rows of `--split`; `all` keeps every one."""
    return manifest if name == "all" else manifest.split(name)


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """An option that would have no effect is a mistake."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:  # 0 is a value, and equals False
            raise UsageError(f"--{name.replace('_', '-')} {why}.")


def parse_views(text: str, *, crops: str = "") -> tuple[int, int]:
    """`2x3`, or `2` where `crops` says what it means."""
    clips, _, crops = text.partition("x") if "x" in text else (text, "x", crops)
    if not (clips.isdecimal() and crops.isdecimal() and int(clips) and int(crops)):
        raise UsageError(f"--views {text!r}: wanted temporal x spatial views, such as 2x3.")
    return int(clips), int(crops)
