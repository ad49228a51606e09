"""Baselines without a network: change of small grey frames, and gradients as in HOG.

They have no weights that anybody trained, so a model that does not beat them on a data set has
learnt something else than its actions. N clips, T frames, S side of a grey frame, X features, K
classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from videorwkv.data.loader import CLIP_TIMEOUT
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ConfigError, DataError, VideoRWKVError
from videorwkv.utils.interval import interval_text
from videorwkv.utils.workers import Lost, one_by_one

FRAMES, SIDE, PIECES = 24, 32, 6
# Of the gradients: side of a grey frame, cells on a side, orientations of the whole circle.
GRADIENT_SIDE, CELLS, ORIENTATIONS = 64, 4, 8
# Of the ridge regression, relative to the mean diagonal of the Gram matrix.
RIDGE = 0.05


@dataclass(frozen=True)
class Baseline:
    """How well one baseline does.

    Args:
        name: its features.
        nearest: accuracy of the nearest neighbour by cosine.
        ridge: accuracy of a ridge regression to the classes.
        clips: how many were scored; 0 where it was not noted.
    """

    name: str
    nearest: float
    ridge: float
    clips: int = 0

    @property
    def best(self) -> float:
        """The better of the two accuracies."""
        return max(self.nearest, self.ridge)

    def summary(self) -> str:
        """One line: the name and both accuracies, and how sure the better one is."""
        sure = interval_text(round(self.best * self.clips), self.clips) if self.clips else ""
        return (
            f"baseline {self.name}: nearest neighbour {self.nearest:.4f}, ridge regression "
            f"{self.ridge:.4f}" + f" (the better one, {sure})" * bool(sure)
        )


def baselines(
    train: Manifest,
    test: Manifest,
    on_clip: Callable[[int], None] | None = None,
    *,
    unreadable: Container[str] = (),
    clip_timeout: float = CLIP_TIMEOUT,
) -> list[Baseline]:
    """Learn from the labelled clips of one split and score those of another.

    Clips of `train` that can't be read are skipped; those of `test` count as wrong. A process
    beside this one reads them, so that a clip may crash or hang it. It reads the clips themselves
    and takes no frames from a `FrameCache`: those are resized, and the accuracies would depend on
    whether there is a cache and for which size.

    Args:
        train, test: the two splits.
        on_clip: called with the number of clips read, after each.
        unreadable: paths of clips that are known to be unreadable and are not tried again.
        clip_timeout: seconds after which a clip counts as unreadable; 0 waits forever.

    Raises:
        DataError: a split without a readable, labelled clip; or the process was killed, mostly for
            want of memory.
        ConfigError: a time below 0.
    """
    if not clip_timeout >= 0:
        raise ConfigError(f"baselines: clip_timeout ({clip_timeout}) must be 0 or more.")
    read = 0

    def count() -> None:
        nonlocal read
        read += 1
        if on_clip is not None:
            on_clip(read)

    known_features, known = read_features(train, count, unreadable, clip_timeout)
    asked_features, asked = read_features(test, count, unreadable, clip_timeout)
    total = sum(row.label is not None for row in test.rows)
    found = []
    for name, known_NX in known_features.items():
        asked_NX = asked_features[name]
        nearest = known[(asked_NX @ known_NX.T).argmax(1)]
        ridge = _ridge(known_NX, known, asked_NX)
        right = [float((x == asked).sum() / total) for x in (nearest, ridge)]
        found.append(Baseline(name, right[0], right[1], clips=total))
    return found


def some_clips(manifest: Manifest, limit: int) -> Manifest:
    """The labelled clips; of more than `limit` only so many, spread evenly over the classes."""
    rows = [row for row in manifest.rows if row.label is not None]
    if len(rows) > limit:
        # By class: equal steps over rows in which the classes take turns would leave some out.
        rows.sort(key=lambda row: row.label or "")
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    return replace(manifest, rows=tuple(rows))


def read_features(
    manifest: Manifest, count: Callable[[], None], unreadable: Container[str], clip_timeout: float
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.str_]]:
    """Features [N, X] of the readable, labelled clips by the baselines' names, and their labels;
    arguments and errors as of `baselines`, with `count` called after each clip."""
    labelled = [row for row in manifest.rows if row.label is not None]
    rows = [row for row in labelled if row.name not in unreadable]
    for _ in range(len(labelled) - len(rows)):
        count()
    work = functools.partial(_read_clip, replace(manifest, rows=(), missing=()))
    clips, labels = [], []
    answers = one_by_one(work, rows, timeout=clip_timeout or None)
    for row, answer in zip(rows, answers, strict=True):
        count()
        if isinstance(answer, Lost):
            if not answer.by_its_task:
                raise DataError(
                    f"The process that read {row.name} for the baselines has ended: "
                    f"{answer.reason}. Try again with more free memory."
                )
        elif answer is not None:
            clips.append(answer)
            labels.append(row.label)
    if not clips:
        raise DataError(f"{manifest.name}: no labelled clip could be read for the baselines.")
    return {name: np.stack([x[name] for x in clips]) for name in clips[0]}, np.asarray(labels)


def _read_clip(manifest: Manifest, row: Row) -> dict[str, NDArray[np.float32]] | None:
    """`_features` of one clip; None if it can't be read."""
    try:
        with manifest.open(row) as video:
            clip = video.sample(num_frames=FRAMES, transform=_small)
    except (VideoRWKVError, OSError):
        return None
    return _features(clip.frames_THWC)


def _small(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as two small grey ones, side by side and in three equal channels, as `sample` wants
    RGB. 24 whole frames of 4K video would take 600 MB."""
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    sides_HW = np.zeros((GRADIENT_SIDE, GRADIENT_SIDE + SIDE), np.uint8)
    for side, part_HW in ((GRADIENT_SIDE, sides_HW), (SIDE, sides_HW[:, GRADIENT_SIDE:])):
        small_SS = cv2.resize(grey_HW, (side, side), interpolation=cv2.INTER_AREA)
        part_HW[:side, :side] = small_SS
    return cv2.cvtColor(sides_HW, cv2.COLOR_GRAY2RGB)


def _features(frames_THWC: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Features of one clip for each baseline, of unit length; its frames are those of `_small`."""
    large_TSS = np.ascontiguousarray(frames_THWC[:, :, :GRADIENT_SIDE, 0])
    small_TSS = frames_THWC[:, :SIDE, GRADIENT_SIDE:, 0].astype(np.float32)
    change_TSS = np.abs(np.diff(small_TSS, axis=0))
    gradients_TX = np.stack([_gradients(grey_SS) for grey_SS in large_TSS])
    turned_X = np.abs(np.diff(gradients_TX, axis=0)).mean(0)
    return {
        "motion pieces": _unit([part.mean(0) for part in np.array_split(change_TSS, PIECES)]),
        "motion map": _unit(change_TSS.mean(0)),
        "middle frame": _unit(small_TSS[FRAMES // 2]),
        "gradient mean + change": _unit([_unit(gradients_TX.mean(0)), _unit(turned_X)]),
    }


def _gradients(grey_SS: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histograms of oriented gradients on a grid of cells (Dalal and Triggs, 2005), without the
    overlapping blocks; OpenCV 5 has no HOGDescriptor."""
    x_SS, y_SS = (cv2.Sobel(grey_SS, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    magnitude_SS, angle_SS = cv2.cartToPolar(x_SS, y_SS)
    orientation_SS = (angle_SS * (ORIENTATIONS / (2 * np.pi))).astype(int) % ORIENTATIONS
    cell_S = np.arange(GRADIENT_SIDE) * CELLS // GRADIENT_SIDE
    bin_SS = (cell_S[:, None] * CELLS + cell_S) * ORIENTATIONS + orientation_SS
    bins = CELLS * CELLS * ORIENTATIONS
    return _unit(np.bincount(bin_SS.ravel(), magnitude_SS.ravel(), bins))


def _unit(features: ArrayLike) -> NDArray[np.float32]:
    """As one vector of unit length."""
    features_X = np.ravel(features)
    return np.asarray(features_X / (np.linalg.norm(features_X) + 1e-6), np.float32)


def _ridge(
    known_NX: NDArray[np.float32], known: NDArray[np.str_], asked_NX: NDArray[np.float32]
) -> NDArray[np.str_]:
    names = np.unique(known)
    target_NK = (known[:, None] == names).astype(float)
    mean_X, mean_K = known_NX.mean(0), target_NK.mean(0)
    centred_NX = known_NX - mean_X
    gram_NN = centred_NX @ centred_NX.T
    # More than 0, for clips that are all alike.
    gram_NN[np.diag_indices_from(gram_NN)] += RIDGE * np.trace(gram_NN) / len(gram_NN) + 1e-6
    weights_NK = np.linalg.solve(gram_NN, target_NK - mean_K)
    scores_NK = (asked_NX - mean_X) @ centred_NX.T @ weights_NK + mean_K
    return np.asarray(names[scores_NK.argmax(1)])
