"""D: how much should the edges weigh?"""

from __future__ import annotations

from collections.abc import Sequence

from videorwkv.study import pictures
from videorwkv.study.compare import compare
from videorwkv.study.design import Study, Variant
from videorwkv.study.page import Plot, Section
from videorwkv.study.results import Results

# The first is what the paper has.
STRENGTHS = (1.0, 0.0, 0.25, 0.5, 1.5, 2.0)


def present(results: Results) -> Sequence[Section]:
    answer, *rest = compare(results)
    measure = results.measures[0]
    strengths = sorted(float(v.name.split()[-1]) for v in results.variants if "strength" in v.name)
    estimates = [results.estimate(f"strength {s:g}", measure.name) for s in strengths]
    png = pictures.curves(
        {"fixed": pictures.Curve.of(strengths, estimates, scale=100)},
        x="edge strength",
        y=f"{measure.name}, %",
    )
    plot = Plot("strength", png, "Accuracy over the weight of the edges, with 95 % intervals.")
    return [Section(answer.title, [*answer.blocks, plot]), *rest]


STUDY = Study(
    "balance",
    question="How much should the edges weigh against the temporal features?",
    variants=tuple(
        Variant(f"strength {s:g}", changes=(f"model.edge_strength={s:g}",)) for s in STRENGTHS
    ),
    reading=(
        "0 takes the edges out of gate and forget signal, 1 is as published. The first layer after "
        "the edges is learned and can undo a fixed factor in part; what the factor changes is how "
        "fast the edges come in. A flat curve says that the weight does not matter here."
    ),
    present=present,
)
