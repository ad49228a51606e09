"""G: does it see motion, or what stands in the frames?"""

from __future__ import annotations

from collections.abc import Sequence

from studies import pictures, sentences
from studies.corruptions import Order
from studies.data import is_generated
from studies.design import Study, Variant
from studies.measures import Accuracy
from studies.report import Findings, Plot, Section, Table, Text
from studies.results import Results
from studies.statistics import Estimate, mean_and_deviation, mean_interval
from videorwkv.data.motion.order import backwards
from videorwkv.utils.files import slug

# Where the order of two movements is the class, nothing tells it without the order of the frames.
# It begins to be learnt later than single movements do, and at 2e-3 not with every seed (LOG.md).
TWO_MOVEMENTS = "order=2,frames=16"
FOR_TWO = ("steps=800", "lr=1e-3")
# The same with six still frames between and around, of which the model sees every other.
WITH_PAUSES = "order=2,pause=3,frames=40"
FOR_PAUSES = (*FOR_TWO, "sampling.num_frames=20")

# An interval that stays so near says more than that no difference was found.
NEAR = 0.05

FORWARDS = Accuracy(label="forwards")
CHANGED = tuple(Accuracy(label=how, change=Order(how)) for how in ("backwards", "shuffled",
                "frozen"))  # fmt: skip


def present(results: Results) -> Sequence[Section]:
    measures = (FORWARDS, *CHANGED)
    found = []
    for variant in results.variants:
        chance = 1 / _classes(results, variant.name)
        for measure in CHANGED:
            fall = results.difference(
                variant.name, variant.name, measure.name, reference_measure=FORWARDS.name
            )
            found.append(
                sentences.difference(
                    f"{variant.name}: {measure.name}", "forwards", fall, FORWARDS, "accuracy"
                )
            )
        shuffled = results.estimate(variant.name, "shuffled")
        found.append(_beside_chance(variant.name, shuffled, chance))
    rows = []
    for variant in results.variants:
        cells = [
            sentences.spread(*mean_and_deviation(results.values(variant.name, m.name)), "share")
            for m in measures
        ]
        rows.append([variant.name, *cells, f"{100 / _classes(results, variant.name):.1f} %"])
    header = ["trained on", *(m.name for m in measures), "chance"]
    table = Table(header, rows, "Mean ± standard deviation over seeds.")
    return [
        Section("Answer", [Findings(found), table]),
        *(_per_class(results, variant.name) for variant in results.variants),
    ]


def _beside_chance(name: str, shuffled: Estimate, chance: float) -> str:
    figures = sentences.with_interval(shuffled, "share")
    if chance - NEAR <= shuffled.low and shuffled.high <= chance + NEAR:
        verdict = f"at chance, within {100 * NEAR:g} points."
    elif shuffled.low <= chance <= shuffled.high:
        verdict = f"{sentences.NO_DIFFERENCE} from chance."
    elif shuffled.high < chance:
        verdict = "below chance."
    else:
        verdict = "above chance: frames in random order still carry information."
    return f"{name}: shuffled {figures}, chance {100 * chance:.1f} %: {verdict}"


def _classes(results: Results, variant: str) -> int:
    return results.of(variant)[0].training.recipe.model.num_classes


def _per_class(results: Results, variant: str) -> Section:
    measures = (FORWARDS, *CHANGED)
    parts = {m.name: results.parts(variant, m.name) for m in measures}
    classes = list(parts[FORWARDS.name])
    if not classes:
        return Section(f"Per class: {variant}", [Text("No training of it has weights.")])
    # Of clips of another kind nobody knows what they show.
    known = is_generated(results.of(variant)[0].training.data)
    rows = [
        [
            label,
            *(f"{100 * mean_and_deviation(parts[m.name][label])[0]:.1f} %" for m in measures),
            *([backwards(label) or "none of them"] if known else []),
        ]
        for label in classes
    ]
    header = ["class", *(m.name for m in measures), *(["backwards it shows"] if known else [])]
    blocks: list[Table | Plot] = [Table(header, rows, "Accuracy per class, mean over seeds.")]
    if len(classes) <= 12:
        series = {m.name: [mean_interval(parts[m.name][c]) for c in classes] for m in measures}
        flat = {
            name: [Estimate(e.value, e.value, e.value, e.seeds) for e in estimates]
            for name, estimates in series.items()
        }
        png = pictures.bars(
            classes, flat, y="accuracy", level=(1 / _classes(results, variant), "chance")
        )
        blocks.append(Plot(f"classes-{slug(variant)}", png, f"{variant}: accuracy per class."))
    return Section(f"Per class: {variant}", blocks)


STUDY = Study(
    "order",
    question="Does the model see motion, or what stands in the frames?",
    variants=(
        Variant("one movement"),
        Variant(
            "order of two movements",
            data=TWO_MOVEMENTS,
            against="order of two movements",  # compared with nothing else
            changes=FOR_TWO,
            about="The order of two movements is the class; without the order of the frames "
            "nothing tells it, by construction.",
        ),
    ),
    measures=(FORWARDS, *CHANGED),
    reading=(
        "Trained on clips as they are, tested on the same clips played backwards, with the frames "
        "shuffled, and with one frame shown throughout. A model that names what stands in the "
        "frames does not mind. Where the order is the class, shuffled and frozen clips must fall "
        "to chance; backwards, a generated class becomes the one in the last column, so its own "
        "accuracy falls to zero where that is another."
    ),
    present=present,
    times=False,
)
