"""`videorwkv models` and `videorwkv env`: presets with their cost, versions and hardware."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from videorwkv.cli.options import (
    add_command,
)
from videorwkv.cli.output import as_json, make_console
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from videorwkv.cli.options import Commands


def add_models(commands: Commands) -> None:
    parser = add_command(
        commands,
        "models",
        "List the model presets with their parameters and cost.",
        "  videorwkv models\n  videorwkv models 'lcr_*' --classes 27 --json",
    )
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="GLOB", help="pattern of the names to list"
    )
    parser.add_argument(
        "--classes",
        type=int,
        metavar="N",
        help="number of classes of the head (default: the preset's)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.set_defaults(run=run_models)


def add_env(commands: Commands) -> None:
    parser = add_command(
        commands,
        "env",
        "Show versions and hardware for a bug report.",
        "  videorwkv env\n  videorwkv env --json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.set_defaults(run=run_env)


def run_models(options: argparse.Namespace) -> int:
    rows = describe_models(options.pattern, num_classes=options.classes)
    if options.json:
        print(as_json(rows, indent=2))
        return 0
    make_console().print(models_table(rows))
    return 0


def run_env(options: argparse.Namespace) -> int:
    from videorwkv.run.environment import environment

    values = environment()
    if options.json:
        print(as_json(values, indent=2))
    else:
        for name, value in values.items():
            print(f"{name:<16} {value}")
    return 0


def describe_models(pattern: str = "*", *, num_classes: int | None = None) -> list[dict[str, Any]]:
    """Name, size and cost of every preset that matches a glob.

    Args:
        pattern: which presets.
        num_classes: classes of the head; None takes each preset's own.

    Raises:
        UsageError: none matches.
    """
    from videorwkv.errors import did_you_mean
    from videorwkv.models import list_models, model_config
    from videorwkv.models.cost import cost

    names = list_models(pattern)
    if not names:
        raise UsageError(f"No model matches {pattern!r}. {did_you_mean(pattern, list_models())}")
    rows = []
    for name in names:
        config = model_config(name)
        if num_classes is not None:
            config = replace(config, num_classes=num_classes)
        spent = cost(config)
        rows.append(
            {
                "name": name,
                "image_size": config.image_size,
                "frames": spent.num_frames,
                "width": config.width,
                "depth": config.depth,
                "classes": config.num_classes,
                "parameters": spent.parameters,
                "macs_per_frame": spent.macs_per_frame,
                "macs_per_clip": spent.macs_per_clip,
                "flops_per_clip": spent.flops_per_clip,
            }
        )
    return rows


def models_table(rows: list[dict[str, Any]]) -> Table:
    """`describe_models` for the terminal."""
    from rich.table import Table

    table = Table(
        caption="MACs: multiply-accumulates, what papers call FLOPs. FLOPs: two a MAC, what "
        "torch.utils.flop_counter counts.",
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True)
    for name in ("frames", "px", "classes", "M\nparams", "GMACs\na frame", "GMACs\na clip",
                 "GFLOPs\na clip"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            str(row["frames"]),
            str(row["image_size"]),
            str(row["classes"]),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['macs_per_frame'] / 1e9:.3f}",
            f"{row['macs_per_clip'] / 1e9:.2f}",
            f"{row['flops_per_clip'] / 1e9:.2f}",
        )
    return table
