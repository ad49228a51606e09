"""The command `videorwkv`. Nothing heavy is imported before the command that needs it runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import TracebackType

from videorwkv import __version__
from videorwkv.cli.beside import add_beside
from videorwkv.cli.data import add_data
from videorwkv.cli.demo import add_demo
from videorwkv.cli.embed import add_embed
from videorwkv.cli.evaluate import add_evaluate
from videorwkv.cli.export import add_export
from videorwkv.cli.info import add_env, add_models
from videorwkv.cli.options import Parser
from videorwkv.cli.predict import add_predict
from videorwkv.cli.push import add_push
from videorwkv.cli.serve import add_serve
from videorwkv.cli.stream import add_stream
from videorwkv.cli.teach import add_teach
from videorwkv.cli.train import add_train
from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.utils.imports import import_file
from videorwkv.utils.interrupt import Interrupts
from videorwkv.utils.processes import launched
from videorwkv.utils.terminal import Plain, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for wrong use, 1 for any other failure."""
    streams = sys.stdout, sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files and labels can hold what a terminal can't show, or no UTF-8 at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = map(Plain, streams)
    try:
        return _main(arguments)
    finally:
        sys.stdout, sys.stderr = streams


def _main(arguments: Sequence[str] | None) -> int:
    try:
        options = make_parser().parse_args(arguments)
    except KeyboardInterrupt:
        return _interrupted()
    if arguments is None and not options.traceback:
        sys.excepthook = _report_bug
    options.command_line = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # What ends the program lets it finish its files, as Ctrl-C does.
        with Interrupts(), _one_voice(options.command):
            for file in options.imports:
                import_file(file)
            code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VideoRWKVError, OSError) as error:
        if options.traceback:  # a script that asks for it gets the same exit code
            traceback.print_exception(error)
        if not getattr(error, "said_elsewhere", False):
            print(f"videorwkv: error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


# Commands that several processes may share; of the others, each would do all of the work.
_SHARED = ("train", "evaluate", "predict")


@contextmanager
def _one_voice(command: str) -> Iterator[None]:
    """Of several processes that torchrun has started, the first one alone prints; errors of all are
    shown."""
    if os.environ.get("WORLD_SIZE", "1").strip() in ("", "1"):
        yield
        return
    rank, size, _ = launched()
    if command not in _SHARED:
        raise UsageError(
            f"{command} runs as one process, and torchrun has started {size}. Start it without "
            f"torchrun; several processes can share {', '.join(_SHARED)}."
        )
    if rank == 0:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        redirect_stdout(nothing),
        redirect_stderr(nothing),
    ):
        yield


def _interrupted() -> int:
    print("videorwkv: interrupted", file=sys.stderr)
    return 130


def _report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What nobody foresaw, in one line; Python then ends with exit code 1."""
    print(
        f"videorwkv: internal error: {kind.__name__}: {_one_line(error)}. This is a bug: please "
        "report it with what `videorwkv --traceback ...` and `videorwkv env` print.",
        file=sys.stderr,
    )


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser: argparse.ArgumentParser = Parser(
        prog="videorwkv",
        description="Recognise actions in video with LSTM-CrossRWKV, a recurrent model whose cost "
        "grows linearly (arXiv 2411.05636).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Start here:\n"
        "  videorwkv demo                            train and evaluate on generated data\n"
        "  videorwkv train my_videos --out runs/mine train on your own classes, one folder each\n"
        "  videorwkv predict runs/mine clip.mp4      recognise the action in a clip\n\n"
        "`videorwkv COMMAND --help` explains a command and shows examples.",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show Python's traceback of an error"
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE",
        help="run a Python file of yours first, which registers presets (register_model), recipes "
        "(register_recipe) or edge methods (register_edges); repeatable, also after the command",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"videorwkv {__version__}",
        help="show the version; `videorwkv env` shows those of all that it uses",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        *(add_demo, add_train, add_evaluate, add_predict, add_stream, add_export),
        *(add_embed, add_serve, add_teach, add_push),
    ):
        add(commands)
    add_beside(commands, "bench")
    add_beside(commands, "study")
    for add in (add_data, add_models, add_env):
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
