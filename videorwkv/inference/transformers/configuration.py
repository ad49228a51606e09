"""config.json as transformers reads it: that of a run, whatever else transformers puts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from videorwkv.models import LCRConfig
from videorwkv.run.description import read_description
from videorwkv.run.environment import versions
from videorwkv.run.hub import UNKNOWN
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import FORMAT
from videorwkv.utils.values import SEAL
from videorwkv.video.base import Sampling

# Keys of a run's config.json that are made of others, or no longer true once transformers saves.
_MADE = ("format", "labels", "seed", "init", "versions", "data", SEAL)

# What transformers calls clips of several labels.
MULTILABEL = "multi_label_classification"


class VideoRWKVConfig(PreTrainedConfig):
    """Configuration of an LCR for transformers.

    The number of classes and their names are transformers' own (`num_labels`, `id2label`); all else
    is the recipe's. `VideoRWKVConfig.of` makes one.

    Args:
        recipe: of the run, JSON values (`videorwkv.run.recipes.Recipe.to_dict`).
        flips: label -> label after a horizontal flip, or None.
    """

    model_type = "videorwkv"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["state"]

    recipe: dict[str, Any] | None = None
    flips: dict[str, str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name in _MADE:
            kwargs.pop(name, None)
        num_labels = kwargs.get("num_labels")
        if self.id2label is not None and num_labels not in (None, len(self.id2label)):
            # As for other models: another number of labels means other labels.
            self.id2label: Any = None
            self.label2id: Any = None
        super().__post_init__(**kwargs)
        if self.recipe is None:
            self.recipe = Recipe(model=LCRConfig(), epochs=1).to_dict()
        # A stranger's file is checked before a model is built from it.
        read_description(self._description())
        if self.lcr.multilabel:
            self.problem_type = MULTILABEL  # the pipeline then takes a sigmoid

    @classmethod
    def of(
        cls,
        model: LCRConfig,
        labels: Sequence[str],
        *,
        sampling: Sampling | None = None,
        flips: Mapping[str, str] | None = None,
    ) -> VideoRWKVConfig:
        """The configuration of a model.

        Args:
            model: its options, such as `videorwkv.model_config("lcr_nano")`; the number of classes
                is that of the labels.
            labels: K class names, in the order of the logits.
            sampling: which frames it wants; None: `model.num_frames` frames, spread evenly.
            flips: label -> label after a horizontal flip, or None.
        """
        frames = sampling or Sampling(num_frames=model.num_frames)
        recipe = Recipe(model=model, sampling=frames, epochs=1)
        names = dict(enumerate(labels))
        return cls(
            recipe=recipe.to_dict(),
            flips=None if flips is None else dict(flips),
            id2label=names,
            label2id={label: number for number, label in names.items()},
        )

    @property
    def lcr(self) -> LCRConfig:
        """The options of the model."""
        return Recipe.from_dict(self._recipe()).model

    @property
    def sampling(self) -> Sampling:
        """Which frames it wants."""
        return Recipe.from_dict(self._recipe()).sampling

    @property
    def num_frames(self) -> int:
        """Frames of a clip; transformers' pipeline asks for it."""
        return self.sampling.num_frames

    def to_dict(self) -> dict[str, Any]:
        """What config.json says: a run's, so that `videorwkv predict FOLDER` reads it.

        On what the weights were trained is not known: transformers does not say when they changed.
        """
        return {**super().to_dict(), **self._description(), "format": FORMAT}

    def _recipe(self) -> dict[str, Any]:
        recipe = self.recipe or {}
        model = {**recipe["model"], "num_classes": self.num_labels}
        if self.problem_type is not None:
            model["multilabel"] = self.problem_type == MULTILABEL
        return {**recipe, "model": model}

    def _description(self) -> dict[str, Any]:
        return {
            "recipe": self._recipe(),
            "labels": [str(label) for _, label in sorted(self.id2label.items())],
            "flips": self.flips,
            "data": dict(UNKNOWN),
            "versions": dict(versions()),
        }
