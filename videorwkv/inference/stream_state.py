"""What a stream remembers, as a file to go on from. S sources, K classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.stream_options import Scores
from videorwkv.inference.track import Track
from videorwkv.run.tensors import read_metadata, read_tensors, tensors_bytes
from videorwkv.utils.files import write_atomic
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.values import parse_json, sealed, unsealed
from videorwkv.utils.words import counted

FORMAT = 1
# Under this key of the metadata stands what is no tensor; the state's tensors begin with PREFIX.
KEY = "videorwkv_stream"
PREFIX = "state."


@dataclass(frozen=True)
class SavedRow:
    """One source of a saved stream.

    Args:
        scores_K: smoothed probabilities; None before the first frame.
        label: number of the class that was named.
        age: seconds of video in the state.
    """

    scores_K: Scores | None
    label: int | None
    age: float


@dataclass(frozen=True)
class Saved:
    """A saved stream.

    Args:
        state: of the model, S streams.
        rows: of the sources, in order.
        note: what the user should know of; empty if nothing.
    """

    state: Any
    rows: tuple[SavedRow, ...]
    note: str


def write_state(
    path: Path, recogniser: Recogniser, state: Any, tracks: Sequence[Track], fps: float
) -> None:
    """Write a stream's state as a safetensors file.

    Raises:
        CheckpointError: it can't be written.
    """
    scores_SK = torch.zeros(len(tracks), len(recogniser.labels))
    for row, track in enumerate(tracks):
        if track.scores_K is not None:
            scores_SK[row] = torch.from_numpy(track.scores_K)
    about = {
        "format": FORMAT,
        "weights_sha256": recogniser.weights_sha256(),
        "masks": dataclass_to_dict(recogniser.masks),
        "fps": fps,
        "sources": [
            {
                "name": track.name,
                "label": track.label,
                "age": track.age,
                "has_scores": track.scores_K is not None,
            }
            for track in tracks
        ],
    }
    tensors = {PREFIX + name: x for name, x in state.to_dict().items()}
    text = json.dumps(sealed(about), ensure_ascii=False)
    write_atomic(path, tensors_bytes({**tensors, "scores_SK": scores_SK}, {KEY: text}))


def read_state(path: Path, recogniser: Recogniser, start: Any, names: Sequence[str]) -> Saved:
    """What `write_state` wrote, for the same model.

    Args:
        path: the file.
        recogniser: that will go on.
        start: its state of S streams before their first frame.
        names: of the S sources, in order.

    Raises:
        UsageError: no such file, or one for another model, mask or number of sources.
        CheckpointError: no state, or a damaged one.
    """
    if not path.is_file():
        raise UsageError(
            f"--load-state {path}: no such file. `videorwkv stream ... --save-state` writes one."
        )
    text = read_metadata(path).get(KEY)
    if text is None:
        raise CheckpointError(f"{path} is no state of a stream: --save-state did not write it.")
    try:
        about = unsealed(parse_json(text))
        if about["format"] != FORMAT:
            raise CheckpointError(
                f"{path}: format {about['format']}; this version reads format {FORMAT}. Begin "
                "without --load-state."
            )
        sources = about["sources"]
        if about["weights_sha256"] != recogniser.weights_sha256():
            raise UsageError(
                f"{path} is the state of another model: its weights are not those given here. "
                "Give the run that it was saved with, or begin without --load-state."
            )
        if about["masks"] != dataclass_to_dict(recogniser.masks):
            raise UsageError(
                f"{path} was saved with other masks ({about['masks']}). Give the same ones, or "
                "begin without --load-state."
            )
        if len(sources) != len(names):
            raise UsageError(
                f"{path} is the state of {counted(len(sources), 'source')} "
                f"({', '.join(str(one['name']) for one in sources)}); got {len(names)}. Give as "
                "many, in the same order."
            )
        tensors = read_tensors(path)
        scores_SK = tensors.pop("scores_SK")
        plain = {name.removeprefix(PREFIX): x for name, x in tensors.items()}
        rows = tuple(
            SavedRow(
                scores_SK[row].numpy() if one["has_scores"] else None,
                None if one["label"] is None else int(one["label"]),
                float(one["age"]),
            )
            for row, one in enumerate(sources)
        )
        state = start.from_dict(plain)
        others = [
            one["name"] for one, name in zip(sources, names, strict=True) if one["name"] != name
        ]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, UsageError):
            raise
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}). Begin without --load-state."
        ) from error
    note = ""
    if others:
        note = f"{path} was saved for other sources ({', '.join(map(str, others))})"
    return Saved(state, rows, note)
