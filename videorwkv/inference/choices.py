"""What was chosen on validation clips for a model, wherever it is kept. K classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import CheckpointError
from videorwkv.inference.calibration import Calibration
from videorwkv.inference.exported import ExportedModel
from videorwkv.inference.kept import Kept
from videorwkv.inference.multilabel import ClassThresholds
from videorwkv.inference.timeline.choose import TimelineChoice
from videorwkv.inference.timeline.segments import TimelineOptions
from videorwkv.models.lcr import LCR
from videorwkv.run.run import Run


@dataclass(frozen=True, eq=False, kw_only=True)
class Choices:
    """What was chosen for a model; the fields of `Recogniser` of the same names."""

    temperature: float = 1.0
    threshold: float | None = None
    thresholds_K: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, model: Run | LCR | ExportedModel) -> Choices:
        """Those of a run, of an exported file, or of the run that a model is from, as long as it
        has that run's weights.

        Raises:
            CheckpointError: they can't be read, or are those of other classes or weights.
        """
        if isinstance(model, ExportedModel):
            found = model.calibration
            if found is None:
                return cls(thresholds_K=model.thresholds_K)
            return cls(**found._asdict(), thresholds_K=model.thresholds_K)
        run = _run_of(model, Calibration, ClassThresholds)
        if run is None:
            return cls()
        calibration = Calibration.read(run)
        thresholds = ClassThresholds.read(run) if run.recipe.model.multilabel else None
        chosen = {} if calibration is None else calibration.chosen._asdict()
        return cls(**chosen, thresholds_K=None if thresholds is None else thresholds.values_K)


def chosen_timeline(model: Run | LCR | ExportedModel, temperature: float) -> TimelineOptions | None:
    """How probabilities at a temperature become segments, as it was chosen for a model; None where
    it was not. In an exported file it stands with the temperature that it was chosen at.

    Raises:
        CheckpointError: as `Choices.of`, or it was chosen at another temperature.
    """
    if isinstance(model, ExportedModel):
        return model.timeline
    run = _run_of(model, TimelineChoice)
    found = None if run is None else TimelineChoice.read(run)
    if run is None or found is None:
        return None
    if found.temperature != temperature:
        raise CheckpointError(
            f"{found.path(run)} was chosen at temperature {found.temperature:g}, and that of the "
            f"run is {temperature:g} now. Choose again with {found.COMMAND}, or delete the file."
        )
    return found.options


def _run_of(model: Run | LCR, *kinds: type[Kept]) -> Run | None:
    """The run whose choices of some kinds hold for a model; None where there are none."""
    run = model if isinstance(model, Run) else None
    if isinstance(model, LCR):
        run = model.origin
    if run is None or not any(kind.path(run).is_file() for kind in kinds):
        return None
    # Trained further since, a model has other weights than those that they were chosen for.
    return run if isinstance(model, Run) or run.has_weights_of(model) else None
