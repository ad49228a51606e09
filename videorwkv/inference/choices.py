"""What was chosen on validation clips for a model, wherever it is kept. K classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorwkv.inference.calibration import Calibration
from videorwkv.inference.exported import ExportedModel
from videorwkv.inference.multilabel import ClassThresholds
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
        run = model.origin if isinstance(model, LCR) else model
        kinds = (Calibration, ClassThresholds)
        if run is None or not any(kind.path(run).is_file() for kind in kinds):
            return cls()
        if isinstance(model, LCR) and not run.has_weights_of(model):
            return cls()  # trained further since: what was chosen is for other weights
        calibration = Calibration.read(run)
        thresholds = ClassThresholds.read(run) if run.recipe.model.multilabel else None
        chosen = {} if calibration is None else calibration.chosen._asdict()
        return cls(**chosen, thresholds_K=None if thresholds is None else thresholds.values_K)
