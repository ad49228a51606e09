"""What a label becomes under horizontal flip. Without such a table no clip is ever flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from videorwkv.data.tables import read_csv
from videorwkv.errors import ManifestError, did_you_mean

# Turning Hand belongs here: flipped, a hand turns the other way. A widely used table forgets it.
JESTER_PAIRS = (
    ("Swiping Left", "Swiping Right"),
    ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
)
# Official numbers 86-87, 93-94 and 166-167. "Pulling it right out" (50) means "at once".
SSV2_PAIRS = (
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    (
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
    ),
)


def flip_table(
    pairs: Sequence[tuple[str, str]], labels: Sequence[str]
) -> tuple[dict[str, str] | None, list[str]]:
    """The table of a known data set, and notes on why there is none.

    Args:
        pairs: labels that swap under horizontal flip; every other one keeps its name.
        labels: those of the data set; where one of a pair is not among them, the flipped clips of
            the other would have no class, and the table is None.
    """
    known = set(labels)
    table = {label: label for label in labels}
    for one, other in pairs:
        if (one in known) != (other in known):
            here, absent = (one, other) if one in known else (other, one)
            return None, [f"horizontal flip disabled: the labels have {here!r}, but no {absent!r}"]
        if one in known:
            table[one], table[other] = other, one
    return table, []


def read_flip_table(path: str | Path, labels: Sequence[str]) -> dict[str, str]:
    """CSV `label,flipped` -> what each label becomes when its clip is flipped horizontally.

    Labels that are not in the table are assumed symmetric: list every pair that has a direction.
    One line serves a pair both ways. `ManifestError` on a label that is not in the data set, and
    where two lines contradict each other.
    """
    table: dict[str, str] = {}
    for line, fields in read_csv(path, required=("label", "flipped")):
        label, flipped = fields["label"], fields["flipped"]
        for name in (label, flipped):
            if name not in labels:
                raise ManifestError(
                    f"{path}:{line}: unknown label {name!r}. {did_you_mean(name, labels)}"
                )
        for one, other in ((label, flipped), (flipped, label)):
            if table.setdefault(one, other) != other:
                raise ManifestError(
                    f"{path}:{line}: {one!r} becomes {other!r} here and {table[one]!r} above; "
                    "flipping twice must give the label back."
                )
    return {label: table.get(label, label) for label in labels}


def check_flips(flips: Mapping[str, str], labels: Sequence[str], *, source: str) -> None:
    """`ManifestError` unless every label has a partner, and its partner's partner is itself."""
    if set(flips) != set(labels):
        odd = ", ".join(sorted(set(flips) ^ set(labels)))
        raise ManifestError(
            f"{source}: must name exactly the labels of the data set; differing: {odd}."
        )
    for label, flipped in flips.items():
        if flips.get(flipped) != label:
            raise ManifestError(
                f"{source}: {label!r} becomes {flipped!r}, which becomes {flips.get(flipped)!r}; "
                "flipping twice must give the label back."
            )
