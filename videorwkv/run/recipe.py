"""What a recipe is: everything of a training run but its data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from videorwkv.data.loader import CLIP_TIMEOUT
from videorwkv.data.mixing import Mixing
from videorwkv.data.transforms import Augmentation, check_views
from videorwkv.errors import ConfigError, did_you_mean
from videorwkv.models import LCRConfig
from videorwkv.preprocess.inputs import HAS_FLOAT64
from videorwkv.preprocess.on_device import ON_DEVICE
from videorwkv.utils.options import dataclass_from_dict, dataclass_to_dict
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
        repeats_together: the repeats of a clip come in one batch (repeated augmentation) and not
            anywhere in the epoch; batch_size must be a multiple of `repeats`.
        clip_sampling: `all`, each clip as often as every other; `balanced`, each class as often as
            every other in an epoch of as many clips.
        mixup: pairs of clips in a batch are blended, with both labels: alpha of the Beta
            distribution that their shares are drawn from; 0 is off, 0.8 usual where it is used.
        cutmix: the same with a box of the other clip; where both are on, each pair is mixed in one
            of the two ways.
        batch_size: clips in a step, on all processes together.
        accumulate: pieces into which a batch is cut, whose gradients are added up, so that less
            memory is needed; batch norm then counts the clips of a piece.
        lr: peak learning rate.
        weight_decay: AdamW's, on matrices and kernels only.
        betas: AdamW's averaging of the gradient and of its square.
        warmup: fraction of the steps in which the learning rate rises.
        min_lr: where the cosine ends, as a fraction of `lr`.
        label_smoothing: fraction of the target that is spread over all classes; 0 where clips have
            several labels, whatever is given.
        class_weights: `balanced`: a clip counts the more in the loss the fewer training clips its
            class has, so that every class counts the same; `none`: each clip counts the same.
        clip_norm: the gradient's largest norm; 0 leaves it alone.
        precision: `float32`; `bfloat16` autocast (scan and cell accumulate in float32 anyway);
            `auto` takes bfloat16 on a GPU that has it, else float32 (CPUs are slower in it); or
            `float16` autocast with a scaled loss, for GPUs without bfloat16.
        loss_frames: `last`, the logits after the last frame; `all`, the mean of the losses at every
            frame in the second half of the clip, so that the model answers early too.
        freeze: parameters that keep the values they start with: names or patterns (`stem`,
            `layers.0`, `*.norm_*`); what lies below a name is meant, too, and `!head` takes out
            again. Batch norms that are frozen keep their statistics. Needs weights to start from.
        layer_decay: factor on the learning rate from each layer to the one below it, with the
            classifier at the full rate and the stem at the lowest; 1: one rate for all.
        ema: decay of the moving average of the weights that is evaluated and kept; 0 is off.
        edges_on: where edge maps of training clips are made: `cpu`, by the workers that decode;
            `device`, where the model is, to the pixel the same (canny, sobel and laplacian); or
            `auto`: on a GPU of CUDA where it can, so that decoding has the CPU.
        compile: let PyTorch compile the model's frame.
        recompute: keep less of a step in memory, and compute what is cheap again on its way back;
            the same numbers. Not with `compile`.
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
        best_by: the accuracy on the validation split that chooses `best`: `top1`, over all clips,
            or `mean_class_accuracy`, in which rare classes count as much as others; with `timeline`
            both are of frames, and `f1_50` is the segmental F1 at an overlap of 0.5. Where clips
            have several labels it is `mean_average_precision`, whatever is given.
        timeline: learn when something happens: from windows of whole files, in which each frame has
            the class of the segment that covers it, or `background` where none does. The loss is
            then at every frame, and `sampling.fps` is needed.
        context: with `timeline`, first frames of a window that do not count in the loss: the model
            warms up on them, as it has begun in the middle of something.
        patience: validations in a row without a better one after which training ends; 0: it never
            ends early.
    """

    model: LCRConfig = field(default_factory=LCRConfig)
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int | None = None
    steps: int | None = None
    repeats: int = 1
    repeats_together: bool = False
    clip_sampling: Literal["all", "balanced"] = "all"
    mixup: float = 0.0
    cutmix: float = 0.0
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.05
    min_lr: float = 0.01
    label_smoothing: float = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    clip_norm: float = 1.0
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    loss_frames: Literal["last", "all"] = "last"
    freeze: tuple[str, ...] = ()
    layer_decay: float = 1.0
    ema: float = 0.0
    edges_on: Literal["auto", "cpu", "device"] = "auto"
    compile: bool = False
    recompute: bool = False
    checkpoint_frames: int = 0
    seed: int = 0
    workers: int = 2
    clip_timeout: float = CLIP_TIMEOUT
    eval_every: int = 0
    checkpoint_minutes: float = 10.0
    views: tuple[int, int] = (1, 1)
    best_by: Literal["top1", "mean_class_accuracy", "f1_50", "mean_average_precision"] = "top1"
    timeline: bool = False
    context: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError(
                f"Recipe: give epochs or steps, one of them; got epochs={self.epochs}, "
                f"steps={self.steps}."
            )
        for name in ("epochs", "steps", "repeats", "batch_size", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"Recipe: {name} ({value}) must be at least 1.")
        for name in (
            *("weight_decay", "clip_norm", "workers", "clip_timeout", "eval_every", "seed"),
            *("checkpoint_frames", "checkpoint_minutes", "patience"),
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
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"Recipe: accumulate ({self.accumulate}) cuts a batch of {self.batch_size} clips "
                "(batch_size) into pieces of less than one; take a smaller one."
            )
        if self.repeats_together and (
            self.batch_size % self.repeats or 1 < self.repeats == self.batch_size
        ):
            raise ConfigError(
                f"Recipe: repeats_together needs a batch_size ({self.batch_size}) of twice repeats "
                f"({self.repeats}) or a higher multiple."
            )
        if self.edges_on == "device" and self.model.edges not in ON_DEVICE:
            raise ConfigError(
                f"Recipe: edges_on='device' makes the edges of {', '.join(ON_DEVICE)}; got "
                f"model.edges={self.model.edges!r}: choose edges_on='cpu', or such edges."
            )
        if self.compile and self.recompute:
            raise ConfigError(
                "Recipe: recompute=true has no effect with compile=true, which decides itself what "
                "to keep; choose one of them."
            )
        Mixing(mixup=self.mixup, cutmix=self.cutmix)
        if not self.can_learn_from(self.batch_size // self.accumulate, self.sampling.num_frames):
            raise ConfigError(
                "Recipe: batch_size=1 (or a piece of one clip, with accumulate) of "
                "sampling.num_frames=1 leaves batch norm nothing to compare with; choose a larger "
                "one of them, or model.head_norm='layer'."
            )
        for name, allowed in (
            ("precision", ("float32", "bfloat16", "float16", "auto")),
            ("clip_sampling", ("all", "balanced")),
            ("loss_frames", ("last", "all")),
            ("edges_on", ("auto", "cpu", "device")),
            (
                "best_by",
                (
                    *("top1", "mean_class_accuracy", "mean_average_precision"),
                    *["f1_50"] * self.timeline,
                ),
            ),
            ("class_weights", ("none", "balanced")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"Recipe: {name} {value!r}. {did_you_mean(str(value), allowed)}")

        self._check_timeline()

    def _check_timeline(self) -> None:
        if not self.timeline:
            if self.context:
                raise ConfigError(f"Recipe: context ({self.context}) needs timeline=true.")
            return
        if self.sampling.fps is None:
            raise ConfigError(
                "Recipe: timeline=true needs frames at a rate: set sampling.fps, such as 6."
            )
        if not 0 <= self.context < self.sampling.num_frames:
            raise ConfigError(
                f"Recipe: context ({self.context}) leaves no frame to learn from; it must lie in "
                f"[0, {self.sampling.num_frames}), the frames of a window (sampling.num_frames)."
            )
        for name, value, allowed in (
            ("class_weights", self.class_weights, "none"),
            ("clip_sampling", self.clip_sampling, "all"),
            ("mixup", self.mixup, 0.0),
            ("cutmix", self.cutmix, 0.0),
            ("views", self.views, (1, 1)),
        ):
            if value != allowed:
                raise ConfigError(
                    f"Recipe: {name} ({value}) is for clips with one label; with timeline=true, "
                    f"which is of the frames of whole files, it must be {allowed}."
                )

    def makes_edges_on(self, device: str) -> bool:
        """Whether the edges of training clips are made on a device of this type, and not by those
        who decode."""
        wanted = self.edges_on == "device" or (self.edges_on == "auto" and device == "cuda")
        return wanted and self.model.edges in ON_DEVICE and device in ("cpu", *HAS_FLOAT64)

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
