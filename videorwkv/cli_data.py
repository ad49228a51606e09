"""The arguments of `videorwkv data ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videorwkv.cli_options import DATA_HELP, add_command, add_data_options

if TYPE_CHECKING:
    from videorwkv.cli_options import Commands


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
    parser = add_command(commands, "prepare", "Unpack what was downloaded.", "")
    parser.set_defaults(run="commands_data:prepare")


def _add_check(commands: Commands) -> None:
    parser = add_command(commands, "check", "Decode every clip and tell what is wrong.", "")
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    add_data_options(parser)
    parser.set_defaults(run="commands_data:check")


def _add_bench(commands: Commands) -> None:
    parser = add_command(commands, "bench", "Time reading, step by step.", "")
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    add_data_options(parser)
    parser.set_defaults(run="commands_data:bench")
