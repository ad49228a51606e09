"""Study and settings -> the trainings that it needs, each known by what it is made of."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import videorwkv
from studies.data import (
    DataOptions,
    is_generated,
    merge_options,
    test_clips,
    training_clips,
)
from studies.design import Budget, Measure, Study, Variant
from studies.measures import Accuracy
from videorwkv.data.manifest import Manifest
from videorwkv.errors import UsageError
from videorwkv.models import LCRConfig
from videorwkv.run import recipes
from videorwkv.run.recipes import Recipe

# They touch the speed or what is looked at, not the weights. `views` is in a measure's key.
_NO_CONTENT = (
    "workers",
    "clip_timeout",
    "compile",
    "edges_on",
    "recompute",
    "checkpoint_frames",
    "eval_every",
    "views",
)
# A variant that sets one of these is about size, so its size is left alone.
_SIZES = frozenset(
    {"width", "depth", "head_width", "channel_mix_ratio", "image_size", "patch_size"}
)
# A quick study of the user's own data trains that many times shorter.
_QUICK = 4
# How far the parameters of a variant may be from the default's to be called equal.
TOLERANCE = 0.03


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user can set for any study.

    Args:
        quick: the small budget; for own data fewer seeds and a quarter of the recipe's length.
        data: the user's own data, or None for the study's generated data.
        recipe: name of a recipe instead of the budget's; for own data `default` with lcr_nano.
        changes: options of the recipe for all variants, as in `videorwkv train --set`.
        seeds: trainings of each variant instead of the budget's.
        runs: folder of all runs, shared between studies.
        device: `auto`, or a device by name.
        jobs: trainings side by side.
        cache: folder of decoded frames.
        only: names of the variants to train beside the default; empty: all.
        show_frames: whether pages may hold pictures of the clips.
    """

    quick: bool = False
    data: DataOptions = field(default_factory=DataOptions)
    recipe: str | None = None
    changes: tuple[str, ...] = ()
    seeds: int | None = None
    runs: Path = Path("runs/study/runs")
    device: str = "auto"
    jobs: int = 1
    cache: str | None = None
    only: tuple[str, ...] = ()
    show_frames: bool = True

    def __post_init__(self) -> None:
        for option, value in (("--seeds", self.seeds), ("--workers", self.jobs)):
            if value is not None and value < 1:
                raise UsageError(f"{option} ({value}) must be at least 1.")


@dataclass(frozen=True)
class Training:
    """One run: a variant with a seed on a fold.

    Args:
        variant: name of the variant.
        seed: of the recipe.
        fold: place of the fold; 0 without folds.
        recipe: settled: classes and matched size in it.
        data: spec of its data.
        key: says all that decides the weights; the run's folder below `Settings.runs`.
        command: how `videorwkv train` does the same.
    """

    variant: str
    seed: int
    fold: int
    recipe: Recipe
    data: str
    key: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All trainings of a study.

    Args:
        study: what is asked.
        settings: what the user set.
        variants: those that can be trained on this data, the default first.
        measures: those that make sense on this data.
        trainings: all of them; two with one key are one run.
        notes: what was left out and why, and sizes that could not be matched.
    """

    study: Study
    settings: Settings
    variants: tuple[Variant, ...]
    measures: tuple[Measure, ...]
    trainings: tuple[Training, ...]
    notes: tuple[str, ...]

    def manifest(self, training: Training) -> Manifest:
        """All splits of a training's data."""
        return _load(self.settings.data, training.data)[training.fold]


def make_plan(study: Study, settings: Settings) -> Plan:
    """What has to be trained.

    Raises:
        UsageError, DataError: the data can't be read or has nothing to measure on, or an option
            is unknown.
    """
    budget = study.budget(quick=settings.quick)
    spec = settings.data.spec or budget.data
    notes = []
    variants: list[Variant] = []
    left = [v.name for v in study.variants if v.full_only]
    if left and settings.quick and not settings.only:
        notes.append(f"Only in a full study: {'; '.join(left)}.")
    chosen = _chosen(study, settings)
    lost = () if is_generated(spec) else tuple(v.name for v in chosen if v.data)
    if lost:
        notes.append(f"Skipped, because they need the generated data: {'; '.join(lost)}.")
    for variant in chosen:
        reference = study.reference(variant)
        if reference in lost and variant.name not in lost:
            notes.append(f"{variant.name} is skipped, as is {reference}, its reference.")
        elif variant.name not in lost:
            variants.append(variant)
    if study.variants and not runs_on(study, settings):
        raise UsageError(f"Study {study.name!r} needs the generated data: leave DATA out.")
    measures: list[Measure] = []
    for measure in study.measures or ([Accuracy()] if study.variants else []):
        if measure.needs_generated and not is_generated(spec):
            notes.append(f"{measure.name} is skipped: it needs the generated data.")
        else:
            measures.append(measure)
    trainings: list[Training] = []
    for variant in variants:
        data = merge_options(spec, variant.data) if variant.data else spec
        loaded = zip(_load(settings.data, data), _clips_keys(settings.data, data), strict=True)
        for fold, (manifest, clips) in enumerate(loaded):
            if measures:
                test_clips(manifest)  # whether there is one, before anything is trained
            recipe, words, note = _recipe(study, settings, budget, variant, manifest)
            if note and note not in notes:
                notes.append(note)
            for seed in range(_seeds(settings, budget, variant)):
                seeded = replace(recipe, seed=seed)
                trainings.append(
                    Training(
                        variant=variant.name,
                        seed=seed,
                        fold=fold,
                        recipe=seeded,
                        data=data,
                        key=content_key(seeded, clips),
                        command=_command(settings, data, words, seed, fold),
                    )
                )
    plan = Plan(study, settings, tuple(variants), tuple(measures), tuple(trainings), tuple(notes))
    if study.check is not None:
        study.check(plan)
    return plan


def _seeds(settings: Settings, budget: Budget, variant: Variant) -> int:
    own = None if settings.quick else variant.seeds
    return settings.seeds or own or budget.seeds


def runs_on(study: Study, settings: Settings) -> bool:
    """Whether the study has a default on the user's data."""
    spec = settings.data.spec
    return spec is None or is_generated(spec) or not (study.variants and study.variants[0].data)


def content_key(recipe: Recipe, clips: Sequence[object]) -> str:
    """16 hexadecimal digits over all that decides the weights: recipe, training clips as
    `clips_key` describes them, version."""
    values = {k: v for k, v in recipe.to_dict().items() if k not in _NO_CONTENT}
    whole = [values, *clips, videorwkv.__version__]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def clips_key(manifest: Manifest) -> Sequence[object]:
    """The training clips as JSON, and what a horizontal flip makes of their labels.

    The test clips are no part of it: the same run may be measured on several.
    """
    train = training_clips(manifest)
    flips = None if train.flips is None else sorted(train.flips.items())
    return [train.name, train.digest, list(train.labels), flips]


def object_key(thing: object, *more: str) -> str:
    """8 hexadecimal digits over a measure, a probe or what else has a telling `repr`.

    A class of the user's own is known by its text as well: it changes while they work on it, and
    two of their files may call two things the same. Ours change with the version.
    """
    text = "\n".join([repr(thing), *more, *_own_sources(thing)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _own_sources(thing: object) -> Iterator[str]:
    """The text of a dataclass and of those in its fields, where they are not the package's."""
    if not is_dataclass(thing):
        return
    if type(thing).__module__.partition(".")[0] not in ("videorwkv", "studies"):
        yield inspect.getsource(type(thing))
    for part in fields(thing):
        yield from _own_sources(getattr(thing, part.name))


@cache
def count_parameters(config: LCRConfig) -> int:
    """Trainable numbers of a model, without making its weights."""
    import torch

    from videorwkv.models import build_model

    with torch.device("meta"):
        return sum(p.numel() for p in build_model(config).parameters())


def match_parameters(config: LCRConfig, wanted: int) -> LCRConfig:
    """`config` with the channel mixing as wide as gives `wanted` parameters.

    The width stays a multiple of 8, as in the model, and at least half of what it was: a variant
    that brings many parameters of its own would be starved otherwise, and is larger instead.
    """
    counts = [
        count_parameters(replace(config, channel_mix_ratio=width / config.width))
        for width in (8, 16)
    ]
    units = 1 + round((wanted - counts[0]) / (counts[1] - counts[0]))
    units = max(units, math.ceil(config.mix_width / 16))
    if 8 * units == config.mix_width:
        return config
    return replace(config, channel_mix_ratio=8 * units / config.width)


@cache
def _load(options: DataOptions, spec: str) -> tuple[Manifest, ...]:
    return options.load(spec)


@cache
def _clips_keys(options: DataOptions, spec: str) -> tuple[Sequence[object], ...]:
    return tuple(map(clips_key, _load(options, spec)))


def _chosen(study: Study, settings: Settings) -> Sequence[Variant]:
    names = [variant.name for variant in study.variants]
    for name in settings.only:
        if name not in names:
            from videorwkv.errors import did_you_mean

            raise UsageError(f"--only {name!r}: no such variant. {did_you_mean(name, names)}")
    if not settings.only:
        return [v for v in study.variants if not (settings.quick and v.full_only)]
    wanted = {*settings.only, *names[:1]}
    for _ in names:  # what is compared with is compared itself
        wanted |= {study.reference(v) for v in study.variants if v.name in wanted}
    return [variant for variant in study.variants if variant.name in wanted]


def _base(settings: Settings, budget: Budget) -> tuple[Recipe, list[str]]:
    """The recipe that the variants change, and the options of `videorwkv train` that name it."""
    name = settings.recipe or (budget.recipe if settings.data.spec is None else None)
    if name is None:
        if is_generated(settings.data.spec or ""):
            name = budget.recipe
        else:
            return recipes.default("lcr_nano"), ["--recipe", "default", "--model", "lcr_nano"]
    return recipes.recipe(name), ["--recipe", name]


def _recipe(
    study: Study, settings: Settings, budget: Budget, variant: Variant, manifest: Manifest
) -> tuple[Recipe, list[str], str]:
    """A variant's recipe, how the command line says it, and a note where sizes differ."""
    base, words = _base(settings, budget)
    own = settings.data.spec is not None and not is_generated(settings.data.spec)
    # A budget's changes are sizes for the generated clips; the user's own have the user's.
    general = [*(_shorter(base, settings) if own else budget.changes), *settings.changes]
    reference = study.variants[[v.name for v in study.variants].index(study.reference(variant))]
    default = _for_data(recipes.apply_overrides(base, [*general, *reference.changes]), manifest)
    changes = [*general, *variant.changes]
    recipe = _for_data(recipes.apply_overrides(base, changes), manifest)
    note = ""
    named = {change.partition("=")[0].strip() for change in variant.changes}
    if variant.match and not named & {f"model.{size}" for size in _SIZES}:
        wanted = count_parameters(default.model)
        model = match_parameters(recipe.model, wanted)
        if model != recipe.model:
            recipe = replace(recipe, model=model)
            changes = [*changes, f"model.channel_mix_ratio={model.channel_mix_ratio!r}"]
        share = count_parameters(model) / wanted - 1
        if abs(share) > TOLERANCE:
            note = (
                f"{variant.name}: parameters differ by {share:+.1%} from those of {reference.name}."
            )
    words = [*words, *(word for change in changes for word in ("--set", change))]
    return recipe, words, note


def _shorter(recipe: Recipe, settings: Settings) -> list[str]:
    """The length of a quick training on the user's own data, unless they name one."""
    named = {change.partition("=")[0].strip() for change in settings.changes}
    if not settings.quick or named & {"steps", "epochs"}:
        return []
    if recipe.steps:
        return [f"steps={math.ceil(recipe.steps / _QUICK)}"]
    return [f"epochs={math.ceil((recipe.epochs or 1) / _QUICK)}"]


def _for_data(recipe: Recipe, manifest: Manifest) -> Recipe:
    from videorwkv.training.setup import for_data

    return for_data(recipe, manifest)


def _command(
    settings: Settings, data: str, words: Sequence[str], seed: int, fold: int
) -> tuple[str, ...]:
    folds = ["--fold", str(fold)] if settings.data.folds else []
    return (
        *("videorwkv", "train", data, *settings.data.words(), *folds, *words),
        *("--seed", str(seed)),
    )


def machine() -> Mapping[str, Any]:
    """Where numbers come from."""
    from videorwkv.run.environment import environment, versions

    values = environment()
    names = ("videorwkv", "python", "platform", "torch", "cpu", "gpu", "scan")
    commit = versions()["commit"]
    return {name: values[name] for name in names} | ({"commit": commit} if commit else {})
