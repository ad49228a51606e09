"""Commands whose code stands beside the package, in its repository: `study` and the benchmarks.

They are tools for research on the model. An installation from a checkout (`pip install -e .`) has
them; a wheel has not, and says where they are.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import videorwkv
from videorwkv.cli.options import add_command
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands

ROOT = Path(videorwkv.__file__).resolve().parents[1]
# Command -> module with `add_NAME`, and what the command does.
HOMES = {
    "study": ("studies.cli", "Answer a question about the model with trainings and intervals."),
    "bench": ("benchmarks.models.cli", "Time models on this machine, beside baselines."),
    "data bench": ("benchmarks.reading.cli", "Time reading, step by step."),
}


def add_beside(commands: Commands, command: str) -> None:
    """Add a command of `HOMES`; where its code is not beside the package, one that says so."""
    module, summary = HOMES[command]
    name = command.split()[-1]
    if ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file():
        if str(ROOT) not in sys.path:
            sys.path.append(str(ROOT))
        getattr(importlib.import_module(module), f"add_{name}")(commands)
        return
    parser = add_command(
        commands,
        name,
        f"{summary.rstrip('.')} (in a clone of the repository)\n\n{_where(command)}",
        f"  cd videorwkv && pip install -e . && videorwkv {command} --help",
    )

    def take_all(
        arguments: Sequence[str], _: object = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Whatever is given, options of the command included, which are not known here."""
        if {"-h", "--help"} & set(arguments):
            parser.print_help()
            parser.exit()
        return argparse.Namespace(run=_refuse, beside=command), []

    parser.parse_known_args = take_all  # type: ignore[assignment, method-assign]


def _refuse(options: argparse.Namespace) -> int:
    raise UsageError(f"{options.beside}: {_where(options.beside)}")


def _where(command: str) -> str:
    return (
        "The code of this command stands in the repository of videorwkv beside the package, and is "
        f"not installed with it. In a clone, `pip install -e .` and then `videorwkv {command}`."
    )
