"""Before the first step: may the folder be used, with which recipe, on which clips."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from videorwkv.data import Loader, Manifest, make_loader
from videorwkv.data.background import with_background
from videorwkv.data.dataset import ClipDataset, make_dataset
from videorwkv.data.frame_rate import frame_rate_note
from videorwkv.data.mixing import Mixing
from videorwkv.data.order import Order
from videorwkv.data.timeline_dataset import TimelineDataset
from videorwkv.errors import CheckpointError, DataError, UsageError
from videorwkv.models.shipped import NOTHING
from videorwkv.run.pretrained import Fit, Pretrained, read_pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import (
    Run,
    clips_digest,
    first_names,
    place_digest,
    read_run,
    save_config,
)
from videorwkv.run.tensors import require_fitting
from videorwkv.utils.device import resolve_precision
from videorwkv.utils.files import make_folder
from videorwkv.utils.processes import ALONE, Processes
from videorwkv.utils.words import counted
from videorwkv.video.frames_folder import FOLDER_FPS

# Options that may change on resuming: they touch the speed, not the weights.
_FREE_ON_RESUME = frozenset(
    {
        *(
            "workers",
            "clip_timeout",
            "compile",
            "edges_on",
            "recompute",
            "checkpoint_frames",
            "checkpoint_minutes",
        ),
        *("eval_every", "views", "patience"),
    }
)

# Training clips of the largest class for each one of the smallest, above which a note is due.
UNEVEN = 4
# Without `eval_every`: an epoch of so many steps has a validation of its own; shorter ones share,
# so that a run has about so many validations.
LONG_EPOCH = 50
VALIDATIONS = 20

# Parameters above which training on a CPU is slow; lcr_nano has fewer.
SLOW_ON_A_CPU = 2_000_000


def check_folder(folder: Path, *, resume: bool) -> None:
    """Whether a run may be written to `folder`.

    Raises:
        UsageError: it is a file, or holds a run already that is not to be resumed.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out needs a folder for the run.")
    begun = checkpoint_in(folder)
    if begun and not resume:
        raise UsageError(
            f"{folder} holds a run already ({begun}). Resume it with --resume, or choose "
            "another folder with --out; nothing is overwritten."
        )


def checkpoint_in(folder: Path) -> str:
    """A file that a run's first checkpoint has left; empty where there was none: then there is
    nothing to resume, and nothing to overwrite."""
    names = ("state.pt", "last.safetensors", "best.safetensors")
    return next((name for name in names if (folder / name).exists()), "")


def resolve_init(
    init: str | Path | Pretrained | None, recipe: Recipe, folder: Path, *, resume: bool
) -> Pretrained | None:
    """The weights that a new run starts from; None for one that is resumed.

    Raises:
        UsageError: the run to resume started from others.
        CheckpointError: they can't be read.
    """
    if checkpoint_in(folder):
        _check_same_init(init, read_run(folder))
        return None
    if init is None and resume:
        init = init_noted_in(folder)
    if init is None or init == NOTHING:
        return None
    return init if isinstance(init, Pretrained) else read_pretrained(init)


def require_weights(recipe: Recipe, frozen: set[str], known: set[str]) -> None:
    """`UsageError` if parameters are frozen that have random values.

    Args:
        recipe: whose `freeze` named them.
        frozen: names of the parameters that do not learn.
        known: names of those that have weights from somewhere.
    """
    random = sorted(frozen - known)
    if not random:
        return
    instead = ", or freeze stem.network alone, which is pretrained" if known else ""
    raise UsageError(
        f"freeze ({', '.join(recipe.freeze)}) without weights to start from would keep random "
        f"values ({', '.join(random[:3])}{', ...' * (len(random) > 3)}): name a run with "
        f"--init{instead}."
    )


def init_noted_in(folder: Path) -> str | None:
    """The weights that a run in `folder` was to start from, which has not come to a checkpoint."""
    if not (folder / "config.json").is_file():
        return None
    noted = read_run(folder).init
    return None if noted is None else str(noted["source"])


def _check_same_init(init: str | Path | Pretrained | None, run: Run) -> None:
    given = init.source if isinstance(init, Pretrained) else init
    if given is None or (run.init is not None and str(given) == run.init["source"]):
        return
    if given == NOTHING and run.init is None:
        return
    begun = "random weights" if run.init is None else f"those of {run.init['source']}"
    if run.init is not None and given != NOTHING:
        found = init if isinstance(init, Pretrained) else read_pretrained(str(given))
        if found.sha256 == run.init["sha256"]:
            return
    raise UsageError(
        f"{run.folder} started from {begun}, not from {given}. Resume it without --init, or start "
        "a new run from those weights with another --out."
    )


def _start_anew(folder: Path) -> str:
    """What to do where a run can't be resumed as asked."""
    return (
        f"To go on from its weights instead, start a new run: --init {folder} with another --out, "
        "without --resume."
    )


def taught(
    recipe: Recipe | None, manifest: Manifest, folder: Path | None = None, *, resume: bool = False
) -> Manifest:
    """The data with a background class, where the recipe, or the run to resume, adds clips of
    nothing or learns a timeline."""
    if folder is not None and resume and (folder / "config.json").is_file():
        recipe = read_run(folder).recipe
    if recipe is None or not (recipe.timeline or recipe.augmentation.negatives):
        return manifest
    return with_background(manifest)


def resolve_recipe(
    recipe: Recipe | None, manifest: Manifest, folder: Path, *, resume: bool
) -> Recipe:
    """The recipe with the data's classes in it, after checking that `folder` may be used.

    Args:
        recipe: what is to be trained; None takes that of the run to resume.
        manifest: the data set.
        folder: the run's.
        resume: go on with the run in `folder`; one without a checkpoint is begun.

    Raises:
        UsageError: the folder holds a run already, or the run to resume was another.
        CheckpointError: the run to resume can't be read, or its files don't fit each other.
    """
    check_folder(folder, resume=resume)
    if not resume:
        if recipe is None:
            raise UsageError("train: a recipe is needed unless a run is resumed.")
        return for_data(recipe, manifest)
    if not checkpoint_in(folder):
        if recipe is None and not (folder / "config.json").is_file():
            raise UsageError(f"No run in {folder} to resume, and no recipe to begin one with.")
        return for_data(recipe or read_run(folder).recipe, manifest)
    run = read_run(folder)
    if run.data["digest"] != manifest.digest:
        raise UsageError(
            f"{folder} was trained on other data: {run.data['name']} {run.data['digest']}, this is "
            f"{manifest.name} {manifest.digest}. Give the same data, folds and seed. "
            f"{_start_anew(folder)}"
        )
    if run.labels != manifest.labels:
        raise CheckpointError(
            f"{folder / 'config.json'}: its labels are not those of the data, though the digest of "
            "the data is. Restore the file from a copy, or start anew with another --out."
        )
    _require_same_clips(run, manifest)
    last = folder / "last.safetensors"
    if last.exists():
        require_fitting(last, run.recipe.model)
    if recipe is None:
        return run.recipe
    recipe = for_data(recipe, manifest)
    begun_with, given = _length(run.recipe), _length(recipe)
    if given != begun_with:
        raise UsageError(
            f"{folder} was trained with {begun_with}; now {given}. Resume it with "
            f"--{begun_with.replace('=', ' ')}. {_start_anew(folder)}"
        )
    for field in fields(Recipe):
        new, old = getattr(recipe, field.name), getattr(run.recipe, field.name)
        if new != old and field.name not in _FREE_ON_RESUME:
            raise UsageError(
                f"{folder} was trained with another {field.name}: {old!r}; now {new!r}. Resume "
                f"without changing it. {_start_anew(folder)}"
            )
    return recipe


def _require_same_clips(run: Run, manifest: Manifest) -> None:
    """What decides how clips are read and is neither in the digest of the data nor in the recipe.

    Raises:
        UsageError: it is not what the run began with.
    """
    begun_with, given = (flips and dict(flips) for flips in (run.flips, manifest.flips))
    if begun_with != given and run.recipe.augmentation.flip_probability > 0:
        how = "no" if begun_with is None else "the" if given is None else "other"
        raise UsageError(
            f"{run.folder} was trained with {how} label pairs for horizontal flips. Resume it "
            f"{'without' if begun_with is None else 'with the same'} --flips (`flips` of "
            f"load_manifest). {_start_anew(run.folder)}"
        )
    old, new = run.data.get("frame_rate") or FOLDER_FPS, manifest.frame_rate or FOLDER_FPS
    if old != new:
        raise UsageError(
            f"{run.folder} was trained with --frame-rate {old:g}; now {new:g}. Resume it without "
            f"changing it. {_start_anew(run.folder)}"
        )


def _length(recipe: Recipe) -> str:
    """How long the run is, as an assignment: one of the two is None."""
    return f"epochs={recipe.epochs}" if recipe.steps is None else f"steps={recipe.steps}"


def for_data(recipe: Recipe, manifest: Manifest) -> Recipe:
    """The recipe with the number of classes and frames that the data and the sampling give; where
    clips have several labels, with what that changes.

    Raises:
        UsageError: classes are to be weighted or drawn equally often, and clips have several
            labels; or average precision is to choose the best, and they have one.
    """
    model = replace(
        recipe.model,
        num_classes=len(manifest.labels),
        multilabel=manifest.multilabel,
        num_frames=recipe.sampling.num_frames,
    )
    if not manifest.multilabel:
        if recipe.best_by == "mean_average_precision":
            raise UsageError(
                f"best_by=mean_average_precision is for clips with several labels; those of "
                f"{manifest.name} have one: choose top1 or mean_class_accuracy."
            )
        return replace(recipe, model=model)
    if recipe.timeline or recipe.augmentation.negatives:
        what = "timeline" if recipe.timeline else "augmentation.negatives"
        raise UsageError(
            f"{what} learns a background class beside one class at a time, and clips of "
            f"{manifest.name} have several: leave it out."
        )
    if recipe.class_weights != "none":
        raise UsageError(
            f"class_weights={recipe.class_weights} weighs a clip by its class, and clips of "
            f"{manifest.name} have several: choose class_weights=none."
        )
    if recipe.clip_sampling != "all":
        raise UsageError(
            f"clip_sampling={recipe.clip_sampling} draws clips by their class, and clips of "
            f"{manifest.name} have several: choose clip_sampling=all."
        )
    return replace(recipe, model=model, label_smoothing=0.0, best_by="mean_average_precision")


def write_config(recipe: Recipe, manifest: Manifest, folder: Path, fit: Fit | None = None) -> None:
    """Make the run's folder and its config.json.

    Args:
        recipe: as trained.
        manifest: the data set.
        folder: of the run.
        fit: what was taken over from other weights; None: nothing.

    Raises:
        UsageError: the folder can't be made.
        CheckpointError: the file can't be written.
    """
    make_folder(folder)
    save_config(
        folder,
        recipe=recipe,
        labels=manifest.labels,
        flips=manifest.flips,
        data={
            "name": manifest.name,
            "digest": manifest.digest,
            "clips": clips_digest(manifest),
            "place": place_digest(manifest),
            "names": first_names(manifest),
            "frame_rate": manifest.frame_rate,
            "splits": {split: len(manifest.split(split).rows) for split in manifest.splits},
        },
        init=None if fit is None else fit.to_dict(),
    )


def notes(
    recipe: Recipe, manifest: Manifest, num_parameters: int, device: torch.device
) -> Iterator[str]:
    """What to know before the first step."""
    if device.type == "cpu" and num_parameters > SLOW_ON_A_CPU:
        yield (
            f"a model of {num_parameters / 1e6:.1f} M parameters is slow on a CPU, the first step "
            "may take minutes: --model lcr_nano is the preset for a CPU"
        )
    if recipe.precision == "auto":
        yield f"precision auto takes {resolve_precision(device, 'auto')} on this device"
    elif device.type == "cpu" and recipe.precision == "bfloat16":
        yield (
            "on a CPU bfloat16 has been slower than float32, several times where the CPU has no "
            "instruction for it: --precision auto takes float32 there"
        )
    if recipe.augmentation.flip_probability > 0:
        yield manifest.flip_note
    if rate := frame_rate_note(manifest, recipe.sampling):
        yield rate
    if manifest.multilabel:
        yield (
            "clips have several labels: binary cross-entropy, a sigmoid for each class, without "
            "label smoothing; the mean average precision on the validation split chooses the best "
            "checkpoint"
        )
    elif uneven := uneven_classes(manifest):
        yield uneven


def uneven_classes(manifest: Manifest) -> str:
    """What to say where one class has many more training clips than another; else nothing."""
    train = (row.label for row in manifest.rows if row.split == "train")
    counts = Counter(label for label in train if label is not None).most_common()
    if not counts or counts[0][1] < UNEVEN * counts[-1][1]:
        return ""
    share = counts[0][1] / sum(count for _, count in counts)
    return (
        f"the classes are uneven, from {counted(counts[-1][1], 'training clip')} "
        f"({counts[-1][0]!r}) to {counts[0][1]:,} ({counts[0][0]!r}); always answering "
        f"{counts[0][0]!r} would score about {share:.2f}, so look at the mean class accuracy and "
        "not at top-1 alone"
    )


def validation_interval(recipe: Recipe, steps_per_epoch: int, total_steps: int) -> int:
    """Steps between two validations: the recipe's, or those of an epoch. Where epochs have few
    steps, those of so many epochs that a run has about `VALIDATIONS`."""
    if recipe.eval_every:
        return recipe.eval_every
    least = min(total_steps / VALIDATIONS, LONG_EPOCH)
    return steps_per_epoch * max(1, math.ceil(least / steps_per_epoch))


def validation_split(manifest: Manifest) -> Manifest | None:
    """The clips that choose `best`; None where there are none, or none that carries a label."""
    if "validation" not in manifest.splits:
        return None
    split = manifest.split("validation")
    return split if any(row.label is not None for row in split.rows) else None


def require_validations(recipe: Recipe, manifest: Manifest) -> None:
    """`UsageError` if the recipe counts validations and there are none."""
    if recipe.patience and validation_split(manifest) is None:
        raise UsageError(
            f"patience ({recipe.patience}) counts validations, and {manifest.name} has no labelled "
            "validation split: training would not end early. Give one, or patience 0."
        )


def training_loader(
    recipe: Recipe,
    manifest: Manifest,
    cache: str | Path | None,
    device: torch.device,
    lost: dict[str, str],
    processes: Processes = ALONE,
) -> Loader:
    """Batches of the train split, epoch after epoch without end; `lost` as in `make_loader`. Each
    is cut into the recipe's pieces, of which a process gets its part.

    Raises:
        DataError: there is no such split, or fewer than two classes in it.
    """
    if "train" not in manifest.splits:
        raise DataError(
            f"{manifest.name} has no train split (it has: {', '.join(manifest.splits) or 'none'}). "
            "Name one in the CSV's split column or as a folder, DATA/train/CLASS/..."
        )
    split = manifest.split("train")
    rows = tuple(row for row in split.rows if row.label is not None)
    present = {label for row in rows for label in split.labels_of(row)}
    # Beside the background of a timeline, one is enough.
    least = 1 if recipe.timeline else 2
    if len(present) < least:
        classes = counted(len(present), "class", "classes")
        raise DataError(
            f"{manifest.name}: its train split has {counted(len(rows), 'labelled clip')} of "
            f"{classes}; at least {'one is' if least == 1 else 'two classes are'} needed."
            + (f" How it was read: {'; '.join(manifest.notes)}." if manifest.notes else "")
        )
    options: dict[str, Any] = {"cache": cache, "augmentation": recipe.augmentation}
    options |= {"seed": recipe.seed, "repeats": recipe.repeats}
    options["edges_later"] = recipe.makes_edges_on(device.type)
    dataset: ClipDataset
    if recipe.timeline:
        # Segments without a label stay: nothing is known of their frames.
        options |= {"kind": TimelineDataset, "context": recipe.context}
        dataset = make_dataset(recipe.model, split, recipe.sampling, **options)
    else:
        dataset = make_dataset(recipe.model, replace(split, rows=rows), recipe.sampling, **options)
    return make_loader(
        dataset,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        workers=recipe.workers,
        # The last, smaller batch of an epoch is left out, unless it is the only one.
        drop_last=len(dataset) >= recipe.batch_size,
        endless=True,
        pin_memory=device.type == "cuda",
        clip_timeout=recipe.clip_timeout,
        lost=lost,
        part=(processes.rank, processes.size),
        pieces=recipe.accumulate,
        order=Order(
            shuffle=True, classes=recipe.clip_sampling, repeats_together=recipe.repeats_together
        ),
        mixing=Mixing(mixup=recipe.mixup, cutmix=recipe.cutmix),
    )
