"""What a study is: a question, variants of one recipe, measures, and how to read the answer.

A study is a small file; `studies/questions/` holds those that come with it, and
docs/study/README.md shows one of your own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from videorwkv.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from studies.report import Section
    from videorwkv.data.manifest import Manifest
    from videorwkv.run.run import Run


@dataclass(frozen=True)
class Variant:
    """One change to the recipe of a study.

    Args:
        name: what tables call it.
        changes: options of the recipe as `videorwkv train --set` takes them, such as
            `model.cell=none`; none is the default itself.
        data: options of the generated data, such as `order=3,frames=48`; a study of your own clips
            leaves such a variant out and says so.
        against: the variant that it is compared with; the study's first if None.
        match: let the channel mixing grow or shrink until the parameters are those of what it is
            compared with, so that a part taken out is not missed for its size alone; no effect
            where the variant sets a size itself.
        full_only: left out of a quick study, unless it is named.
        seeds: trainings in a full study, if not the budget's; like those of what it is compared
            with.
        about: a few words for the reader.
    """

    name: str
    _: KW_ONLY
    changes: tuple[str, ...] = ()
    data: str = ""
    against: str | None = None
    match: bool = True
    full_only: bool = False
    seeds: int | None = None
    about: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.changes, str):
            raise ConfigError(
                f"Variant {self.name!r}: changes is text ({self.changes!r}); a tuple of key=value "
                f"is wanted: changes=({self.changes!r},)."
            )
        if self.seeds is not None and self.seeds < 1:
            raise ConfigError(f"Variant {self.name!r}: seeds ({self.seeds}) must be at least 1.")


@dataclass(frozen=True)
class Measured:
    """What one measure found out about one trained model.

    Args:
        value: the number that tables and intervals are about; NaN where it can't be known, which
            leaves the training out of them.
        clips: outcome of every clip, in the manifest's order, if the value is their mean.
        parts: the value's parts, per class say.
        files: name -> path of a file that belongs to it, relative to the run's folder; see
            `Trained.folder`.
    """

    value: float
    clips: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What NumPy and torch make of numbers is no JSON.
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "clips", tuple(float(outcome) for outcome in self.clips))
        object.__setattr__(self, "parts", {k: float(v) for k, v in self.parts.items()})
        if not all(map(math.isfinite, self.clips)):
            raise ConfigError(
                "Measured: an outcome in `clips` is NaN or infinite. Give every clip a number, or "
                "leave `clips` empty and give `value` alone."
            )

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "clips": list(self.clips),
            "parts": dict(self.parts),
            "files": dict(self.files),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measured:
        return cls(values["value"], tuple(values["clips"]), values["parts"], values["files"])


@dataclass(frozen=True)
class Trained:
    """A trained variant, as measures see it.

    Args:
        run: the run; `run.model()` loads the weights.
        test: the clips to measure on: the `test` split, or `validation` where there is none.
        data: where they come from: a spec for `load_manifest`.
        device: where to compute.
        folder: for files of the measure, which makes it if it writes any; it lies in the run's
            folder, so `f"{folder.name}/strip.png"` is what `Measured.files` wants.
        cache: folder of decoded frames, or None.
    """

    run: Run
    test: Manifest
    data: str
    device: str
    folder: Path
    cache: str | None = None


class Measure(Protocol):
    """A frozen dataclass: its `repr` tells it from another, so that it is measured once.

    Its values are comparable between variants, and larger is better unless `lower_is_better`.
    """

    @property
    def name(self) -> str:
        """A short name, for the head of a column."""

    @property
    def unit(self) -> str:
        """`share` is printed in per cent, and a difference in points; else the unit's name."""

    @property
    def lower_is_better(self) -> bool: ...

    @property
    def needs_generated(self) -> bool:
        """Whether it makes sense on the generated data alone."""

    def measure(self, trained: Trained) -> Measured: ...


class Probe(Protocol):
    """A frozen dataclass: a measurement that needs no trained model, such as a cost."""

    @property
    def name(self) -> str: ...

    def probe(self, *, quick: bool, device: str) -> Mapping[str, Any]:
        """JSON-ready values."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One size of a study, the same for all its variants.

    Args:
        data: the generated data, where the user names none.
        recipe: name of the recipe that every variant changes.
        changes: to that recipe, for all variants.
        seeds: trainings of each variant, which differ in weights, order and augmentation.
    """

    data: str
    recipe: str
    changes: tuple[str, ...] = ()
    seeds: int = 3


# Frames spread over the clip, since a window would cut off the end of an order; a body two thirds
# as wide as the demo's. Two CPU cores make a hundred trainings in two hours.
_SMALL = (
    *("workers=0", "sampling.num_frames=8", "sampling.fps=none"),
    *("model.width=64", "model.head_width=32"),
)
# All studies together within an hour of two CPU cores; far from what the model can do.
QUICK = Budget(
    data="motion:train=4000,validation=0,test=250",
    recipe="motion_demo",
    changes=("steps=320", "eval_every=80", *_SMALL),
    seeds=2,
)
# A night of two CPU cores.
FULL = Budget(
    data="motion:train=8000,validation=0,test=500",
    recipe="motion_demo",
    changes=("steps=500", "eval_every=100", *_SMALL),
    seeds=3,
)
# Of three seeds, one that learns late leaves every comparison on single movements open.
FULL_FIVE_SEEDS = replace(FULL, seeds=5)


@dataclass(frozen=True)
class Study:
    """A question and how it is answered.

    Args:
        name: what `videorwkv study NAME` calls it.
        question: what it asks, in one sentence that ends with a question mark.
        variants: the first is the default that the others are compared with; none where probes
            alone answer.
        measures: what is asked of each trained variant; the first decides. None: accuracy.
        probes: measurements without training.
        reading: how to read the result: what would speak for what.
        full, quick: budgets.
        present: `studies.results.Results` -> sections of the page; None compares all variants with
            the default.
        check: takes a `studies.plan.Plan`; raises `UsageError` where the question makes no sense of
            a recipe or its data, before anything is trained.
        times: also measure how long each variant's frame takes.
    """

    name: str
    _: KW_ONLY
    question: str
    variants: tuple[Variant, ...] = ()
    measures: tuple[Measure, ...] = ()
    probes: tuple[Probe, ...] = ()
    reading: str = ""
    full: Budget = FULL
    quick: Budget = QUICK
    present: Callable[[Any], Sequence[Section]] | None = None
    check: Callable[[Any], None] | None = None
    times: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name) or self.name == "index":
            raise ConfigError(
                f"Study {self.name!r}: its page bears the name, so only letters, digits, _ and - "
                "are allowed; `index` is taken."
            )
        names = [variant.name for variant in self.variants]
        if not names and not self.probes:
            raise ConfigError(f"Study {self.name!r} has neither variants nor probes.")
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"Study {self.name!r}: two variants are called {name!r}.")
        for variant in self.variants:
            if variant.against is not None and variant.against not in names:
                raise ConfigError(
                    f"Study {self.name!r}: {variant.name!r} is compared with an unknown variant "
                    f"{variant.against!r}. {did_you_mean(variant.against, names)}"
                )
            reference = self.variants[names.index(self.reference(variant))]
            if variant.seeds != reference.seeds:
                raise ConfigError(
                    f"Study {self.name!r}: {variant.name!r} has seeds={variant.seeds}, "
                    f"{reference.name!r}, which it is compared with, seeds={reference.seeds}. Give "
                    "both the same: differences are paired by seed."
                )
            if reference.full_only and not variant.full_only:
                raise ConfigError(
                    f"Study {self.name!r}: {variant.name!r} is in a quick study and "
                    f"{reference.name!r}, which it is compared with, is not. Give both full_only."
                )
        if self.variants and self.variants[0].full_only:
            raise ConfigError(f"Study {self.name!r}: the first variant can't be full_only.")
        _check_measures(self.name, self.measures)

    def budget(self, *, quick: bool) -> Budget:
        return self.quick if quick else self.full

    def reference(self, variant: Variant) -> str:
        """Name of the variant that `variant` is compared with; its own for the default."""
        return variant.against or self.variants[0].name


def _check_measures(study: str, measures: Sequence[Measure]) -> None:
    names: list[str] = []
    for measure in measures:
        kind = type(measure).__name__
        wanted = ("name", "unit", "lower_is_better", "needs_generated", "measure")
        missing = [name for name in wanted if not hasattr(measure, name)]
        if missing:
            raise ConfigError(f"Study {study!r}: measure {kind} has no {', '.join(missing)}.")
        if not is_dataclass(measure):
            raise ConfigError(
                f"Study {study!r}: measure {kind} is no dataclass, whose repr tells it from "
                "another. Put @dataclass(frozen=True) above it."
            )
        if measure.name in names:
            raise ConfigError(
                f"Study {study!r}: two measures are called {measure.name!r}. Accuracy(label=...) "
                "gives it another name."
            )
        names.append(measure.name)
