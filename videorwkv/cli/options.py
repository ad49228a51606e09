"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import functools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest
    from videorwkv.run.run import Run

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

TIMEOUT_HELP = (
    "time limit in seconds for decoding one clip: a worker process at it is then terminated, and "
    "the clip counts as unreadable; 0 disables the limit (default: the run's, 300 for a new run)"
)
PLAYLISTS_HELP = (
    "follow a playlist (.m3u8, .m3u, .mpd, .ffconcat, .sdp) given by its name: it makes FFmpeg "
    "read other files and open connections. Without this option, none is followed"
)
RUN_HELP = (
    "the folder of a trained run, RUN/best or RUN/last (default: best if it exists); "
    "hf:OWNER/NAME[@REVISION], a run on the Hugging Face Hub; or a file written by `videorwkv "
    "export`"
)
DATA_HELP = (
    "the data set: a folder with one folder per class (DATA/<class>/clip.mp4, or "
    "DATA/{train,validation,test}/<class>/clip.mp4); a CSV file with the header "
    "path,label[,split], and start,end in seconds or start_frame,end_frame where a clip is a "
    "segment of its file; annotations of EPIC-Kitchens, ActivityNet, FineGym, Charades or WLASL; "
    "an annotation list of MMAction2, TSM or VideoMAE without a header (`path "
    "label`, `path,label` or `folder n_frames label`); jester:ROOT, ssv2:ROOT, "
    "kinetics400:ROOT, ucf101:ROOT or hmdb51:ROOT as they are distributed; imagenet:ROOT, a folder "
    "of pictures a class; shards "
    "(WebDataset's tars): their folder, DIR/train-{000000..000012}.tar, or the same at https:// or "
    "s3://; a folder with VideoFolder's metadata.csv or metadata.jsonl; "
    "hf:OWNER/NAME[@REVISION], a data set of the Hugging Face Hub in one of these forms; or "
    "`motion`, `gestures` or `scenes`, generated (motion:train=800,size=64 sets "
    "options). The prefixes folder:, csv:, list: and shards: choose the reader by name"
)


class Parser(argparse.ArgumentParser):
    """An argument parser that suggests the nearest valid choice."""

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
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    return parser


def number(text: str) -> float:
    """The type of an argument that is a number: `nan` and `inf` are none, though Python reads them.

    Raises:
        ArgumentTypeError: it is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a finite number")
    return value


def add_batches(parser: argparse._ActionsContainer) -> None:
    """How many clips go through the model at once, and how many processes read them."""
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="clips per forward pass (default: 8)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="worker processes that decode (default: 2)"
    )


def batches(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_batches` has read, as arguments of `evaluate`, `embed` and `predict_split`."""
    given = {"batch_size": options.batch_size, "workers": options.workers}
    usual = {"batch_size": 8, "workers": 2}
    return {name: usual[name] if value is None else value for name, value in given.items()}


def add_old_spelling(
    parser: argparse.ArgumentParser, old: str, new: str, *, value: str | None = None, **options: Any
) -> None:
    """Keep an option's old name `old` working, out of the help and with a note that names `new`.

    Args:
        parser: has `new` already.
        old: such as `--jobs`.
        new: such as `--workers`.
        value: what an old flag without a value stands for; None: it takes a value, as `new` does.
        options: of `add_argument`, such as `type`.
    """

    class Old(argparse.Action):
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Any,
            option_string: str | None = None,
        ) -> None:
            now = new if value is None else f"{new} {value}"
            print(f"note: {old} is now {now}; the old word works until 0.3.", file=sys.stderr)
            setattr(namespace, self.dest, values if value is None else value)

    dest = new.lstrip("-").replace("-", "_")
    if value is not None:
        options["nargs"] = 0
    parser.add_argument(
        old, dest=dest, action=Old, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **options
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="the device to use: auto, cpu, cuda or cuda:1 (default: auto)",
    )


def add_masks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--tube-mask",
        type=number,
        default=0.0,
        metavar="X",
        help="mask ratio in [0, 1): drop the same random patches in all frames, which is faster "
        "and less accurate; an exported file always uses the ratio that it was exported with",
    )
    group.add_argument(
        "--motion-mask",
        type=number,
        default=0.0,
        metavar="X",
        help="mask ratio in [0, 1): in each frame, skip the patches that changed least",
    )


def add_decoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--decoder",
        metavar="NAME",
        help="the video decoder: pyav, or torchcodec if it is installed (both give the same "
        "frames); auto means pyav (default: auto)",
    )


def add_frame_rate(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--frame-rate",
        type=number,
        metavar="FPS",
        help="frames a second of folders of frames, which have no clock; it matters where frames "
        "are chosen by time, as with sampling.fps (default: the run's, 12 for a new run)",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--layout",
        metavar="NAME",
        help="the layout of the data set, which is otherwise detected: 20bn, qualcomm or kaggle "
        "(jester); "
        "20bn or qualcomm (ssv2); cvdf, classes or flat (kinetics400); splits, classes or kaggle "
        "(imagenet); classes or splits (a folder); space, comma, semicolon, tab, frames or class "
        "(a list)",
    )
    group.add_argument(
        "--label-names",
        metavar="FILE",
        help="the class names of lists and CSV files whose labels are numbers: text, CSV or JSON "
        'with the number beside each name (1 Name; id,name; {"0": "Name"}), or one name per line',
    )
    group.add_argument(
        "--label-by",
        metavar="REGEX",
        help="DATA is a folder of clips whose names tell the label: capture group 1 of this "
        "expression, searched for in each path below DATA, such as 'A(\\d{3})' for NTU RGB+D",
    )
    group.add_argument(
        "--validation-share",
        type=number,
        metavar="X",
        help="fraction of each class used for validation if the data set defines no split "
        "(default: 0.2)",
    )
    group.add_argument(
        "--group-by",
        metavar="NAME",
        help="which clips stay together if the data set defines no split: auto, those of one "
        "person, session or recording by a column or their names; none; or a regular expression "
        "on the clip's path, whose capture group 1 is the group id (default: auto)",
    )
    group.add_argument(
        "--group-column",
        metavar="NAME",
        help="the column of a CSV file that names the groups, in place of --group-by",
    )
    group.add_argument(
        "--flips",
        metavar="FILE",
        help="a CSV file with the columns label,flipped: label pairs that swap under horizontal "
        "flip; enables horizontal flips",
    )
    add_frame_rate(group)
    group.add_argument("--cache", metavar="DIR", help="folder that keeps decoded, resized frames")
    group.add_argument(
        "--fold-by",
        metavar="REGEX",
        help="regular expression on the clip's path; capture group 1 is the group id (subject, "
        "session)",
    )
    group.add_argument(
        "--folds",
        metavar="SPEC",
        help="the group ids of each fold, such as 001+002,003+004,005+006",
    )
    group.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="index of the fold that becomes the test split, from 0",
    )


# The options of `add_data_options`, by their names in the namespace.
DATA_OPTIONS = (
    "layout", "label_names", "label_by", "validation_share", "group_by", "group_column", "flips",
    "frame_rate", "cache", "fold_by", "folds", "fold",
)  # fmt: skip


def data_name(data: str) -> str:
    """The name for a folder of runs on a data set: `clips` of `some/clips.csv`."""
    from videorwkv.utils.hub import is_hub, local_name
    from videorwkv.utils.remote import is_address

    if is_hub(data) and not is_address(data):
        return local_name(data)
    return PurePath(data.partition(":")[0]).stem or "data"


def load_data(options: argparse.Namespace, run: Run | None = None) -> Manifest:
    """The manifest that `add_data_options`' arguments describe.

    A `run` of a version that held out each clip by itself gets these splits again.
    """
    from videorwkv.data.folds import folds
    from videorwkv.data.load import load_manifest

    load = functools.partial(
        load_manifest,
        options.data,
        validation_share=validation_share(options),
        flips=options.flips,
        layout=options.layout,
        label_names=options.label_names,
        label_by=options.label_by,
        group_column=options.group_column,
    )
    manifest = load(group_by=options.group_by)
    given = options.group_by or options.group_column
    if run is not None and given is None and run.is_split_anew(manifest):
        by_path = load(group_by="none")
        if by_path.held_out and by_path.digest == run.data["digest"]:
            manifest = by_path
    manifest = read_as_asked(manifest, options, run)
    cut = [options.fold_by, options.folds, options.fold]
    if all(value is None for value in cut):
        return manifest
    if any(value is None for value in cut):
        raise UsageError("--fold-by, --folds and --fold belong together: give all three or none.")
    all_folds = folds(manifest, options.fold_by, options.folds)
    if not 0 <= options.fold < len(all_folds):
        raise UsageError(
            f"--fold {options.fold}: --folds names {len(all_folds)}; allowed: 0 to "
            f"{len(all_folds) - 1}."
        )
    return all_folds[options.fold]


def read_as_asked(
    manifest: Manifest, options: argparse.Namespace, run: Run | None = None
) -> Manifest:
    """The same with the decoder and the frame rate of the `options`, or the rate of a `run`."""
    # Not every command that reads a data set has a choice of decoders.
    decoder = getattr(options, "decoder", None) or "auto"
    rate = frame_rate(options, run)
    # Some data sets have a rate of their own.
    return replace(
        manifest, decoder=decoder, frame_rate=manifest.frame_rate if rate is None else rate
    )


def frame_rate(options: argparse.Namespace, run: Run | None) -> float | None:
    """`--frame-rate`, else that of the run."""
    from videorwkv.video.source import check_frame_rate

    check_frame_rate(options.frame_rate)
    if options.frame_rate is not None or run is None:
        rate: float | None = options.frame_rate
        return rate
    return run.data.get("frame_rate")


def validation_share(options: argparse.Namespace) -> float:
    """The given `--validation-share`, else its default.

    The parser stores None, so that `refuse` can tell whether it was given.
    """
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


def parse_views(text: str) -> tuple[int, int]:
    """`2x3`, or `2` for `2x1`."""
    clips, _, crops = text.partition("x") if "x" in text else (text, "x", "1")
    if not (clips.isdecimal() and crops.isdecimal() and int(clips) and int(crops)):
        raise UsageError(
            f"--views {text!r}: wanted temporal x spatial views, such as 2x3, or 2 for 2x1."
        )
    return int(clips), int(crops)
