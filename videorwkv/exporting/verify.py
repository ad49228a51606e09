"""An exported file against PyTorch: the same frames through both, each with its own state fed back.

B streams, T frames, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.errors import CheckpointError
from videorwkv.inference.exported import ExportedModel, ExportedState
from videorwkv.models import LCR, Inputs, LCRState

NUM_FRAMES = 64
# A model that makes more than this of rounding can't be verified by comparing runs.
MOST_ROUNDING = 0.01


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a file may be from PyTorch.

    Args:
        logits: largest difference of a logit, as a share of the largest logit (at least of 1).
        probability: largest difference of a class's probability, at any frame.
        top1: share of the frames with the same best class, among those whose two best classes are
            further apart than `margin`: where they are nearer, either is right.
    """

    logits: float
    probability: float
    top1: float

    def margin(self, rounding: float | None) -> float:
        """How far apart two best classes must be to count.

        Args:
            rounding: of `Verification`.
        """
        least = _widened(rounding)
        # Where rounding widens the limit, one class may lose it and the other gain it.
        return 2 * least if least > self.probability else self.probability


TOLERANCES = {
    "float32": Tolerance(logits=1e-4, probability=1e-4, top1=1.0),
    "float16": Tolerance(logits=0.02, probability=0.01, top1=1.0),
    "bfloat16": Tolerance(logits=0.1, probability=0.05, top1=0.98),
    "int8": Tolerance(logits=0.4, probability=0.2, top1=0.95),
}

# What to do about a file that differs.
_NEXT = {
    "float32": "No --precision is nearer: try the other --to, or train the run longer, since "
    "weights near their start can make much of rounding.",
    "float16": "Choose --precision float32.",
    "bfloat16": "Choose --precision float16 or float32.",
    "int8": "Choose another --precision, or calibrate on data like yours (--calibrate DATA).",
}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found.

    Args:
        frames: T, frames of each stream.
        streams: B.
        source: what the frames are.
        logits: largest difference of a logit, as a share of the largest logit (at least of 1).
        probability: largest difference of a probability.
        mean_probability: mean over frames of the largest difference of a probability.
        early: the same over the second quarter of the frames.
        late: the same over the last quarter; above `early` it drifts.
        top1: share of all frames with the same best class.
        decided_top1: the same among the frames that `Tolerance.top1` counts.
        decided: how many those are.
        rounding: how far PyTorch's own float32 is from float64 in the logits, where that was asked.
    """

    frames: int
    streams: int
    source: str
    logits: float
    probability: float
    mean_probability: float
    early: float
    late: float
    top1: float
    decided_top1: float
    decided: int
    rounding: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def summary(self) -> str:
        """One line: the figures."""
        clear = "no clear frame"
        if self.decided:
            clear = f"{self.decided_top1:.1%} of {self._clear_frames()}"
        return (
            f"{self.frames} frames x {self.streams} streams ({self.source}): logits within "
            f"{self.logits:.2g}, probabilities within {self.probability:.2g} "
            f"(mean {self.mean_probability:.2g}; early {self.early:.2g}, late {self.late:.2g}), "
            f"same best class {self.top1:.1%} ({clear})"
        )

    def faults(self, tolerance: Tolerance) -> list[str]:
        """What lies outside the tolerance, in words; empty if nothing does."""
        found = []
        least = _widened(self.rounding)
        for name in ("logits", "probability"):
            value, limit = getattr(self, name), max(getattr(tolerance, name), least)
            # Written so that NaN is a fault.
            if not value <= limit:
                found.append(f"{name} differ by {value:.3g}, allowed {limit:g}")
        if self.decided_top1 < tolerance.top1:
            found.append(
                f"another best class on {1 - self.decided_top1:.1%} of "
                f"{self._clear_frames()}, allowed {1 - tolerance.top1:.1%}"
            )
        # Half-way to the limit after 64 frames: a longer stream would pass it.
        if self.late > max(2 * self.early, tolerance.probability / 2, least):
            found.append(f"the difference grows from {self.early:.3g} to {self.late:.3g}")
        return found

    def _clear_frames(self) -> str:
        return f"{self.decided} clear frame{'' if self.decided == 1 else 's'}"


def verify(
    model: LCR,
    exported: ExportedModel,
    inputs: Inputs,
    *,
    source: str,
    tolerance: Tolerance,
    clip: bool = False,
) -> Verification:
    """Run the frames of `inputs` through both, one after another.

    Args:
        model: the original, on the CPU in evaluation mode.
        exported: the file, open.
        inputs: frames [B, T, H, W, 3] and edges [B, T, H, W].
        source: what they are, for the report.
        tolerance: what is allowed; the caller judges. A model that is outside is run in float64
            too: an untrained one can make 1e-4 of float32's rounding in 64 frames.
        clip: run the file's graph of several frames, which it must have.
    """
    batch_size = inputs.frames_BTHWC.shape[0]
    start = exported.init_state(batch_size)
    if clip:
        assert exported.clip is not None
        source = f"{source}, {exported.clip.frames} frames at a time"
        found_TBK = exported.scan(inputs, start)[0].double().transpose(0, 1).numpy()
    else:
        found_TBK = _run(exported, inputs, start)
    expected_TBK = _run(model, inputs, _same_start(model, exported, start, batch_size))
    is_multilabel = exported.config.multilabel
    compared = partial(compare, source=source, tolerance=tolerance, is_multilabel=is_multilabel)
    found = compared(expected_TBK, found_TBK)
    if found.faults(tolerance):
        exact = copy.deepcopy(model).double()
        exact_TBK = _run(exact, inputs, _same_start(exact, exported, start, batch_size))
        rounding = compared(exact_TBK, expected_TBK).logits
        found = compared(expected_TBK, found_TBK, rounding=rounding)
    return found


def _run(model: LCR | ExportedModel, inputs: Inputs, state: Any) -> NDArray[np.float64]:
    """Logits after every frame, [T, B, K], one frame after another."""
    logits = []
    with torch.inference_mode():
        for t in range(inputs.frames_BTHWC.shape[1]):
            logits_BK, state = model.step(inputs.at(t, t + 1), state)
            logits.append(logits_BK.double().numpy())
    return np.stack(logits)


def _same_start(
    model: LCR, exported: ExportedModel, start: ExportedState, batch_size: int
) -> LCRState:
    """The model's start with the tube mask of the file's."""
    size = exported.height, exported.width
    keep_BK = start.arrays.get("keep")
    if keep_BK is None:
        return model.init_state(batch_size, image_size=size)
    ratio = exported.metadata["tube_mask_ratio"]
    state = model.init_state(batch_size, image_size=size, tube_mask_ratio=ratio)
    return state._replace(keep_BK=torch.from_numpy(keep_BK))


def compare(
    expected_TBK: NDArray[np.float64],
    found_TBK: NDArray[np.float64],
    *,
    source: str,
    tolerance: Tolerance,
    rounding: float | None = None,
    is_multilabel: bool = False,
) -> Verification:
    """Logits of PyTorch and of the file, frame by frame.

    Args:
        expected_TBK: PyTorch's.
        found_TBK: the file's.
        source: what the frames are.
        tolerance: says which frames are clear.
        rounding: of `Verification`, where it is known.
        is_multilabel: whether each class is scored by itself.
    """
    num_frames, streams, _ = expected_TBK.shape
    scale = max(1.0, float(np.abs(expected_TBK).max()))
    score = _sigmoid if is_multilabel else _softmax
    expected_P, found_P = score(expected_TBK), score(found_TBK)
    apart_T = np.abs(expected_P - found_P).max(axis=(1, 2))
    same_TB = expected_TBK.argmax(-1) == found_TBK.argmax(-1)
    # A class that can't be beats the second where there is only one.
    ranked = np.sort(np.concatenate([expected_P, np.zeros((num_frames, streams, 1))], -1), axis=-1)
    clear_TB = ranked[..., -1] - ranked[..., -2] > tolerance.margin(rounding)
    quarter = max(1, num_frames // 4)
    return Verification(
        frames=num_frames,
        streams=streams,
        source=source,
        logits=float(np.abs(expected_TBK - found_TBK).max()) / scale,
        probability=float(apart_T.max()),
        mean_probability=float(apart_T.mean()),
        early=float(apart_T[quarter : 2 * quarter].mean()) if num_frames > 1 else 0.0,
        late=float(apart_T[-quarter:].mean()),
        top1=float(same_TB.mean()),
        decided_top1=float(same_TB[clear_TB].mean()) if clear_TB.any() else 1.0,
        decided=int(clear_TB.sum()),
        rounding=rounding,
    )


def check(found: Verification, precision: str) -> None:
    """Refuse what lies outside the tolerance of its precision.

    Raises:
        CheckpointError: it does; the message says where.
    """
    faults = found.faults(TOLERANCES[precision])
    if faults:
        raise CheckpointError(
            f"The exported {precision} step differs from the model over {found.frames} frames "
            f"({found.source}): {'; '.join(faults)}. Nothing was written. {_NEXT[precision]}"
        )


def _widened(rounding: float | None) -> float:
    """What rounding alone does to a model, and another order of sums with it."""
    return 0.0 if rounding is None else min(10 * rounding, MOST_ROUNDING)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
