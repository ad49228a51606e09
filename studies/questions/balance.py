"""D: how much should the edges weigh?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studies import pictures, sentences
from studies.compare import compare
from studies.design import FULL_FIVE_SEEDS, Measured, Study, Trained, Variant
from studies.measures import Accuracy
from studies.plan import Plan
from studies.report import Findings, Plot, Section, Table
from studies.results import Results
from studies.statistics import mean_and_deviation, mean_interval
from videorwkv.errors import UsageError

# The first is what the paper has.
STRENGTHS = (1.0, 0.0, 0.25, 0.5, 1.5, 2.0)
LEARNED = "learned per layer"


@dataclass(frozen=True)
class Strength:
    """The weight of the edges in the trained model: the mean over its layers, and each layer's."""

    name = "edge strength"
    unit = ""
    lower_is_better = False
    needs_generated = False

    def measure(self, trained: Trained) -> Measured:
        config = trained.run.recipe.model
        if not config.learn_edge_strength:
            return Measured(config.edge_strength)
        model = trained.run.model()
        strengths = [float(layer.get_parameter("edge_strength").detach()) for layer in model.layers]
        parts = {f"layer {i}": strength for i, strength in enumerate(strengths, start=1)}
        return Measured(sum(strengths) / len(strengths), parts=parts)


ACCURACY, STRENGTH = Accuracy(), Strength()


def check(plan: Plan) -> None:
    """`UsageError` where there are no edges to weigh."""
    if any(training.recipe.model.edges == "none" for training in plan.trainings):
        raise UsageError(
            "Study 'balance' asks how much the edges should weigh, and model.edges=none has "
            "none; choose another --recipe, or --set model.edges=canny."
        )


def present(results: Results) -> Sequence[Section]:
    answer, table, *_ = compare(results)
    fixed = {v.name: float(v.name.split()[-1]) for v in results.variants if v.name != LEARNED}
    names = sorted(fixed, key=lambda name: fixed[name])
    strengths = [fixed[name] for name in names]
    estimates = [results.estimate(name, ACCURACY.name) for name in names]
    lines = {"fixed": pictures.curve(strengths, estimates, share=True)}
    found, blocks = [_best(results, names)], []
    if LEARNED in {v.name for v in results.variants}:
        chosen = results.known(LEARNED, STRENGTH.name)
        if chosen:
            learned = results.estimate(LEARNED, ACCURACY.name)
            place = sum(chosen) / len(chosen)
            lines["learned"] = pictures.curve([place], [learned], share=True)
            found.append(_chosen(chosen))
        rows = [
            [layer, sentences.spread(*mean_and_deviation(values), "")]
            for layer, values in results.parts(LEARNED, STRENGTH.name).items()
        ]
        blocks.append(Table(["learned", "edge strength"], rows, "It starts at 1 in every layer."))
    png = pictures.curves(lines, x="edge strength", y="accuracy, %")
    plot = Plot("strength", png, "Accuracy over the weight of the edges, with 95 % intervals.")
    return [Section(answer.title, [Findings(found), *answer.blocks, plot, *blocks]), table]


def _best(results: Results, names: Sequence[str]) -> str:
    """Which fixed strength is ahead, and whether it is so beyond doubt."""
    values = {name: results.estimate(name, ACCURACY.name).value for name in names}
    best = max(values, key=lambda name: values[name])
    beaten = [
        name
        for name in names
        if name != best and results.difference(best, name, ACCURACY.name).decides
    ]
    text = f"The best fixed one was {best} ({100 * values[best]:.1f} %)"
    if len(beaten) == len(names) - 1:
        return f"{text}, better than every other."
    rest = f"; better than {', '.join(beaten)} only" if beaten else ""
    return f"{text}{rest}: the optimum is not determined."


def _chosen(chosen: Sequence[float]) -> str:
    estimate = mean_interval(chosen)
    learned = (
        f"The learned strength was {sentences.with_interval(estimate, '')} in the mean over layers"
    )
    if len(chosen) == 1:
        return f"{learned} (one seed, which gives no interval); it starts at 1."
    moved = "does not differ" if estimate.low <= 1 <= estimate.high else "differs"
    return f"{learned} ({len(chosen)} seeds): it {moved} significantly from its start at 1."


STUDY = Study(
    "balance",
    question="How much should the edges weigh against the temporal features?",
    variants=(
        *(Variant(f"strength {s:g}", changes=(f"model.edge_strength={s:g}",)) for s in STRENGTHS),
        Variant(LEARNED, changes=("model.learn_edge_strength=true",)),
    ),
    measures=(ACCURACY, STRENGTH),
    reading=(
        "0 takes the edges out of gate and forget gate, 1 is as published. The first layer after "
        "the edges is learned and can undo a fixed factor in part; what the factor changes is how "
        "fast the edges come in. A flat curve says that the weight does not matter here. A learned "
        "strength beyond 1 says that training wants more of the edges than the start gives."
    ),
    present=present,
    check=check,
    full=FULL_FIVE_SEEDS,
)
