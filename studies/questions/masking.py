"""C: how many patches can be masked, in training and at inference, for actions and their order?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.plots import Curve
from studies import pictures, sentences
from studies.compare import cautions, chance, findings, table
from studies.design import Measure, Study, Variant
from studies.masks import KINDS, NO_MASK, MaskCost, MaskedAccuracy
from studies.measures import Accuracy
from studies.questions.order import FOR_TWO, TWO_MOVEMENTS
from studies.report import Findings, Plot, Section, Table, Text
from studies.results import Results
from studies.statistics import Estimate, mean_and_deviation

RATIOS = (0.25, 0.5, 0.75, 0.9)
ACCURACY = Accuracy()
MASKED = {(k, r): MaskedAccuracy(kind=k, ratio=r) for k in KINDS for r in RATIOS}
_WITHOUT = "MACs are those of a frame without a mask; for what masks save, see time and memory."
COST = MaskCost(ratios=(0.0, *RATIOS))


@dataclass(frozen=True, kw_only=True)
class Task:
    """Clips, and the mask ratios that some variants are trained with.

    Args:
        name: before the names of its variants; the first has none.
        data: options of the generated data.
        changes: of the recipe, for all its variants.
        quick, full: ratios that a quick study trains with, and those that a full one adds.
        base_is_full: whether a full study alone trains it at all.
    """

    name: str = ""
    data: str = ""
    changes: tuple[str, ...] = ()
    quick: tuple[float, ...] = ()
    full: tuple[float, ...] = ()
    base_is_full: bool = False

    def variant_name(self, ratio: float = 0.0) -> str:
        words = f"mask {ratio:g} in training" if ratio else NO_MASK
        return f"{self.name}, {words}" if self.name else words

    def variants(self) -> Iterator[Variant]:
        """The one without a mask first: the others are compared with it."""
        for ratio in (0.0, *sorted((*self.quick, *self.full))):
            mask = (f"model.tube_mask_ratio={ratio:g}",) if ratio else ()
            yield Variant(
                self.variant_name(ratio),
                changes=(*self.changes, *mask),
                data=self.data,
                against=self.variant_name(),
                full_only=ratio in self.full or self.base_is_full,
            )


# The first two without a mask are runs of the study `order` as well.
TASKS = (
    Task(quick=(0.5, 0.75, 0.9), full=(0.25,)),
    Task(name="order of 2 in 16 frames", data=TWO_MOVEMENTS, changes=FOR_TWO,
         quick=(0.75,), full=(0.5, 0.9)),
    Task(name="order of 3 in 48 frames", data="order=3,frames=48",
         changes=("steps=800", "lr=1e-3", "sampling.num_frames=16"),
         full=(0.5, 0.9), base_is_full=True),
    Task(name="order of 2 in 128 frames", data="order=2,frames=128",
         changes=("steps=800", "lr=1e-3", "sampling.num_frames=32"),
         full=(0.75,), base_is_full=True),
)  # fmt: skip


def present(results: Results) -> Sequence[Section]:
    trained = {variant.name for variant in results.variants}
    tasks = [task for task in TASKS if task.variant_name() in trained]
    found = cautions(results, [task.variant_name() for task in tasks], ACCURACY)
    found += findings(results, ACCURACY)
    for task in tasks:
        found.append(_borne(results, task))
        found.append(_kinds(results, task))
        found += _prepared(results, task, _ratios(task, trained))
    for task in tasks[1:]:
        found.append(_long_and_short(results, tasks[0], task))
    found += _cost_sentences(results.probes[COST.name])
    return [
        Section("Answer", [Findings(found)]),
        *(_section(results, task, _ratios(task, trained)) for task in tasks),
        Section("Trainings", [table(results, ACCURACY), Text(_WITHOUT)]),
        Section("Time and memory", _cost(results.probes[COST.name])),
    ]


def _ratios(task: Task, trained: set[str]) -> list[float]:
    """Ratios that the task's variants were trained with."""
    return [ratio for ratio in RATIOS if task.variant_name(ratio) in trained]


def _loss(results: Results, variant: str, measure: Measure) -> Estimate:
    """What a mask at inference changes: against the same model without one."""
    return results.difference(variant, variant, measure.name, reference_measure=ACCURACY.name)


def _borne(results: Results, task: Task) -> str:
    """What masks at inference cost a model that was trained without one."""
    name = task.variant_name()
    parts, shown = [], False
    for kind in KINDS:
        losses = {ratio: _loss(results, name, MASKED[kind, ratio]) for ratio in RATIOS}
        hurt = {ratio: estimate for ratio, estimate in losses.items() if estimate.high < 0}
        shown |= bool(hurt)
        parts.append(f"{kind} {_figures(hurt) or 'none significant'}")
    rest = "" if shown else f": {sentences.NO_DIFFERENCE}"
    text = f"{name}, change of accuracy under a mask at inference, in points"
    return f"{text}: {'; '.join(parts)}{rest}."


def _figures(estimates: Mapping[float, Estimate]) -> str:
    return ", ".join(f"{sentences.signed(e, 'share')} at {r:g}" for r, e in estimates.items())


def _kinds(results: Results, task: Task) -> str:
    """Random and motion masks against the tube at the same ratio."""
    name = task.variant_name()
    parts, shown = [], False
    for kind in KINDS[1:]:
        differences = {
            ratio: results.difference(
                name, name, MASKED[kind, ratio].name, reference_measure=MASKED["tube", ratio].name
            )
            for ratio in RATIOS
        }
        words = [
            f"{word}: {_figures(those)}"
            for word, those in (
                ("better", {r: e for r, e in differences.items() if e.low > 0}),
                ("worse", {r: e for r, e in differences.items() if e.high < 0}),
            )
            if those
        ]
        shown |= bool(words)
        parts.append(f"{kind} {', '.join(words) or 'no significant difference at any ratio'}")
    rest = "" if shown else f": {sentences.NO_DIFFERENCE}"
    text = f"{name}, other masks against a tube mask at inference, in points"
    return f"{text}: {'; '.join(parts)}{rest}."


def _prepared(results: Results, task: Task, ratios: Sequence[float]) -> list[str]:
    """Whether training with a mask prepares for the same mask at inference."""
    return [
        sentences.difference(
            task.variant_name(ratio),
            task.variant_name(),
            results.difference(
                task.variant_name(ratio), task.variant_name(), MASKED["tube", ratio].name
            ),
            ACCURACY,
            f"accuracy under a tube mask of {ratio:g}",
        )
        for ratio in ratios
    ]


def _long_and_short(results: Results, short: Task, long: Task) -> str:
    """Whether a tube mask at inference takes more from long orders than from short actions."""
    parts, shown = [], False
    for ratio in RATIOS:
        losses = [
            _skill(results, task, _loss(results, task.variant_name(), MASKED["tube", ratio]))
            for task in (long, short)
        ]
        estimate = difference_of(*losses)
        shown |= estimate.decides
        word = "larger" if estimate.value < 0 else "smaller"
        verdict = f"{word} loss" if estimate.decides else "not significant"
        parts.append(f"{sentences.signed(estimate, 'share')} at {ratio:g} ({verdict})")
    other = short.name or "clips of one movement"
    text = (
        f"{long.name} against {other}, change under a tube mask at inference, in percent of the "
        f"range from chance to 100 %: {', '.join(parts)}"
    )
    return f"{text}." if shown else f"{text}: {sentences.NO_DIFFERENCE}."


def _skill(results: Results, task: Task, estimate: Estimate) -> Estimate:
    """Tasks with few classes can't lose as many points: as a fraction of the range above chance."""
    scale = 1 / (1 - chance(results, task.variant_name()))
    return estimate._replace(
        value=scale * estimate.value, low=scale * estimate.low, high=scale * estimate.high
    )


def difference_of(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent estimates, from their intervals (Zou & Donner 2008, MOVER)."""
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, min(a.seeds, b.seeds))


def _section(results: Results, task: Task, ratios: Sequence[float]) -> Section:
    name = task.variant_name()
    plain = results.estimate(name, ACCURACY.name)
    level = (100 * chance(results, name), "chance")

    def line(estimates: Mapping[float, Estimate]) -> Curve:
        return Curve([*estimates], [100 * e.value for e in estimates.values()])

    lines = {
        f"{kind}, at inference": line(
            {0.0: plain} | {r: results.estimate(name, MASKED[kind, r].name) for r in RATIOS}
        )
        for kind in KINDS
    }
    if ratios:
        trained = {r: task.variant_name(r) for r in ratios}
        lines["tube, in training"] = line(
            {0.0: plain} | {r: results.estimate(v, ACCURACY.name) for r, v in trained.items()}
        )
        lines["tube, in both"] = line(
            {0.0: plain}
            | {r: results.estimate(v, MASKED["tube", r].name) for r, v in trained.items()}
        )
    png = pictures.curves(lines, x="mask ratio", y="accuracy, %", level=level)
    caption = "Mean over seeds; for intervals see the table."
    file = "clips" if not task.name else task.name.replace(" ", "-")
    return Section(
        task.name or "The clips", [Plot(file, png, caption), _table(results, task, ratios)]
    )


def _table(results: Results, task: Task, ratios: Sequence[float]) -> Table:
    rows = []
    for ratio in (0.0, *ratios):
        variant = task.variant_name(ratio)
        plain = sentences.spread(*_spread(results, variant, ACCURACY), "share")
        for kind in KINDS:
            row = [f"{ratio:g}, {kind}", plain]
            for measure in (MASKED[kind, r] for r in RATIOS):
                cell = sentences.spread(*_spread(results, variant, measure), "share")
                loss = sentences.signed(_loss(results, variant, measure), "share")
                row.append(f"{cell} ({loss})")
            rows.append(row)
    header = ["in training, at inference", "0", *(f"{r:g}" for r in RATIOS)]
    caption = (
        "Accuracy by mask ratio at inference: mean ± standard deviation over seeds (difference "
        "to the same model without a mask at inference, with its 95 % interval)."
    )
    return Table(header, rows, caption)


def _spread(results: Results, variant: str, measure: Measure) -> tuple[float, float]:
    return mean_and_deviation(results.values(variant, measure.name))


def _cost_sentences(values: Mapping[str, Any]) -> list[str]:
    """What the largest ratio but one saves, in training and at inference."""
    ratio = RATIOS[-2]
    place = f"{values['model']}, {values['size']} px, {values['tokens']} patches"
    step = _saved(values, "training", ratio)
    parts = [f"{kind} {_saved(values, kind, ratio)}" for kind in KINDS]
    return [
        f"A training step with a tube mask of {ratio:g} takes {step} of one without ({place}).",
        f"A clip at inference with a mask ratio of {ratio:g} takes, relative to no mask: "
        f"{'; '.join(parts)}.",
    ]


def _saved(values: Mapping[str, Any], case: str, ratio: float) -> str:
    row = next(r for r in values["rows"] if r["case"] == case and r["ratio"] == ratio)
    base = _base(values, case)
    shares = (
        (f"the {values['clock']} time", row["ms"] / base["ms"]),
        ("the memory", row["mib"] / base["mib"] if base["mib"] else math.nan),
        ("the MACs", row["macs"] / base["macs"]),
    )
    return ", ".join(f"{100 * share:.0f} % of {what}" for what, share in shares if share == share)


def _base(values: Mapping[str, Any], case: str) -> Mapping[str, Any]:
    """The row without a mask that a case is compared with."""
    wanted = "training" if case == "training" else NO_MASK
    found: Mapping[str, Any] = next(
        r for r in values["rows"] if r["case"] == wanted and not r["ratio"]
    )
    return found


def _cost(values: Mapping[str, Any]) -> list[Plot | Table]:
    rows, lines = [], {}
    for case in ("training", *KINDS):
        base = _base(values, case)
        own = [r for r in values["rows"] if r["case"] == case and r["ratio"]]
        for row in [base, *own] if case in ("training", KINDS[0]) else own:
            rows.append(
                [
                    f"{row['case']}, {row['ratio']:g}" if row["ratio"] else
                    (NO_MASK if case != "training" else f"training, {NO_MASK}"),
                    f"{row['ms']:.1f}",
                    f"{100 * row['ms'] / base['ms']:.0f} %",
                    sentences.number(row["mib"], ""),
                    sentences.count(row["macs"]),
                    f"{100 * row['macs'] / base['macs']:.0f} %",
                ]
            )  # fmt: skip
        lines[f"{case}: time"] = Curve(
            [0.0, *(r["ratio"] for r in own)],
            [100.0, *(100 * r["ms"] / base["ms"] for r in own)],
        )
    own = [r for r in values["rows"] if r["case"] == "tube"]
    macs = _base(values, "tube")["macs"]
    lines["tube: MACs"] = Curve(
        [0.0, *(r["ratio"] for r in own)], [100.0, *(100 * r["macs"] / macs for r in own)]
    )
    png = pictures.curves(lines, x="mask ratio", y="% of the cost without a mask")
    header = ["case", f"{values['clock']} ms", "of no mask", "MiB", "MACs a clip", "of no mask"]
    return [
        Plot("cost", png, "Time by mask ratio, relative to no mask."),
        Table(
            header,
            rows,
            f"{values['model']}, {values['size']} px, {values['tokens']} patches, clips of "
            f"{values['frames']} frames: a training step (forwards and back, "
            f"{values['batch_size']} clips), and one clip "
            "without gradients. Least time of several in turns; memory at "
            "the peak beyond what was there before; MACs forwards, of one clip.",
        ),
    ]


STUDY = Study(
    "masking",
    question="How many patches can be masked, in training and at inference, for short actions "
    "and for long ordered ones?",
    variants=tuple(variant for task in TASKS for variant in task.variants()),
    measures=(ACCURACY, *MASKED.values()),
    probes=(COST,),
    reading=(
        "In training the mask is a tube: the same patches are dropped in every frame of a clip, "
        "and others in another clip. At inference there are three kinds. Tube is as in training. "
        "Random drops other patches in every frame. Motion keeps a quarter of its patches as a "
        "tube and the rest where the image changed most over the last frames. With random and "
        "motion masks, a dropped patch keeps its memory, and its weight in the mean over patches "
        "is how often it was computed recently. A model trained without a mask has never seen one: "
        "training with a mask may reduce what a mask costs at inference, and may cost accuracy "
        "without one. The long clips show movements one after the other, and their order is the "
        "class. A task with two classes has less to lose than one with eight, so tasks are "
        "compared by the fraction of the range from chance to 100 % that is lost."
    ),
    present=present,
    times=False,
)
