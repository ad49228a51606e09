"""Videos -> vectors: what a model's classifier sees, for search, clustering and a few examples.

N vectors, E features, B batch, V views, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import DataError, UsageError, VideoRWKVError
from videorwkv.inference.evaluate import loader_for, mean_over_views
from videorwkv.inference.exported import ExportedModel
from videorwkv.inference.pacing import paced
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.files import atomic, make_folder

SUFFIXES = (".npz", ".parquet")
# A longer time between two frames of a file, in seconds, is a gap, as in `stream`.
GAP = 2.0


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of clips, or of pieces of them.

    Args:
        vectors_NE: float32, as the classifier gets them.
        paths: N clips.
        labels: of the N clips; empty where there is none.
        splits: of the N clips.
        seconds_N: where each vector's piece begins in its clip; 0 for whole clips.
        bad: path -> reason, of clips that could not be read and have no vector.
    """

    vectors_NE: NDArray[np.float32]
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    seconds_N: NDArray[np.float64]
    bad: dict[str, str] = field(default_factory=dict)

    def labelled(self, split: str) -> Embeddings:
        """Those of one split that have a label."""
        pairs = zip(self.splits, self.labels, strict=True)
        chosen = [n for n, (own, label) in enumerate(pairs) if own == split and label]
        paths, labels, splits = (
            tuple(column[n] for n in chosen) for column in (self.paths, self.labels, self.splits)
        )
        return Embeddings(self.vectors_NE[chosen], paths, labels, splits, self.seconds_N[chosen])

    def save(self, path: str | Path) -> Path:
        """Write a `.npz` (arrays `vectors`, `paths`, `labels`, `splits`, `seconds`) or a `.parquet`
        file (a row each, the vector as a list).

        Raises:
            UsageError: another ending, or pyarrow, which writes Parquet, is not installed.
        """
        path = Path(path)
        check_target(path)
        columns: dict[str, Any] = {
            "paths": np.array(self.paths, dtype=np.str_),
            "labels": np.array(self.labels, dtype=np.str_),
            "splits": np.array(self.splits, dtype=np.str_),
            "seconds": self.seconds_N,
        }
        make_folder(path.parent)
        with atomic(path) as file:
            if path.suffix == ".npz":
                np.savez_compressed(file, vectors=self.vectors_NE, **columns)
            else:
                import pyarrow
                import pyarrow.parquet

                table = {name: values.tolist() for name, values in columns.items()}
                table["vectors"] = list(self.vectors_NE)
                pyarrow.parquet.write_table(pyarrow.table(table), file)
        return path


def check_target(path: Path) -> None:
    """Whether `Embeddings.save` can write such a file.

    Raises:
        UsageError: it can't.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: vectors are written to {' or '.join(SUFFIXES)} files.")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"{path}: writing Parquet needs pyarrow: pip install pyarrow; or give an .npz file."
            ) from error


def embed(
    model: ModelLike,
    manifest: Manifest,
    *,
    every: float | None = None,
    views: tuple[int, int] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    device: str | torch.device = "auto",
    cache: str | Path | None = None,
    clip_timeout: float | None = None,
    on_clip: Callable[[int], None] | None = None,
) -> Embeddings:
    """What the classifier of a model sees of each clip, after the last frame, mean over the views.

    Args:
        model: a model, a `Run`, a run's folder or a `Recogniser`; no exported file, which gives
            scores alone.
        manifest: the clips, with or without labels.
        every: a vector for each so many seconds of a clip in place of one for the whole; the
            memory goes on from piece to piece, as in `stream`.
        views: temporal and spatial views of a clip; a run's own if None, else (1, 1).
        batch_size: views that go through the model at once.
        workers: processes that decode; 0 does it here. With `every`, it is done here.
        device: `auto`, or a device by name.
        cache: folder that keeps decoded, resized frames.
        clip_timeout: as in `evaluate`.
        on_clip: called with the number of clips done.

    Raises:
        UsageError: an exported file, `every` of 0 or less, or together with `views`.
        DataError: no clip could be read.
    """
    if every is not None and not every > 0:
        raise UsageError(f"embed: every ({every}) must be above 0, in seconds.")
    if every is not None and (views is not None or cache is not None):
        raise UsageError(
            "embed: every reads each clip once from end to end, without views or cache."
        )
    recogniser = Recogniser.open(
        model, what="embed", views=views, device=device, clip_timeout=clip_timeout
    )
    if isinstance(recogniser.network, ExportedModel):
        raise UsageError(
            "embed: an exported file gives scores and no vectors; give the run that it was made of."
        )
    found: dict[int, list[tuple[float, Tensor]]] = {}
    bad: dict[str, str] = {}
    rows = manifest.rows
    with recogniser.evaluating(), _seen_by_head(recogniser) as seen:
        if every is not None:
            parts = _pieces(recogniser, manifest, every, seen)
        else:
            parts = _whole(recogniser, manifest, batch_size, workers, cache, seen)
        for index, vectors in parts:
            if isinstance(vectors, str):
                bad[rows[index].name] = vectors
            else:
                found[index] = vectors
            if on_clip is not None:
                on_clip(len(found) + len(bad))
    places = [(index, second, v) for index in sorted(found) for second, v in found[index]]
    if not places:
        raise DataError(
            f"{manifest.name}: no clip could be read: {next(iter(bad.values()), 'none')}"
        )
    return Embeddings(
        torch.stack([vector_E for _, _, vector_E in places]).float().cpu().numpy(),
        tuple(rows[index].name for index, _, _ in places),
        tuple(rows[index].label or "" for index, _, _ in places),
        tuple(rows[index].split for index, _, _ in places),
        np.array([second for _, second, _ in places]),
        bad,
    )


@contextmanager
def _seen_by_head(recogniser: Recogniser) -> Iterator[list[Tensor]]:
    """What the classifier gets, [T, B, E] for each piece of a clip, as the model runs."""
    seen: list[Tensor] = []
    network = recogniser.network
    assert not isinstance(network, ExportedModel)
    handle = network.head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


def _whole(
    recogniser: Recogniser,
    manifest: Manifest,
    batch_size: int,
    workers: int,
    cache: str | Path | None,
    seen: list[Tensor],
) -> Iterator[tuple[int, list[tuple[float, Tensor]] | str]]:
    """A vector for each clip, or why there is none."""
    # Labels that the model does not know are no mistake here.
    loader = loader_for(recogniser, manifest, batch_size=batch_size, workers=workers, cache=cache)
    generator = torch.Generator().manual_seed(0)

    def vectors_of(inputs: Inputs) -> Tensor:
        seen.clear()
        recogniser.scan(inputs, "embed", generator)
        return seen[-1][-1]

    with closing(loader):
        for batch in loader:
            for bad in batch.bad:
                yield bad.index, bad.reason
            if batch.inputs is None:
                continue
            mean_BE = mean_over_views(batch.inputs, batch_size, vectors_of)
            for index, vector_E in zip(batch.indices.tolist(), mean_BE, strict=True):
                yield index, [(0.0, vector_E)]


def _pieces(
    recogniser: Recogniser, manifest: Manifest, every: float, seen: list[Tensor]
) -> Iterator[tuple[int, list[tuple[float, Tensor]] | str]]:
    """Vectors of the pieces of each clip, the last of which may be shorter."""
    from videorwkv.inference.stream import StreamOptions

    rate = StreamOptions().rate(recogniser.sampling)
    for index, row in enumerate(manifest.rows):
        try:
            yield index, list(_pieces_of(recogniser, manifest, row, every, rate, seen))
        except (VideoRWKVError, OSError) as error:
            yield index, str(error)


def _pieces_of(
    recogniser: Recogniser,
    manifest: Manifest,
    row: Row,
    every: float,
    rate: float,
    seen: list[Tensor],
) -> Iterator[tuple[float, Tensor]]:
    state, piece = recogniser.init_state(), 0
    with manifest.open(row) as video, ExitStack() as stack:
        frames = stack.enter_context(closing(paced(video, rate, GAP)))  # type: ignore[type-var]
        vector_E = None
        for one in frames:
            now = int(one.frame.time / every)
            if now > piece and vector_E is not None:
                yield piece * every, vector_E
            piece = now
            seen.clear()
            inputs = recogniser.network.preprocess(one.frame)
            _, state = recogniser.step(inputs, state, video.name)
            vector_E = seen[-1][-1, 0]
        if vector_E is not None:
            yield piece * every, vector_E
