"""Recipes: one function = one run. A variant is `dataclasses.replace(parent(), ...)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from videorwkv.data.loader import CLIP_TIMEOUT
from videorwkv.data.transforms import Augmentation, check_views
from videorwkv.errors import ConfigError, UsageError, did_you_mean
from videorwkv.models import LCRConfig, model_config
from videorwkv.utils.options import dataclass_from_dict, dataclass_to_dict, override
from videorwkv.video.base import Sampling


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything of a training run but its data.

    Args:
        model: the model to build; `num_classes` is taken from the data.
        sampling: which frames of a video become a clip.
        augmentation: what is done to the frames of a training clip.
        epochs: passes over the training split; give exactly one of `epochs` and `steps`.
        steps: optimiser steps, whatever the size of the training split.
        repeats: how often an epoch shows each clip, with a new random window each time: few, long
            clips need more than one window per epoch.
        batch_size: clips in a step.
        lr: peak learning rate.
        weight_decay: AdamW's, on matrices and kernels only.
        betas: AdamW's averaging of the gradient and of its square.
        warmup: fraction of the steps in which the learning rate rises.
        min_lr: where the cosine ends, as a fraction of `lr`.
        label_smoothing: fraction of the target that is spread over all classes.
        clip_norm: the gradient's largest norm; 0 leaves it alone.
        precision: `float32`, or `bfloat16` autocast (scan and cell accumulate in float32 anyway).
        loss_frames: `last`, the logits after the last frame; `all`, the mean of the losses at every
            frame in the second half of the clip, so that the model answers early too.
        freeze: parameters that keep the values they start with: names or patterns (`stem`,
            `layers.0`, `*.norm_*`); what lies below a name is meant, too, and `!head` takes out
            again. Batch norms that are frozen keep their statistics. Needs weights to start from.
        layer_decay: factor on the learning rate from each layer to the one below it, with the
            classifier at the full rate and the stem at the lowest; 1: one rate for all.
        ema: decay of the moving average of the weights that is evaluated and kept; 0 is off.
        compile: let PyTorch compile the model's frame.
        checkpoint_frames: activation checkpointing: frames of a clip whose activations are kept at
            a time, the others are recomputed in the backward pass; 0 keeps all.
        seed: of the weights, the order, the sampling, the augmentation and the masks.
        workers: processes that decode and augment; 0 does it in the training process.
        clip_timeout: seconds after which a worker that is still at a clip is ended, and the clip
            counts as unreadable; 0 waits forever.
        eval_every: steps between two validations; 0 validates after every epoch, or after several
            where epochs have fewer than 50 steps: about 20 times in a run.
        checkpoint_minutes: minutes after which a checkpoint is written also between two
            validations, each of which writes one; 0: never.
        views: temporal and spatial views of a clip in validation.
    """

    model: LCRConfig = field(default_factory=LCRConfig)
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int | None = None
    steps: int | None = None
    repeats: int = 1
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.05
    min_lr: float = 0.01
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    loss_frames: Literal["last", "all"] = "last"
    freeze: tuple[str, ...] = ()
    layer_decay: float = 1.0
    ema: float = 0.0
    compile: bool = False
    checkpoint_frames: int = 0
    seed: int = 0
    workers: int = 2
    clip_timeout: float = CLIP_TIMEOUT
    eval_every: int = 0
    checkpoint_minutes: float = 10.0
    views: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError(
                f"Recipe: give epochs or steps, one of them; got epochs={self.epochs}, "
                f"steps={self.steps}."
            )
        for name in ("epochs", "steps", "repeats", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"Recipe: {name} ({value}) must be at least 1.")
        for name in (
            *("weight_decay", "clip_norm", "workers", "clip_timeout", "eval_every", "seed"),
            *("checkpoint_frames", "checkpoint_minutes"),
        ):
            if not 0 <= getattr(self, name) < math.inf:  # NaN is refused as well
                raise ConfigError(f"Recipe: {name} ({getattr(self, name)}) must be 0 or more.")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"Recipe: lr ({self.lr}) must be above 0 and finite; 1e-3 is usual.")
        for name in ("warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"Recipe: {name} ({getattr(self, name)}) must lie in [0, 1).")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                f"Recipe: layer_decay ({self.layer_decay}) must lie in (0, 1]; 1 is one rate for "
                "all layers, 0.75 is usual for fine-tuning."
            )
        if not 0 <= self.min_lr <= 1:
            raise ConfigError(f"Recipe: min_lr ({self.min_lr}) is a fraction of lr, in [0, 1].")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"Recipe: betas {self.betas} must each lie in [0, 1).")
        check_views(self.views, self.model.frame_fit, "Recipe")
        if not self.can_learn_from(self.batch_size, self.sampling.num_frames):
            raise ConfigError(
                "Recipe: batch_size=1 of sampling.num_frames=1 leaves batch norm nothing to compare"
                " with; choose a larger one of them, or model.head_norm='layer'."
            )
        for name, allowed in (
            ("precision", ("float32", "bfloat16")),
            ("loss_frames", ("last", "all")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"Recipe: {name} {value!r}. {did_you_mean(str(value), allowed)}")

    def can_learn_from(self, num_clips: int, num_frames: int) -> bool:
        """Whether so many clips of so many frames make a step: a batch norm needs two frames."""
        return num_clips * num_frames > 1 or self.model.head_norm != "batch"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; `from_dict` is the way back."""
        return dataclass_to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The way back from `to_dict`.

        Raises:
            ConfigError: an unknown key or a value that is not allowed; the message names it.
        """
        return dataclass_from_dict(cls, values, where="recipe")


def default(model_name: str = "lcr_tiny") -> Recipe:
    """A sound start on your own videos: `videorwkv train DATA --recipe default --model NAME`."""
    return Recipe(model=model_config(model_name), epochs=60)


def motion_demo() -> Recipe:
    """The demo: `videorwkv demo`, or `videorwkv train motion --recipe motion_demo`."""
    return Recipe(
        model=model_config("lcr_nano", image_size=64, depth=2, position="rope"),
        sampling=Sampling(num_frames=8, fps=4.0),
        # Nothing but flips: the classes are motions, which a strong crop or a box hides.
        augmentation=replace(Augmentation.off(), flip_probability=0.5),
        steps=600,
        batch_size=16,
        lr=2e-3,
        warmup=0.05,
        loss_frames="all",
        eval_every=100,
        workers=1,
    )


def handwash() -> Recipe:
    """Twelve steps of washing hands, about 66 clips a fold; command: `experiments/handwash.sh`."""
    return Recipe(
        model=model_config("lcr_nano"),
        sampling=Sampling(num_frames=12, fps=6.0),
        augmentation=Augmentation(saturation=0.5, speed=(0.8, 1.25)),
        steps=400,
        repeats=12,
        batch_size=12,
        lr=1e-3,
        weight_decay=0.1,
        betas=(0.9, 0.999),
        warmup=0.08,
        loss_frames="all",
        precision="bfloat16",
        eval_every=100,
        views=(8, 1),
        workers=0,
    )


def finetune(parent: Recipe | None = None) -> Recipe:
    """Few clips, from the weights of another run: `videorwkv train DATA --init RUN`.

    The layers near the pixels, which serve any video, learn slowly; the classifier at the full
    rate.

    Args:
        parent: what is not about fine-tuning; None: `default`.
    """
    return replace(
        parent or default(), lr=1e-3, layer_decay=0.75, warmup=0.1, weight_decay=0.05, ema=0.98
    )


def linear_probe(parent: Recipe | None = None) -> Recipe:
    """What the features of a run are worth as they are: nothing learns but the classifier, with its
    norm and, under `readout="cells"`, the projection of the cells.
    `videorwkv train DATA --init RUN --recipe linear_probe`.

    Args:
        parent: what is not about the probe; None: `default`.
    """
    return replace(
        parent or default(),
        freeze=("*", "!head", "!norm_head", "!cells"),
        lr=5e-3,
        weight_decay=0.0,
        ema=0.98,
    )


# Recipes that start from weights; each is laid over the one that is chosen for the clips.
FROM_WEIGHTS: dict[str, Callable[[Recipe | None], Recipe]] = {
    "finetune": finetune,
    "linear_probe": linear_probe,
}

RECIPES: dict[str, Callable[[], Recipe]] = {
    "default": default,
    "motion_demo": motion_demo,
    "handwash": handwash,
    "finetune": finetune,
    "linear_probe": linear_probe,
}


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RECIPES:
        raise UsageError(f"Unknown recipe {name!r}. {did_you_mean(name, RECIPES)}")
    return RECIPES[name]()


def apply_overrides(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A copy with `["model.width=96", "lr=1e-3", "augmentation.scale=0.5,1"]` set.

    `epochs` and `steps` replace each other: setting one alone clears the other. A run of another
    length has as many validations, unless `eval_every` is set.

    Raises:
        ConfigError: an unknown option or a value that is not allowed; the message names it.
    """
    named = {assignment.partition("=")[0].strip() for assignment in assignments}
    if "steps" in named and "epochs" not in named:
        assignments = [*assignments, "epochs=none"]
    if "epochs" in named and "steps" not in named:
        assignments = [*assignments, "steps=none"]
    changed = override(recipe, assignments)
    if "eval_every" not in named and recipe.eval_every and named & {"steps", "epochs"}:
        # As many validations in a run of another length; 0 suits epochs of any length.
        every = 0
        if recipe.steps and changed.steps:
            every = max(1, round(recipe.eval_every * changed.steps / recipe.steps))
        changed = replace(changed, eval_every=every)
    return changed


def with_model(recipe: Recipe, model_name: str) -> Recipe:
    """The same run with another preset; `frame_fit` belongs to the clips and stays."""
    fit = recipe.model.frame_fit
    return replace(recipe, model=model_config(model_name, frame_fit=fit))
