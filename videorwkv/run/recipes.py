"""Recipes: one function = one run. A variant is `dataclasses.replace(parent(), ...)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from videorwkv.data.transforms import Augmentation
from videorwkv.errors import UsageError, did_you_mean
from videorwkv.models import model_config
from videorwkv.run.recipe import Recipe as Recipe
from videorwkv.utils.options import override
from videorwkv.video.base import Sampling


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
    (`--init`): `experiments/timeline.sh`. From random weights it learns far slower (LOG.md).

    Cost: 1,600 steps of 12 windows, 18 minutes on one core of an AMD EPYC.
    """
    return replace(
        motion_demo(),
        sampling=Sampling(num_frames=16, fps=4.0),
        timeline=True,
        context=3,
        best_by="f1_50",
        steps=1600,
        repeats=20,
        batch_size=12,
        ema=0.95,
        eval_every=200,
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
        precision="auto",
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
