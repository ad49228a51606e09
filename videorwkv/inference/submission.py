"""Predictions for a split in the submission format of the benchmark's server.

jester         CSV without header: id;label name
ssv2           CSV without header: id;n1;n2;n3;n4;n5    official numbers, best first
kinetics400    JSON: {"version", "results": {id: [{"label", "score"} x 5]}, "external_data"};
               external_data must say what else the run was trained on; fill it in yourself
others         CSV with header: path,label,score,label2,score2,...,label5,score5; paths as in its
               list

A clip that can't be read or is not on disk is skipped: a prediction is never invented. K classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data import Manifest, Row
from videorwkv.data.background import BACKGROUNDS
from videorwkv.data.formats.kinetics import youtube_id
from videorwkv.errors import DataError, UsageError
from videorwkv.inference.evaluate import Scores, score
from videorwkv.inference.metrics import Scored
from videorwkv.inference.recogniser import Recogniser
from videorwkv.utils.files import csv_text, make_folder, write_atomic
from videorwkv.utils.processes import ALONE, Processes
from videorwkv.utils.words import counted

TOP = 5


class RankedLabels(NamedTuple):
    """The best classes of one clip, best first; its path as in the data set's list."""

    path: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Submission:
    """A file that was written.

    Args:
        path: the file.
        n_written: clips in it.
        unreadable: clips skipped because they could not be read.
        missing: paths skipped because they are listed but not on disk.
    """

    path: Path
    n_written: int
    unreadable: tuple[Scored, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every listed clip is in it."""
        return not (self.unreadable or self.missing)

    def summary(self) -> str:
        """One line: what is in the file and what is not."""
        left_out = [
            f"{len(part)} {what}"
            for part, what in (
                (self.unreadable, "unreadable"),
                (self.missing, "listed and not on disk"),
            )
            if part
        ]
        total = self.n_written + len(self.unreadable) + len(self.missing)
        text = f"{self.path}: {self.n_written}/{counted(total, 'clip')}"
        return f"{text}; skipped: {', '.join(left_out)}" if left_out else text


def predict_split(
    recogniser: Recogniser,
    manifest: Manifest,
    path: str | Path,
    *,
    batch_size: int = 8,
    workers: int = 0,
    cache: str | Path | None = None,
    on_batch: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
) -> Submission:
    """Score the clips of one split, labelled or not, and write the submission file.

    Args:
        recogniser: the model.
        manifest: one split; its name chooses the format.
        path: the file to write, whole or not at all; its folder is made.
        batch_size, workers, cache, on_batch, processes: as in `evaluate`; the first of several
            processes writes the file.

    Raises:
        DataError: no clip could be read, or the model knows classes that the data set lacks.
        UsageError, CheckpointError: the file can't be written.
    """
    path = Path(path)
    # Before the work, which may take hours.
    if path.is_dir():
        raise UsageError(f"{path} is a folder; --submission wants a file.")
    make_folder(path.parent)
    # A background class that training has added is never named.
    strange = sorted(set(recogniser.labels) - {*manifest.labels, *BACKGROUNDS})
    if manifest.name in _FORMATS and strange:
        raise DataError(
            f"{manifest.name}: the model knows classes that this data set lacks, so the benchmark "
            f"server would reject the predictions: {', '.join(map(repr, strange[:3]))}"
            f"{', ...' * (len(strange) > 3)}."
        )
    scores = score(
        recogniser,
        manifest,
        batch_size=batch_size,
        workers=workers,
        cache=cache,
        on_batch=on_batch,
        processes=processes,
    )
    return processes.first(lambda: write_submission(path, manifest, scores))


def write_submission(path: Path, manifest: Manifest, scores: Scores) -> Submission:
    """Write the scores of a manifest's rows; see `predict_split`."""
    answers = [
        _best(manifest, row, clip.scores_K, scores.labels)
        for row, clip in zip(manifest.rows, scores.clips, strict=True)
        if clip.scores_K is not None
    ]
    unreadable = tuple(clip for clip in scores.clips if clip.scores_K is None)
    if not answers:
        raise DataError(
            f"{manifest.name}: none of {len(unreadable)} clips could be read, so nothing is "
            f"written; the first: {unreadable[0].reason}"
        )
    text = _FORMATS.get(manifest.name, _own)(answers, manifest)
    write_atomic(path, text)
    return Submission(path, len(answers), unreadable, tuple(row.name for row in manifest.missing))


def _best(
    manifest: Manifest, row: Row, scores_K: NDArray[np.float64], labels: tuple[str, ...]
) -> RankedLabels:
    hidden = {*BACKGROUNDS} - {*manifest.labels}
    order = np.argsort(-scores_K, kind="stable")
    best = [k for k in order if labels[k] not in hidden][:TOP]
    return RankedLabels(
        manifest.relative_name(row),
        tuple(labels[k] for k in best),
        tuple(float(scores_K[k]) for k in best),
    )


def _number(path: str) -> str:
    """The id of a clip of Jester or Something-Something: its name without suffix."""
    return os.path.splitext(os.path.basename(path))[0]


def _jester(answers: list[RankedLabels], manifest: Manifest) -> str:
    return "".join(f"{_number(answer.path)};{answer.labels[0]}\n" for answer in answers)


def _ssv2(answers: list[RankedLabels], manifest: Manifest) -> str:
    official = manifest.official or {}
    return "".join(
        ";".join([_number(answer.path), *(str(official[label]) for label in answer.labels)]) + "\n"
        for answer in answers
    )


def _kinetics(answers: list[RankedLabels], manifest: Manifest) -> str:
    results: dict[str, Any] = {}
    for answer in answers:
        name = youtube_id(answer.path)
        if name in results:
            raise DataError(f"{answer.path}: a second clip of {name}; the format has room for one.")
        pairs = zip(answer.labels, answer.scores, strict=True)
        results[name] = [{"label": label, "score": value} for label, value in pairs]
    values = {"version": "KINETICS VERSION 1.0", "results": results, "external_data": {}}
    return json.dumps(values, ensure_ascii=False) + "\n"


def _own(answers: list[RankedLabels], manifest: Manifest) -> str:
    count = max(len(answer.labels) for answer in answers)
    names = [("label", "score"), *((f"label{k}", f"score{k}") for k in range(2, count + 1))]
    rows = [["path", *(name for pair in names for name in pair)]]
    for answer in answers:
        pairs = zip(answer.labels, answer.scores, strict=True)
        rows.append([answer.path, *(x for label, s in pairs for x in (label, f"{s:.6f}"))])
    return csv_text(rows, line_end="\n")


_FORMATS: dict[str, Callable[[list[RankedLabels], Manifest], str]] = {
    "jester": _jester,
    "ssv2": _ssv2,
    "kinetics400": _kinetics,
}
