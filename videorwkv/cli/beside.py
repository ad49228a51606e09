"""Commands whose code stands beside the package, in its repository: `study` and the benchmarks.

They are tools for research on the model. An installation from a checkout (`pip install -e .`) has
them; a wheel has not, and says where they are.
"""

from __future__ import annotations

import argparse
import importlib
import sys
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
        f"{summary}\n\nIts code is not part of the installed package: {_where(command)}",
        f"  videorwkv {command} --help",
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=_refuse, beside=command)


def _refuse(options: argparse.Namespace) -> int:
    raise UsageError(
        f"{options.beside}: its code is not part of the installed package. {_where(options.beside)}"
    )


def _where(command: str) -> str:
    return (
        "It stands in the repository of videorwkv. In a checkout, `pip install -e .` and then "
        f"`videorwkv {command}`."
    )
