"""Cross-validation by group: the clips of one group (a session, a person) are in one fold."""

from __future__ import annotations

import re

from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ManifestError, UsageError


def folds(manifest: Manifest, pattern: str, groups: str) -> list[Manifest]:
    """One manifest a fold, whose `test` split is that fold and whose `train` split is the rest.

    Args:
        manifest: all clips; their splits are replaced.
        pattern: regular expression, searched for in each relative path; its capture group 1
            is the group's name, e.g. `HandWash_(\\d+)_`.
        groups: the groups of each fold, e.g. `001+002,003+004,005+006,007+008`.

    Raises:
        UsageError: the pattern has no capture group or is not a regular expression, a group is in
            two folds, or no clip has it.
        ManifestError: a clip does not match, or its group is in no fold.
    """
    compiled = group_pattern(f"Fold pattern '{pattern}'", pattern)
    fold_of: dict[str, int] = {}
    parts = groups.split(",")
    for number, part in enumerate(parts):
        for name in (piece.strip() for piece in part.split("+")):
            if name in fold_of or not name:
                raise UsageError(f"Folds {groups!r}: {name!r} is empty or given twice.")
            fold_of[name] = number
    if len(parts) < 2:
        raise UsageError(f"Folds {groups!r}: at least two are needed, with a comma between them.")

    number_of: dict[Row, int] = {}
    seen = set()
    for place, row in enumerate((*manifest.rows, *manifest.missing)):
        path = manifest.relative_path(row)
        match = compiled.search(path)
        if match is None:
            raise ManifestError(f"{path}: fold pattern '{pattern}' is not found in it.")
        group = match.group(1)
        if group not in fold_of:
            raise ManifestError(f"{path}: its group {group!r} is in no fold of {groups!r}.")
        if place < len(manifest.rows):
            seen.add(group)
        number_of[row] = fold_of[group]
    absent = sorted(set(fold_of) - seen)
    if absent:
        raise UsageError(f"Folds {groups!r}: no clip of group {', '.join(absent)}.")

    def fold(number: int) -> Manifest:
        return manifest.split_by(
            lambda row: "test" if number_of[row] == number else "train",
            notes=[
                f"fold {number} (of 0 to {len(parts) - 1}): test is {parts[number]} by '{pattern}'"
            ],
        )

    return [fold(number) for number in range(len(parts))]


def group_pattern(
    what: str, pattern: str, *, instead: str = "", names: str = "group's name"
) -> re.Pattern[str]:
    """A regular expression whose capture group 1 is the name of a clip's group, or another one.

    Args:
        what: begins the messages.
        pattern: the expression.
        instead: what else may be given, for the message about a missing capture group.
        names: what capture group 1 is, for that message.

    Raises:
        UsageError: it has no capture group, or is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{what}: {error}.") from error
    if compiled.groups < 1:
        raise UsageError(f"{what} needs a capture group, (...), around the {names}{instead}.")
    return compiled
