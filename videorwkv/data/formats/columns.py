"""The columns of a table beside path, label and split: which of them would change the training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from videorwkv.data.segments import COLUMNS
from videorwkv.errors import ManifestError

KNOWN = ("path", "label", "split", *COLUMNS)

_SEGMENT = (
    "parts of a file are read from columns called start and end (in seconds), or start_frame and "
    "end_frame (counted from 0, the last one not included)"
)
_BOX = "parts of a frame are not read: crop the clips"
_WEIGHT = "every clip counts the same"
_LABELS = "several labels are read from the column label, with | between them"
NO_SPLIT = "splits are read from a column called split, with train, validation and test"
_CHOICE = "every row is used: leave out the rows that are not wanted"
# Names without blanks, dots and underscores, in small letters.
_REFUSED = {
    **dict.fromkeys(("from", "to", "segment", "segments", "interval", "trim"), _SEGMENT),
    **dict.fromkeys(("t0", "t1", "timestamps", "firstframe", "lastframe"), _SEGMENT),
    **dict.fromkeys(("framefrom", "frameto", "framerange"), _SEGMENT),
    **dict.fromkeys(("bbox", "boundingbox", "box", "roi", "crop"), _BOX),
    **dict.fromkeys(("x1", "y1", "x2", "y2", "xmin", "ymin", "xmax", "ymax"), _BOX),
    **dict.fromkeys(("weight", "weights", "importance", "repeat", "repeats"), _WEIGHT),
    **dict.fromkeys(("oversample", "oversampling", "multiplicity"), _WEIGHT),
    **dict.fromkeys(("labels", "multilabel", "tags", "classes"), _LABELS),
    **dict.fromkeys(("exclude", "excluded", "ignore", "ignored", "skip", "use", "used"), _CHOICE),
    **dict.fromkeys(("include", "included", "keep", "drop", "discard", "isvalid"), _CHOICE),
}  # fmt: skip
# A word of a name that is made of several: start_frame, endTime, loss weight, label_2.
_REFUSED_WORDS = {
    **dict.fromkeys(("start", "end", "stop", "begin", "onset", "offset"), _SEGMENT),
    **dict.fromkeys(("bbox",), _BOX),
}  # fmt: skip
_WEIGHTS = frozenset({"sample", "sampling", "class", "loss", "clip", "row", "label", "instance"})
# Columns that divide the clips, where no column `split` does.
_FOLDS = frozenset({"fold", "folds", "kfold", "cv"})
_SPLITS = frozenset(
    {"set", "subset", "partition", "usage", "datasplit", "istrain", "istest", "isval"}
)

_GROUPS = ("person", "subject", "subj", "patient", "participant", "actor", "performer", "signer",
           "speaker", "volunteer", "user", "driver", "player", "child", "animal", "group",
           "session", "recording", "source", "video", "scene")  # fmt: skip


class Columns(NamedTuple):
    """What a header says beside path, label and split.

    Args:
        group: the column that names who or what was recorded; empty without one.
        unused: the other columns, but one without a name: pandas numbers its rows there.
    """

    group: str
    unused: tuple[str, ...]


def read_columns(header: Sequence[str], where: str) -> Columns:
    """Which columns serve and which are not used.

    Raises:
        ManifestError: a column whose meaning would change what is trained; the message begins with
            `where`, file and line.
    """
    unknown = [name for name in header if name not in KNOWN]
    for name in unknown:
        why = _refusal(name)
        if "split" not in header and _FOLDS.intersection(_words(name)):
            why = "folds are not read: a column split with train and validation names the clips"
        elif "split" not in header and "".join(_words(name)) in _SPLITS:
            why = NO_SPLIT
        if why:
            raise refused(name, where, why)
    found = {word: name for name in reversed(unknown) for word in [_group(name)] if word}
    group = next((found[word] for word in _GROUPS if word in found), "")
    return Columns(group, tuple(name for name in unknown if name not in ("", group)))


def refused(name: str, where: str, why: str) -> ManifestError:
    """The error for a column whose meaning would change what is trained."""
    return ManifestError(
        f"{where}: column {name!r} would change what is trained, and {why}. Rename the column, or "
        "remove it to train without it."
    )


def _refusal(name: str) -> str:
    words = _words(name)
    joined = "".join(words)
    if joined in _REFUSED:
        return _REFUSED[joined]
    if "date" in words or "day" in words:  # start_date
        return ""
    for word in words:
        if word in _REFUSED_WORDS:
            return _REFUSED_WORDS[word]
    if words[-1:] in (["weight"], ["weights"]) and {*words[:-1]} & _WEIGHTS:
        return _WEIGHT
    if re.fullmatch(r"(?:label|class)s?\d+|(?:second|other|extra)(?:ary)?label", joined):
        return _LABELS
    return ""


def _group(name: str) -> str:
    """`patient`, `subject_id`, `PersonID` -> the word for it; else empty."""
    words = [word for word in _words(name) if word not in ("id", "nr", "no", "number", "name")]
    word = words[0].removesuffix("id") if len(words) == 1 else ""
    return word if word in _GROUPS else word.removesuffix("s") if word[:-1] in _GROUPS else ""


def _words(name: str) -> list[str]:
    """`startFrame`, `start_frame`, `Start Frame` -> start, frame."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+", parted.casefold()) if word]
