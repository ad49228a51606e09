"""What is chosen on validation clips and kept beside a run's weights, to be used with these alone.

calibration-best.json   temperature, and the probability from which on a class is named
thresholds-best.json    of several labels: the probability from which on each class holds
timeline-best.json      of a timeline: threshold, lag and what else makes segments of probabilities

`best`, `last` and `model` have their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import write_atomic
from videorwkv.utils.options import dataclass_from_dict, dataclass_to_dict
from videorwkv.utils.values import read_json, sealed

if TYPE_CHECKING:
    from typing_extensions import Self

    from videorwkv.run.run import Run

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Something that was chosen for the weights of a run.

    Args:
        labels: of the run.
        weights_sha256: of the weights.
        data: name and digest of the clips that it was chosen on, and their split.
    """

    # The file's name begins so.
    NAME: ClassVar[str] = ""
    # What chooses again.
    COMMAND: ClassVar[str] = "videorwkv evaluate --choose-thresholds"

    labels: tuple[str, ...]
    weights_sha256: str
    data: Mapping[str, str]

    @classmethod
    def path(cls, run: Run) -> Path:
        """The file of a run's weights."""
        return run.folder / f"{cls.NAME}-{run.which}.json"

    @classmethod
    def read(cls, run: Run) -> Self | None:
        """What is kept with a run's weights; None if there is nothing.

        Raises:
            CheckpointError: it can't be read, or is that of other classes or weights.
        """
        path = cls.path(run)
        if not path.is_file():
            return None
        again = f"Choose again with {cls.COMMAND}, or delete the file."
        try:
            values = read_json(path)
            if values.pop("format", None) != FORMAT:
                raise ValueError("another format")
            found = dataclass_from_dict(cls, values, where=path.name)
        except (ValueError, OSError) as error:
            raise CheckpointError(f"{path} can't be read ({error}). {again}") from error
        if found.labels != run.labels:
            raise CheckpointError(
                f"{path} is for other classes ({', '.join(found.labels[:5])}) than the run's "
                f"({', '.join(run.labels[:5])}). {again}"
            )
        if found.weights_sha256 != run.weights_sha256():
            raise CheckpointError(
                f"{path} was chosen for other weights than {run.weights.name} has now. {again}"
            )
        return found

    def save(self, run: Run) -> Path:
        """Write it beside a run's weights; `CheckpointError` if that fails."""
        values = {"format": FORMAT, **dataclass_to_dict(self)}
        path = self.path(run)
        write_atomic(path, json.dumps(sealed(values), indent=2, ensure_ascii=False) + "\n")
        return path
