"""Recipes: one function = one run. A variant is `dataclasses.replace(parent(), ...)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from videorwkv.data.loader import CLIP_TIMEOUT
from videorwkv.data.mixing import Mixing
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
        precision: `float32`; `bfloat16` autocast (scan and cell accumulate in float32 anyway); or
            `float16` autocast with a scaled loss, for GPUs without bfloat16.
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
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
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
        Mixing(mixup=self.mixup, cutmix=self.cutmix)
        if not self.can_learn_from(self.batch_size // self.accumulate, self.sampling.num_frames):
            raise ConfigError(
                "Recipe: batch_size=1 (or a piece of one clip, with accumulate) of "
                "sampling.num_frames=1 leaves batch norm nothing to compare with; choose a larger "
                "one of them, or model.head_norm='layer'."
            )
        for name, allowed in (
            ("precision", ("float32", "bfloat16", "float16")),
            ("clip_sampling", ("all", "balanced")),
            ("loss_frames", ("last", "all")),
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


def motion_timeline() -> Recipe:
    """When movements happen in `motion:timeline=60`, from the weights of a run on clips of `motion`
    (`--init`): `experiments/timeline.sh`. From random weights it learns far slower (LOG.md)."""
    return replace(
        motion_demo(),
        sampling=Sampling(num_frames=16, fps=4.0),
        timeline=True,
        context=3,
        best_by="f1_50",
        steps=250,
        repeats=20,
        batch_size=12,
        ema=0.95,
        eval_every=50,
    )


def pretrain_scenes() -> Recipe:
    """The weights that come with the package as `scenes`: `experiments/scenes.sh`.

    Command: `videorwkv train scenes --recipe pretrain_scenes --out runs/scenes`; with another
    `--model` for weights of one's own to start from (`--init runs/scenes`).

    Cost: 4,000 steps of 16 clips, half a second each on one core of an AMD EPYC.
    """
    return Recipe(
        model=model_config("lcr_pico"),
        sampling=Sampling(num_frames=16),
        # Each clip is drawn as it is: what moves where is the label.
        augmentation=replace(
            Augmentation.off(), flip_probability=0.5, grey_probability=0.3, brightness=0.2
        ),
        epochs=2,
        lr=2e-3,
        warmup=0.05,
        ema=0.998,
        eval_every=1000,
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
    rate, that of the run that the weights are from. Half of that rate was far worse (LOG.md).

    Args:
        parent: what is not about fine-tuning; None: `default`.
    """
    return replace(parent or default(), layer_decay=0.75, warmup=0.1, ema=0.98)


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

# For the data sets of the paper, and for pictures to start from. None of these four has been run:
# the hours are calculated from the arithmetic and an assumed rate; `train DATA --dry-run` measures.
# What they share: a batch that fills a GPU, an average over about an epoch. Mixup, cutmix and
# RandAugment as others use them on these sets; on Jester nobody does, where a hand that is covered
# or mixed with another is no gesture.
_LARGE = Recipe(
    epochs=40,
    batch_size=64,
    lr=1e-3,
    warmup=0.05,
    ema=0.999,
    precision="bfloat16",
    workers=8,
)


def jester() -> Recipe:
    """Jester (27 gestures, 118,562 training clips) from scratch, as in the paper.

    Command: `videorwkv train jester:ROOT --cache DIR --out runs/jester`.

    Cost, calculated and not measured: 19.0 GMAC a clip forward, three times that with the way back:
    114 GFLOP. 40 epochs are 4.7 million clips: 4.4 h at 300 clips a second, a rate assumed for one
    data-centre GPU in bfloat16; on CPUs, do not try. Disk: the download has about 23 GB, a cache of
    frames more (`data prepare` prints how much).

    The paper: 90.83 % on validation with 5.14 M parameters and 22 GMAC a clip. Others: TSM-ResNet50
    96.5 to 97.2 % with 24 M.
    """
    return replace(
        _LARGE,
        # Frames are 100 pixels high: 112 keeps what there is, in as many tokens as 224 has. They
        # are wide, and hands move at their sides.
        model=model_config(
            "lcr_tiny", image_size=112, patch_size=8, frame_fit="stretch", drop_path=0.1
        ),
        sampling=Sampling(num_frames=16),
        augmentation=Augmentation(scale=(0.7, 1.0), rotate=8.0, erase_probability=0.0),
    )


def ssv2() -> Recipe:
    """Something-Something V2 (174 actions, 168,913 training clips).

    Command: `videorwkv train ssv2:ROOT --cache DIR --out runs/ssv2`; as in the paper, from ImageNet
    weights of Vision-RWKV, with `--init vrwkv6:FILE.pth` (the model is then that of the weights).

    Cost, calculated and not measured: 20.2 GMAC a clip forward, 121 GFLOP a training clip (24.5 and
    147 from ImageNet weights). 40 epochs are 6.8 million clips: 6.3 h at 300 clips a second, a rate
    assumed for one data-centre GPU in bfloat16. Disk: the download has about 20 GB.

    The paper's figure could not be found. Others: TSM-ResNet50 63.1 %, VideoMamba-Ti 65.1 to
    66.0 %, TRecViT-B 68.2 %, all from other weights or with far more parameters.
    """
    return replace(
        _LARGE,
        model=model_config("lcr_tiny", drop_path=0.1),
        sampling=Sampling(num_frames=16),
        # What is done counts, not what it looks like; left and right are swapped with their labels.
        augmentation=Augmentation(
            scale=(0.5, 1.0), erase_probability=0.0, rand_augment=4, rand_magnitude=7.0
        ),
        mixup=0.8,
        cutmix=1.0,
    )


def kinetics400() -> Recipe:
    """Kinetics-400 (400 actions, about 240,000 training clips of 10 s) from ImageNet weights.

    Command: `videorwkv train kinetics400:ROOT --init vrwkv6:FILE.pth --out runs/kinetics400`.
    Without `--init` it starts from nothing, which the paper did not try.

    Cost, calculated and not measured: 24.5 GMAC a clip forward, 147 GFLOP a training clip. 30
    epochs are 7.2 million clips: 6.7 h at 300 clips a second, a rate assumed for one data-centre
    GPU in bfloat16, if the disk and the CPUs deliver as many: decoding 10 s of video takes far
    longer than reading 16 frames of a cache. Disk: several hundred GB as distributed.

    The paper's figure could not be found. Others: X3D-S 73.3 % from scratch, TSM-ResNet50 74.1 %,
    VideoMamba-Ti 76.9 to 78.8 %, each with 10 views or more.
    """
    return replace(
        _LARGE,
        model=model_config("lcr_vrwkv6_tiny", drop_path=0.1),
        sampling=Sampling(num_frames=16, fps=7.5),
        augmentation=Augmentation(
            scale=(0.3, 1.0), ratio=(0.75, 4 / 3), rand_augment=4, rand_magnitude=7.0
        ),
        mixup=0.8,
        cutmix=1.0,
        epochs=30,
        lr=5e-4,
        layer_decay=0.75,
        loss_frames="all",
    )


def imagenet() -> Recipe:
    """Pictures as clips of one frame, to start other runs from: ImageNet-1K, or any pictures.

    Command: `videorwkv train imagenet:ROOT --out runs/imagenet`, with a folder of pictures a class;
    then `videorwkv train DATA --init runs/imagenet`.

    Cost, calculated and not measured: 1.5 GMAC a picture forward, 9.2 GFLOP a training picture. 90
    epochs of 1.28 million pictures are 115 million: 10.7 h at 3,000 pictures a second, a rate
    assumed for one data-centre GPU in bfloat16; reading as many takes some 20 CPU cores. Disk:
    about 150 GB.

    Others: the authors of Vision-RWKV reach 76.6 % with VRWKV6-T, which has this body, in 300
    epochs.
    """
    return replace(
        _LARGE,
        model=model_config("lcr_vrwkv6_tiny", drop_path=0.05),
        sampling=Sampling(num_frames=1),
        augmentation=Augmentation(scale=(0.2, 1.0), ratio=(0.75, 4 / 3), rand_augment=2),
        mixup=0.8,
        cutmix=1.0,
        epochs=90,
        batch_size=512,
        workers=16,
    )


# Data sets, by their manifests' names -> the recipe that `train` takes for them.
OF_DATA_SETS: dict[str, Callable[[], Recipe]] = {
    "jester": jester,
    "ssv2": ssv2,
    "kinetics400": kinetics400,
    "imagenet": imagenet,
}

RECIPES: dict[str, Callable[[], Recipe]] = {
    "default": default,
    "motion_demo": motion_demo,
    "motion_timeline": motion_timeline,
    "pretrain_scenes": pretrain_scenes,
    "handwash": handwash,
    "finetune": finetune,
    "linear_probe": linear_probe,
    **OF_DATA_SETS,
}


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RECIPES:
        raise UsageError(f"Unknown recipe {name!r}. {did_you_mean(name, RECIPES)}")
    return RECIPES[name]()


def register_recipe(make: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Add a recipe of one's own under the function's name; a decorator.

    Raises:
        UsageError: there is a recipe of this name already.
    """
    name = make.__name__
    if name in RECIPES:
        raise UsageError(f"register_recipe: there is a recipe {name!r}; choose another name.")
    RECIPES[name] = make
    return make


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
