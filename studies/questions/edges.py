"""B: which edges, are they needed, and what do they stand?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studies import pictures, sentences
from studies.compare import cautions, chance, compare
from studies.corruptions import Blur, Change, Dark, Frames, Jpeg, Noise
from studies.design import FULL_FIVE_SEEDS, Study, Variant
from studies.extraction import (
    ExtractionCost,
    Extractor,
    agreement,
    changed,
    density,
    sample_frames,
    sheet,
)
from studies.measures import Accuracy
from studies.report import Findings, Plot, Section, Table, Text
from studies.results import Results
from studies.statistics import mean_and_deviation
from videorwkv.models import LCRConfig
from videorwkv.run import recipes

DEFAULT, SCATTERED, NONE = "Canny, Otsu", "scattered pixels", "no edges"
# Written out, so that a variant is what its name says whatever the user's recipe has.
CANNY, OTSU = "model.edges=canny", "model.edge_options.high=0"
VARIANTS = (
    Variant(DEFAULT, changes=(CANNY, OTSU),
            about="The default: both thresholds from the frame itself; pre-blur 5 pixels "
            "wide (standard deviation 1.1), if the recipe has no other."),
    Variant("Canny, low threshold", changes=(CANNY, "model.edge_options.high=30"),
            about="The same threshold for every frame, below Otsu's of nearly all frames."),
    Variant("Canny, middle threshold", changes=(CANNY, "model.edge_options.high=60"),
            about="About Otsu's median on the generated clips; of real ones it is below.",
            full_only=True),
    Variant("Canny, high threshold", changes=(CANNY, "model.edge_options.high=150"),
            about="Above Otsu's of nearly all frames."),
    Variant("no pre-blur", changes=(CANNY, OTSU, "model.edge_options.blur_size=1")),
    Variant("pre-blur 9", changes=(CANNY, OTSU, "model.edge_options.blur_size=9"),
            about="Standard deviation 1.7 pixels.", full_only=True),
    Variant("pre-blur 15", changes=(CANNY, OTSU, "model.edge_options.blur_size=15"),
            about="Standard deviation 2.6 pixels.", full_only=True),
    Variant("Sobel", changes=("model.edges=sobel",), about="Graded: the gradient's length."),
    Variant("Laplacian", changes=("model.edges=laplacian",), about="Graded, without direction.",
            full_only=True),
    Variant(SCATTERED, changes=("model.edges=scattered",),
            about="As many pixels as the default's edges, anywhere: is it the edges, or noise in "
            "the gate?"),
    Variant(NONE, changes=("model.edges=none", "model.key_value_source=frame"),
            about="K and V of the frame alone; the forget rate is learned and constant."),
)  # fmt: skip
ACCURACY = Accuracy()
# Kind -> its strengths, the strongest last.
KINDS: dict[str, tuple[Change, ...]] = {
    "noise": (Noise(8), Noise(16)),
    "blur": (Blur(2), Blur(4)),
    "darkness": (Dark(0.6), Dark(0.4)),
    "JPEG": (Jpeg(20), Jpeg(8)),
}
ROBUST = {
    change: Accuracy(label=change.name, change=change)
    for strengths in KINDS.values()
    for change in strengths
}


def extractors(models: Mapping[str, LCRConfig]) -> tuple[Extractor, ...]:
    """What makes the edges of each variant's model, where it has any."""
    found = (Extractor(name, model.edges, model.edge_options) for name, model in models.items())
    return tuple(extractor for extractor in found if extractor.method != "none")


# A probe needs no training, so what is timed has the usual recipe's options.
COST = ExtractionCost(
    extractors=extractors(
        {v.name: recipes.apply_overrides(recipes.motion_demo(), v.changes).model for v in VARIANTS}
    )
)


def present(results: Results) -> Sequence[Section]:
    answer, table, *_ = compare(results)
    names = {variant.name for variant in results.variants}
    found = cautions(results, [DEFAULT], ACCURACY)
    found += [
        sentence
        for block in answer.blocks
        if isinstance(block, Findings)
        for sentence in block.sentences
    ]
    if {SCATTERED, NONE} <= names:
        found.append(_needed(results))
    if len(names) > 1:
        found += [_robust(results, change) for strengths in KINDS.values() for change in strengths]
    found.append(_cost_sentence(results))
    rest = [block for block in answer.blocks if not isinstance(block, Findings)]
    return [
        Section(answer.title, [Findings(found), *rest]),
        table,
        Section("Worse frames at test time", _robust_blocks(results)),
        Section(
            "The maps",
            _maps(results, extractors({t.variant: t.recipe.model for t in results.plan.trainings})),
        ),
        Section("Cost", [_cost_table(results)]),
    ]


def _needed(results: Results) -> str:
    """The edges, or any noise in the gate? What three comparisons say together."""
    places = results.difference(DEFAULT, SCATTERED, ACCURACY.name)
    need = results.difference(DEFAULT, NONE, ACCURACY.name)
    noise = results.difference(SCATTERED, NONE, ACCURACY.name)
    if places.low > 0:
        verdict = "scattered pixels are worse, so the content of the map matters"
        if need.low <= 0:
            verdict += ", but the gain over no map at all is not significant"
    elif places.high < 0:
        verdict = "no, as many scattered pixels do better"
    elif noise.low > 0:
        verdict = "undecided: scattered pixels help too, and do not differ significantly from edges"
    else:
        verdict = f"{sentences.NO_DIFFERENCE} between edges and as many scattered pixels"
    figures = (
        f"edges minus scattered pixels {sentences.signed(places, 'share')} points, edges minus "
        f"none {sentences.signed(need, 'share')}, scattered pixels minus none "
        f"{sentences.signed(noise, 'share')}"
    )
    return f"Is it the edges? {verdict[0].upper()}{verdict[1:]}: {figures}."


def _robust(results: Results, change: Change) -> str:
    """One change: what it costs the default, and who stands it better or worse."""
    name = ROBUST[change].name
    fall = results.difference(DEFAULT, DEFAULT, name, reference_measure=ACCURACY.name)
    left = results.estimate(DEFAULT, name).value
    better: list[str] = []
    worse: list[str] = []
    others = [v.name for v in results.variants if v.name != DEFAULT]
    for variant in others:
        estimate = results.difference(variant, DEFAULT, name)
        if estimate.decides:
            words = f"{variant} ({sentences.signed(estimate, 'share')})"
            (better if estimate.value > 0 else worse).append(words)
    figures = f"{sentences.signed(fall, 'share')} points, to {sentences.number(left, 'share')}"
    text = f"{name}: the accuracy of {DEFAULT} changes by {figures}"
    if not better and not worse:
        return f"{text}; {sentences.NO_DIFFERENCE} between it and the others."
    for word, those in (("better", better), ("worse", worse)):
        text += f"; {word}: {', '.join(those)}" if those else ""
    return text + "."


def _robust_blocks(results: Results) -> list[Text | Table | Plot]:
    variants = [v.name for v in results.variants]
    rows = []
    for variant in variants:
        row = [variant]
        for measure in (ACCURACY, *ROBUST.values()):
            values = results.values(variant, measure.name)
            cell = sentences.spread(*mean_and_deviation(values), measure.unit)
            if variant != DEFAULT:
                # The interval itself would make the table as wide as three.
                estimate = results.difference(variant, DEFAULT, measure.name)
                cell += (" ▲" if estimate.value > 0 else " ▼") if estimate.decides else ""
            row.append(cell)
        rows.append(row)
    header = ["variant", "as it is", *(measure.name for measure in ROBUST.values())]
    compared = (len(variants) - 1) * len(ROBUST)
    caption = (
        "Accuracy, mean ± standard deviation over seeds. ▲ ▼: the interval of the difference to "
        f"{DEFAULT} excludes zero. Of {compared} such comparisons without any effect about "
        f"{max(1, round(0.05 * compared))} would be marked by chance."
    )
    found: list[Text | Table | Plot] = [Table(header, rows, caption)]
    found += [_kind_plot(results, kind, strengths) for kind, strengths in KINDS.items()]
    return found


def _kind_plot(results: Results, kind: str, strengths: Sequence[Change]) -> Plot:
    names = [ACCURACY.name, *(ROBUST[change].name for change in strengths)]
    series = {
        label: [results.estimate(v.name, name).possible() for v in results.variants]
        for label, name in zip(("as it is", *names[1:]), names, strict=True)
    }
    level = (chance(results, DEFAULT), "chance")
    png = pictures.bars([v.name for v in results.variants], series, y="accuracy", level=level)
    return Plot(kind, png, f"Accuracy under {kind}, with 95 % intervals.")


def _maps(results: Results, extracts: Sequence[Extractor]) -> list[Table | Plot]:
    frames_NHWC = sample_frames(results)
    changes = tuple(ROBUST)
    worse = {change: changed(frames_NHWC, change) for change in changes}
    rows = [_map_row(extract, frames_NHWC, worse) for extract in extracts]
    table = Table(
        ["edges", "density", *(change.name for change in changes)],
        rows,
        f"Of {len(frames_NHWC)} test clips' middle frames. Density: mean of the map, an edge "
        "counting 1. The others: how much of the map of the frame as it is and of that of the "
        "changed one lies within a pixel of the other's (F1, mean over frames). Maps that are "
        f"dense agree by chance: {SCATTERED} says how much at the default's density.",
    )
    if not results.plan.settings.show_frames:
        return [table]
    strongest = [strengths[-1] for strengths in KINDS.values()]
    png = sheet(frames_NHWC[0], extracts, strongest)
    return [Plot("maps", png, "Edge maps of one frame, as it is and under each change."), table]


def _map_row(extract: Extractor, frames_NHWC: Frames, worse: dict[Change, Frames]) -> list[str]:
    edges_NHW = extract(frames_NHWC)
    agree = [f"{agreement(edges_NHW, extract(x_NHWC)):.2f}" for x_NHWC in worse.values()]
    return [extract.name, sentences.number(density(edges_NHW), "share"), *agree]


def _cost_sentence(results: Results) -> str:
    cost = results.probes[COST.name]
    times = {name: row["ms"] for name, row in cost["rows"].items() if name != SCATTERED}
    slowest = max(times, key=lambda name: times[name])
    cheapest = min(times, key=lambda name: times[name])
    return (
        f"{DEFAULT} takes {times[DEFAULT]:.2f} ms of CPU time for a frame of {cost['size']} px; "
        f"{cheapest} is the cheapest ({times[cheapest]:.2f} ms), {slowest} the most expensive "
        f"({times[slowest]:.2f} ms). {cost['model']} takes {cost['model_ms']:.1f} ms "
        f"({cost['model_clock']} time) for the frame itself: the edges cost "
        f"{100 * times[DEFAULT] / cost['model_ms']:.1f} % of that."
    )


def _cost_table(results: Results) -> Table:
    cost = results.probes[COST.name]
    rows = [
        [
            name,
            f"{row['ms']:.3f}",
            f"{row['median']:.3f}",
            f"{row['ms'] / cost['rows'][DEFAULT]['ms']:.2f}",
            f"{100 * row['ms'] / cost['model_ms']:.1f} %",
        ]
        for name, row in cost["rows"].items()
    ]
    return Table(
        ["edges", "CPU ms", "wall ms", "of the default's", f"of {cost['model']}'s"],
        rows,
        f"One frame of {cost['size']} px, a generated one: colours to grey, pre-blur, extraction, "
        "with the options of the recipe motion_demo. "
        "Least CPU time and median wall time of many calls in turns. "
        f"{cost['model']}: {cost['model_ms']:.1f} ms ({cost['model_clock']} time) a frame.",
    )


STUDY = Study(
    "edges",
    question="Which edge maps serve best, are they needed, and how robust are they?",
    variants=VARIANTS,
    measures=(ACCURACY, *ROBUST.values()),
    probes=(COST,),
    reading=(
        "Every model is trained on clean clips with the edges that it is tested with. Scattered "
        "pixels are as dense as the default's edges and say nothing: a model that does as well "
        "with them does not live on edges, and one that does as well without any does not need "
        "them on these clips. At test time the frames are changed and the edges made of the "
        "changed frames, so both inputs get worse; a difference between two variants there holds "
        "what they differ by on clean clips too. Noise: standard deviation in grey levels; blur: "
        "standard deviation in pixels; light: share of it that is left; JPEG: quality."
    ),
    present=present,
    full=FULL_FIVE_SEEDS,
    times=False,
)
