"""`run.toml`: a training as a file, written by each and repeated with `train --config`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videorwkv.cli.options import DATA_OPTIONS
from videorwkv.errors import ConfigError, UsageError, did_you_mean

if TYPE_CHECKING:
    from videorwkv.run.recipes import Recipe

RUN_FILE = "run.toml"
# Options that the file has beside the recipe, by their names in the namespace.
_KEYS = ("data", *DATA_OPTIONS, "init", "decoder")
_TYPES: dict[str, tuple[Any, str]] = {
    "recipe": (dict, "a table [recipe]"),
    "fold": (int, "a whole number"),
    "validation_share": ((int, float), "a number"),
    "frame_rate": ((int, float), "a number"),
}


def write_run_file(options: argparse.Namespace, recipe: Recipe, folder: Path) -> None:
    """Write the file that repeats a run."""
    from videorwkv.utils.files import write_atomic
    from videorwkv.utils.toml import toml_text

    values: dict[str, Any] = {key: getattr(options, key) for key in _KEYS}
    values = {key: value for key, value in values.items() if value is not None}
    text = toml_text({**values, "recipe": recipe.to_dict()})
    head = f"# videorwkv train --config {folder / RUN_FILE} --out ANOTHER\n"
    write_atomic(folder / RUN_FILE, head + text)


def apply_run_file(options: argparse.Namespace) -> Recipe | None:
    """Take from `--config` what the command line does not give; its recipe, if it has one.

    Raises:
        UsageError: no such file, or no TOML; an option that it does not know.
    """
    from videorwkv.run.recipes import Recipe
    from videorwkv.utils.toml import read_toml

    if options.config is None:
        if options.data is None:
            raise UsageError("train: which data? Give DATA, or --config FILE that names it.")
        return None
    if options.recipe is not None:
        raise UsageError("--config and --recipe exclude each other: the file has a recipe.")
    values = read_toml(options.config)
    for key, value in values.items():
        if key not in (*_KEYS, "recipe"):
            raise UsageError(
                f"{options.config}: unknown option {key!r}. {did_you_mean(key, [*_KEYS, 'recipe'])}"
            )
        wanted, what = _TYPES.get(key, (str, "text"))
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise UsageError(f"{options.config}: {key} is {value!r}; {what} is wanted.")
        if key != "recipe" and getattr(options, key) is None:
            setattr(options, key, value)
    if options.data is None:
        raise UsageError(f"{options.config} names no data: give DATA.")
    if "recipe" not in values:
        return None
    try:
        return Recipe.from_dict(values["recipe"])
    except ConfigError as error:
        raise UsageError(f"{options.config}: {error}") from error
