"""Baselines without a network: the change of small grey frames in pieces of time, and simpler ones.

They see what moved, where and when, and nothing of the picture. A model that does not beat them on
a data set has learnt something else than its actions. N clips, T frames, S side of a grey frame, X
features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.manifest import Manifest
from videorwkv.errors import DataError, VideoRWKVError

FRAMES, SIDE, PIECES = 24, 32, 6
# Of the ridge regression, relative to the mean diagonal of the Gram matrix.
RIDGE = 0.05


@dataclass(frozen=True)
class Baseline:
    """How well one baseline does.

    Args:
        name: its features.
        nearest: accuracy of the nearest neighbour by cosine.
        ridge: accuracy of a ridge regression to the classes.
    """

    name: str
    nearest: float
    ridge: float


def baselines(
    train: Manifest, test: Manifest, on_clip: Callable[[int], None] | None = None
) -> list[Baseline]:
    """Learn from the labelled clips of one split and score those of another.

    Clips of `train` that can't be read are skipped; those of `test` count as wrong.

    Args:
        train, test: the two splits.
        on_clip: called with the number of clips read, after each.

    Raises:
        DataError: a split without a readable, labelled clip.
    """
    read = 0

    def count() -> None:
        nonlocal read
        read += 1
        if on_clip is not None:
            on_clip(read)

    known_NTSS, known = _grey(train, count)
    asked_NTSS, asked = _grey(test, count)
    total = sum(row.label is not None for row in test.rows)
    found = []
    for name, pieces in (("motion pieces", PIECES), ("motion map", 1), ("middle frame", 0)):
        known_NX, asked_NX = (_features(x_NTSS, pieces) for x_NTSS in (known_NTSS, asked_NTSS))
        nearest = known[(asked_NX @ known_NX.T).argmax(1)]
        ridge = _ridge(known_NX, known, asked_NX)
        found.append(Baseline(name, *(float((x == asked).sum() / total) for x in (nearest, ridge))))
    return found


def _grey(
    manifest: Manifest, count: Callable[[], None]
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """The readable, labelled clips as small grey frames, uniformly sampled, and their labels."""
    clips, labels = [], []
    for row in manifest.rows:
        if row.label is None:
            continue
        try:
            with manifest.open(row) as video:
                clip = video.sample(num_frames=FRAMES)
        except (VideoRWKVError, OSError):
            continue
        finally:
            count()
        clips.append([_small(image_HWC) for image_HWC in clip.frames_THWC])
        labels.append(row.label)
    if not clips:
        raise DataError(f"{manifest.name}: no labelled clip could be read for the baselines.")
    return np.asarray(clips, np.float32), np.asarray(labels)


def _small(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey_HW, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _features(x_NTSS: NDArray[np.float32], pieces: int) -> NDArray[np.float32]:
    """Mean absolute change in pieces of time, or for none the middle frame, of unit length."""
    parts = [x_NTSS[:, FRAMES // 2, None]]
    if pieces:
        parts = np.array_split(np.abs(np.diff(x_NTSS, axis=1)), pieces, axis=1)
    features_NX = np.concatenate([part.mean(1).reshape(len(part), -1) for part in parts], 1)
    length_N1 = np.linalg.norm(features_NX, axis=1, keepdims=True)
    return np.asarray(features_NX / (length_N1 + 1e-6), np.float32)


def _ridge(
    known_NX: NDArray[np.float32], known: NDArray[np.str_], asked_NX: NDArray[np.float32]
) -> NDArray[np.str_]:
    names = np.unique(known)
    target_NK = (known[:, None] == names).astype(float)
    mean_X, mean_K = known_NX.mean(0), target_NK.mean(0)
    centred_NX = known_NX - mean_X
    gram_NN = centred_NX @ centred_NX.T
    gram_NN[np.diag_indices_from(gram_NN)] += RIDGE * np.trace(gram_NN) / len(gram_NN)
    weights_NK = np.linalg.solve(gram_NN, target_NK - mean_K)
    scores_NK = (asked_NX - mean_X) @ centred_NX.T @ weights_NK + mean_K
    return np.asarray(names[scores_NK.argmax(1)])
