"""The usual way to show a study: every variant against the default, and what has to be said before
any comparison: at chance, differences mean nothing."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from studies import pictures, sentences
from studies.data import test_clips, training_clips
from studies.design import Measure
from studies.report import Code, Findings, Page, Plot, Section, Table, Text
from studies.results import Outcomes, Results, cell
from studies.statistics import mean_and_deviation

# What has to be equal for a budget to be: fields of the recipe.
_BUDGET = ("steps", "epochs", "batch_size", "augmentation")


def make_page(results: Results, reference: str | None = None) -> Page:
    """The page of a study: its answer, then how it was found.

    Args:
        results: of all its trainings.
        reference: what the user called the study: its name, or the file that defines it.
    """
    study = results.study
    settings = results.plan.settings
    all_failed = results.done and all(done.record["failure"] for done in results.done)
    present = _nothing if all_failed else study.present or compare
    sizes = ", quick" if settings.quick else ""
    return Page(
        # A page of some variants must not take the place of that of all.
        name=f"{study.name}-part" if settings.only else study.name,
        title=f"Study: {study.name}" + (", in part" if settings.only else "") + sizes,
        question=study.question,
        sections=[
            *present(results),
            *_notes(results),
            how_to_read(results),
            how_it_was_done(results, str(reference or study.name)),
        ],
    )


def _nothing(results: Results) -> Sequence[Section]:
    """Where no training has weights: their outcomes would be those of no model."""
    reason = results.done[0].record["failure"]
    text = "Every training ended in NaN or infinity, so nothing can be compared; lower the lr."
    return [Section("Answer", [Findings([text]), Text(f"The first one: {reason}")])]


def _notes(results: Results) -> list[Section]:
    """What was left out, could not be matched, or failed."""
    failed = Counter(d.training.variant for d in results.done if d.record["failure"])
    notes = list(results.plan.notes)
    notes += [
        f"{name}: {'a training' if count == 1 else f'{count} trainings'} ended in NaN or infinity; "
        f"all {'its' if count == 1 else 'their'} clips count as wrong, and nothing else is known."
        for name, count in failed.items()
    ]
    return [Section("Notes", [Text(note) for note in notes])] if notes else []


def compare(results: Results) -> Sequence[Section]:
    """Findings, table and plot of the first measure; the same table for every other."""
    first, *rest = results.measures
    sections = [
        Section("Answer", [Findings(findings(results, first)), *_plots(results, first)]),
        Section("Table", [table(results, first)]),
    ]
    if rest:
        sections.append(Section("More measures", [short_table(results, rest)]))
    return sections


def findings(results: Results, measure: Measure) -> list[str]:
    """One sentence for each variant beside its reference."""
    found = []
    for variant in results.variants:
        reference = results.study.reference(variant)
        if reference != variant.name:
            estimate = results.difference(variant.name, reference, measure.name)
            found.append(sentences.difference(variant.name, reference, estimate, measure))
    return found


def table(results: Results, measure: Measure) -> Table:
    """Mean, deviation, seeds, difference and costs of every variant."""
    header = ["variant", measure.name, "seeds", "difference [95 %]", "parameters",
              "MACs a frame", "CPU time of a training"]  # fmt: skip
    if results.times:
        header += ["ms a frame", "of the default's"]
    rows = []
    default = results.variants[0].name
    for variant in results.variants:
        values = results.known(variant.name, measure.name)
        reference = results.study.reference(variant)
        estimate = results.difference(variant.name, reference, measure.name)
        row = [
            variant.name,
            sentences.spread(*mean_and_deviation(values), measure.unit),
            str(len(values)),
            "" if reference == variant.name else sentences.signed(estimate, measure.unit),
            sentences.count(results.parameters(variant.name)),
            sentences.count(results.macs(variant.name)),
            sentences.seconds(results.training_time(variant.name)),
        ]
        if results.times:
            time = results.times[variant.name]
            row += [
                f"{time['median']:.2f}",
                f"{time['least'] / results.times[default]['least']:.2f}",
            ]
        rows.append(row)
    caption = (
        f"Mean ± standard deviation over seeds. Difference: to {default}"
        + (" or to what is named below" if any(v.against for v in results.variants) else "")
        + f"{_in_unit(measure)}, paired by seed and clip."
    )
    return Table(header, rows, caption)


def short_table(results: Results, measures: Sequence[Measure]) -> Table:
    """One column a measure: mean ± deviation, and the difference to the reference."""
    rows = []
    for variant in results.variants:
        row = [variant.name]
        for measure in measures:
            values = results.known(variant.name, measure.name)
            cell = sentences.spread(*mean_and_deviation(values), measure.unit)
            reference = results.study.reference(variant)
            if reference != variant.name:
                estimate = results.difference(variant.name, reference, measure.name)
                cell += f" ({sentences.signed(estimate, measure.unit)})"
            row.append(cell)
        rows.append(row)
    caption = "Mean ± standard deviation over seeds (difference [95 %])."
    return Table(["variant", *(measure.name for measure in measures)], rows, caption)


def accuracy_table(head: str, values: Mapping[str, Mapping[int, Outcomes]]) -> Table:
    """One row a variant and one column a condition.

    Args:
        head: what the conditions are.
        values: variant -> condition -> outcomes.
    """
    places = list(next(iter(values.values())))
    rows = [[name, *(cell(by[place]) for place in places)] for name, by in values.items()]
    caption = "Accuracy in %, mean [95 % interval]."
    return Table([head, *map(str, places)], rows, caption)


def _plots(results: Results, measure: Measure) -> list[Plot]:
    scale = 100 if measure.unit == "share" else 1
    rows = []
    for variant in results.variants:
        reference = results.study.reference(variant)
        if reference == variant.name:
            continue
        estimate = results.difference(variant.name, reference, measure.name)
        estimate = estimate.possible_difference() if measure.unit == "share" else estimate
        scaled = estimate._replace(
            value=scale * estimate.value, low=scale * estimate.low, high=scale * estimate.high
        )
        if not math.isnan(estimate.value):
            seeds = results.differences(variant.name, reference, measure.name)
            rows.append((variant.name, scaled, [scale * seed for seed in seeds]))
    if not rows:
        return []
    label = f"{measure.name}, difference to {results.variants[0].name}{_in_unit(measure)}"
    png = pictures.forest(rows, label)
    caption = (
        "Difference to the default with its 95 % interval; orange where it excludes zero. "
        "A pale dot is one seed. Intervals beyond the plot are in the table."
    )
    return [Plot("difference", png, caption)]


def _in_unit(measure: Measure) -> str:
    """`, in points`; nothing for a measure without a unit."""
    unit = "points" if measure.unit == "share" else measure.unit
    return f", in {unit}" if unit else ""


def how_to_read(results: Results) -> Section:
    """What would speak for what, and what an interval is."""
    blocks: list[Text] = [Text(results.study.reading)] if results.study.reading else []
    blocks += [Text(f"{v.name}: {v.about}") for v in results.variants if v.about]
    if results.variants:
        blocks.append(
            Text(
                "A 95 % confidence interval covers the variation over seeds and over test clips "
                "(two-way, Satterthwaite's degrees of freedom; see studies/statistics.py). "
                "Of twenty variants without any effect, about one is called different by chance. "
                f"Where an interval contains zero, the page says “{sentences.NO_DIFFERENCE}”."
            )
        )
    return Section("How to read it", blocks)


def how_it_was_done(results: Results, reference: str) -> Section:
    """Data, budget, commands, machine; `reference` is what the command calls the study."""
    plan = results.plan
    blocks: list[Text | Code | Table] = []
    again = ["videorwkv", "study", reference]
    settings = plan.settings
    if settings.data.spec:
        again += [settings.data.spec, *settings.data.words()]
    again += ["--quick"] if settings.quick else []
    again += ["--recipe", settings.recipe] if settings.recipe else []
    again += [word for change in settings.changes for word in ("--set", change)]
    again += ["--seeds", str(settings.seeds)] if settings.seeds else []
    again += [word for name in settings.only for word in ("--only", name)]
    again += [] if settings.show_frames else ["--no-frames"]
    blocks.append(Code([_shown(again, settings.data.spec)]))
    if plan.trainings:
        seeds = sorted({t.seed for t in plan.trainings})
        first = plan.trainings[0]
        train, test = (clips(plan.manifest(first)) for clips in (training_clips, test_clips))
        folds = len({t.fold for t in plan.trainings})
        all_have_all = len(plan.trainings) == len(seeds) * folds * len(plan.variants)
        fewer = "" if all_have_all else " (some variants have only the first of them)"
        blocks.append(
            Text(
                f"{_same_budget(results)} Seeds: {', '.join(map(str, seeds))}{fewer}. "
                + (f"Folds: {folds}, pooled. " if folds > 1 else "")
                + f"Clips: {len(train)} to train, {len(test)} to test"
                + (" (first fold)." if folds > 1 else ".")
                + " The last weights are evaluated; nothing was chosen on test clips."
            )
        )
        commands: dict[str, tuple[str, ...]] = {}
        for training in plan.trainings:
            commands.setdefault(training.variant, training.command)
        blocks.append(Text("One training of each variant (the others differ in --seed):"))
        spec = settings.data.spec
        blocks.append(Code([_shown(command, spec) for command in commands.values()]))
    machines = {tuple(sorted(d.record["machine"].items())) for d in results.done}
    machines.add(tuple(sorted(results.machine.items())))
    rows = [
        # The system's name and no more: a kernel's build says nothing here.
        [name, value.partition("-")[0] if name == "platform" else value]
        for m in sorted(machines)
        for name, value in m
    ]
    blocks.append(Table(["machine", ""], [list(row) for row in dict.fromkeys(map(tuple, rows))]))
    return Section("How it was done", blocks)


def _shown(command: Sequence[str], spec: str | None) -> str:
    """A command for others: where the data lie on this machine, `"$DATA"` stands."""
    words = [shlex.quote(word) for word in command]
    kind, colon, place = (spec or "").rpartition(":")
    if spec in command and os.path.exists(place):
        words[command.index(spec)] = f'{kind}{colon}"$DATA"'
    return " ".join(words)


def _same_budget(results: Results) -> str:
    """Who had the same steps, order of clips and augmentation."""
    budgets = {
        training.variant: repr([getattr(training.recipe, name) for name in _BUDGET])
        for training in results.plan.trainings
    }
    same = "the same steps, order of clips and augmentation in a seed."
    if len(set(budgets.values())) == 1:
        return f"Every variant had {same}"
    other = [
        variant.name
        for variant in results.variants
        if budgets[variant.name] != budgets[results.study.reference(variant)]
    ]
    text = f"Each variant and what it is compared with had {same}"
    return f"But for {', '.join(other)}: {text[0].lower()}{text[1:]}" if other else text


def chance(results: Results, variant: str) -> float:
    """Accuracy of a guess: one over the number of classes."""
    return 1 / results.of(variant)[0].training.recipe.model.num_classes


def cautions(results: Results, variants: Sequence[str], measure: Measure) -> list[str]:
    """What a reader has to know first: one seed alone, or a default that did not learn."""
    found = []
    if len(results.values(variants[0], measure.name)) == 1:
        found.append(
            "Single seed: the intervals cover the variation over clips, not over trainings (seed "
            "variance not included)."
        )
    return found + [text for variant in variants for text in _unlearned(results, variant, measure)]


def _unlearned(results: Results, variant: str, measure: Measure) -> list[str]:
    estimate, level = results.estimate(variant, measure.name), chance(results, variant)
    # With two seeds an interval may hold chance though both are far above it.
    if estimate.low > level or estimate.value > level + 0.25 * (1 - level):
        return []
    return [
        f"{variant} reaches {sentences.with_interval(estimate, 'share')}, chance is "
        f"{100 * level:.1f} %: it has hardly learned at this budget, so comparisons with it say "
        "little."
    ]
