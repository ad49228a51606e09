"""How often a stream names a class where none of its classes happens: false alarms an hour.

K classes, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from videorwkv.data.background import BACKGROUNDS, background_places
from videorwkv.data.manifest import Manifest
from videorwkv.errors import DataError, VideoRWKVError
from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.stream import StreamOptions, stream
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from rich.table import Table

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True, eq=False)
class FalseAlarms:
    """What a stream names in videos that show none of its classes.

    Args:
        name: of the data.
        alarms: threshold -> how often a class was named anew.
        seconds: how long the videos are together.
        by_video: path -> the alarms in it, in the order of `alarms`.
        known: videos left out, as they show a class of the run.
        unreadable: path -> why it could not be read.
    """

    name: str
    alarms: Mapping[float, int]
    seconds: float
    by_video: Mapping[str, tuple[int, ...]]
    known: int = 0
    unreadable: Mapping[str, str] | None = None

    def per_hour(self, threshold: float) -> float:
        """False alarms an hour."""
        return self.alarms[threshold] * 3600 / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "name": self.name,
            "hours": self.seconds / 3600,
            "videos": len(self.by_video),
            "known": self.known,
            "thresholds": {
                f"{threshold:g}": {"alarms": count, "per_hour": self.per_hour(threshold)}
                for threshold, count in self.alarms.items()
            },
            "unreadable": dict(self.unreadable or {}),
        }

    def table(self, named: Mapping[float, tuple[float, float]] | None = None) -> Table:
        """False alarms by threshold, for the terminal.

        Args:
            named: threshold -> shares of the known clips that are named right, and wrong.
        """
        from rich.table import Table

        table = Table(title=f"False alarms in {self.seconds / 3600:.2f} h of {self.name}")
        table.add_column("threshold", justify="right")
        if named is not None:
            table.add_column("known clips named right", justify="right")
            table.add_column("named wrong", justify="right")
        table.add_column("false alarms", justify="right")
        table.add_column("an hour", justify="right")
        for threshold, count in self.alarms.items():
            shares = () if named is None else (f"{share:.3f}" for share in named[threshold])
            table.add_row(f"{threshold:g}", *shares, str(count), f"{self.per_hour(threshold):.1f}")
        return table


def count_alarms(
    recogniser: Recogniser,
    manifest: Manifest,
    options: StreamOptions | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    on_video: Callable[[int], None] | None = None,
) -> FalseAlarms:
    """Stream every video of a data set that shows no class of the run, and count what is named.

    An alarm is the moment at which a class becomes the stream's label (`StreamOptions.threshold`).
    Videos whose label the run knows are left out, but those of a background class.

    Args:
        recogniser: the model.
        manifest: the videos, each with or without a label.
        options: how they are streamed; its threshold is not used.
        thresholds: in [0, 1].
        on_video: called with how many videos are done.

    Raises:
        DataError: no video is left, or none can be read.
    """
    options = options or StreamOptions()
    known = set(recogniser.labels) - set(BACKGROUNDS)
    rows = [row for row in manifest.rows if known.isdisjoint(manifest.labels_of(row))]
    if not rows:
        raise DataError(
            f"{manifest.name}: all of its {counted(len(manifest.rows), 'clip')} show classes of "
            "the run, so nothing tells what it names where none of them happens. Give clips of "
            "other classes, of none, or the generated `nothing`."
        )
    rules = [replace(options, threshold=threshold) for threshold in thresholds]
    background = background_places(recogniser.labels)
    by_video: dict[str, tuple[int, ...]] = {}
    unreadable: dict[str, str] = {}
    seconds = 0.0
    for done, row in enumerate(rows, 1):
        try:
            with manifest.open(row) as video:
                counts, length = _alarms(recogniser, video, options, rules, background)
            by_video[row.name] = counts
            seconds += length
        except VideoRWKVError as error:
            unreadable[row.name] = str(error)
        if on_video is not None:
            on_video(done)
    if not by_video:
        raise DataError(
            f"{manifest.name}: none of its {counted(len(rows), 'video')} can be read; the first: "
            f"{next(iter(unreadable.values()))}"
        )
    totals = np.sum(list(by_video.values()), axis=0).tolist()
    return FalseAlarms(
        name=manifest.name,
        alarms=dict(zip(thresholds, totals, strict=True)),
        seconds=seconds,
        by_video=by_video,
        known=len(manifest.rows) - len(rows),
        unreadable=unreadable,
    )


def _alarms(
    recogniser: Recogniser,
    video: Any,
    options: StreamOptions,
    rules: Sequence[StreamOptions],
    background: Sequence[int],
) -> tuple[tuple[int, ...], float]:
    """How often each rule names a class anew in a video; and the video's seconds."""
    labels: list[int | None] = [None] * len(rules)
    counts = [0] * len(rules)
    place = {label: number for number, label in enumerate(recogniser.labels)}
    scores_K = np.zeros(len(place), np.float32)
    time = 0.0
    given = {
        name: getattr(options, name)
        for name in ("fps", "smooth", "gap", "reset_every", "tube_mask_ratio", "motion_mask_ratio")
    }
    with stream(recogniser, video, top=len(place), threshold=1.0, **given) as predictions:
        for one in predictions:
            for label, score in zip(one.labels, one.scores, strict=True):
                scores_K[place[label]] = score
            time = one.time
            for number, rule in enumerate(rules):
                before = None if one.reset else labels[number]
                labels[number] = rule.label(scores_K, before, background)
                counts[number] += labels[number] not in (None, before)
    return tuple(counts), time + 1 / predictions.fps
