"""F: is the cost linear, measured?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plots import Curve
from benchmarks.timing import crossing
from studies import pictures, sentences
from studies.design import Study
from studies.report import Findings, Plot, Section, Table
from studies.results import Results
from studies.scaling import JOINT_NAME, LCR_NAME, MacsAgreement, Scaling
from studies.statistics import fit_exponent
from videorwkv.models.presets import PUBLISHED

FRAMES = Scaling(
    over="frames",
    sizes=(8, 16, 32, 64, 128, 256, 512, 1024),
    quick_sizes=(8, 16, 32, 64, 128),
    other=112,
)
TOKENS = Scaling(
    over="tokens",
    sizes=(112, 160, 224, 320, 448, 640, 896),
    quick_sizes=(112, 160, 224, 320),
    other=8,
)
AGREEMENT = MacsAgreement(
    configurations=(
        ("lcr_nano", "lcr_nano", ()),
        ("lcr_tiny", "lcr_tiny", ()),
        ("lcr_paper", "lcr_paper", ()),
        ("softmax", "lcr_nano", (("mixer", "softmax"),)),
        ("no edges", "lcr_nano", (("edges", "none"), ("key_value_source", "frame"))),
        ("no memory", "lcr_nano", (("cell", "none"),)),
        ("forward scan", "lcr_nano", (("scan", "forward"),)),
        ("published, small", "lcr_nano", tuple(PUBLISHED.items())),
    )
)
_QUANTITIES = (("ms", "time", "ms a clip"), ("mib", "memory", "MiB beyond the inputs"),
               ("macs", "cost in MACs", "MACs a clip"))  # fmt: skip
# What a difference between the counter and the formula may be.
AGREE = 0.01


def present(results: Results) -> Sequence[Section]:
    sections = []
    found = []
    for probe in (FRAMES, TOKENS):
        values = results.probes[probe.name]
        sentences_here, blocks = _scaling(values)
        found += sentences_here
        unit = f"{values['model']}, " + (
            f"{values['other']} px" if values["over"] == "frames" else f"{values['other']} frames"
        )
        sections.append(Section(f"Over {values['over']} ({unit})", blocks))
    agreement, table = _agreement(results.probes[AGREEMENT.name])
    return [
        Section("Answer", [Findings([*found, agreement])]),
        *sections,
        Section("MACs counted and by formula", [table]),
    ]


def _scaling(values: Mapping[str, Any]) -> tuple[list[str], list[Table | Plot]]:
    over, rows = values["over"], values["rows"]
    clock = values["clock"]
    found: list[str] = []
    blocks: list[Table | Plot] = []
    for key, what, label in _QUANTITIES:
        label = f"{clock} {label}" if key == "ms" else label
        lines = {}
        for name, points in rows.items():
            points = [p for p in points if p[key] > 0]
            lines[name] = Curve([p["size"] for p in points], [p[key] for p in points])
            if len(points) >= 3:
                estimate = fit_exponent(lines[name].x, lines[name].y)
                found.append(sentences.exponent(f"{name}: {what}", estimate, over))
        if key != "macs" and all(line.x for line in lines.values()):
            png = pictures.curves(lines, x=over, y=label, logarithmic=True)
            blocks.append(Plot(f"{over}-{what}", png, f"{label} over {over}."))
    found.append(_cross(over, rows))
    header = [over]
    for name in rows:
        header += [f"{name}: ms", "MiB", "MACs"]
    cells: dict[float, list[str]] = {}
    for name in (LCR_NAME, JOINT_NAME):
        by_size = {p["size"]: p for p in rows[name]}
        for size in {p["size"]: None for points in rows.values() for p in points}:
            p = by_size.get(size)
            cells.setdefault(size, []).extend(
                ["", "", ""] if p is None
                else [f"{p['ms']:.1f}", f"{p['mib']:.1f}", sentences.count(p["macs"])]
            )  # fmt: skip
    table = Table(
        header,
        [[f"{size:g}", *row] for size, row in sorted(cells.items())],
        f"Least {clock} time of a clip without gradients; a curve ends where a call takes too "
        "long.",
    )
    return found, [*blocks, table]


def _cross(over: str, rows: Mapping[str, Any]) -> str:
    ours, theirs = ({p["size"]: p["ms"] for p in rows[name]} for name in (LCR_NAME, JOINT_NAME))
    sizes = [size for size in ours if size in theirs]
    place = crossing(sizes, [ours[s] for s in sizes], [theirs[s] for s in sizes])
    if place is not None:
        return f"LCR takes less time than joint attention from about {place:.0f} {over} on."
    faster = ours[sizes[-1]] < theirs[sizes[-1]]
    return (
        f"LCR takes {'less' if faster else 'more'} time than joint attention at every measured "
        f"number of {over} ({sizes[0]:g} to {sizes[-1]:g})."
        if all((ours[s] < theirs[s]) == faster for s in sizes)
        else f"LCR and joint attention cross more than once over {over}: no crossing is named."
    )


def _agreement(values: Mapping[str, Any]) -> tuple[str, Table]:
    worst = max(values, key=lambda name: abs(values[name]["difference"]))
    share = values[worst]["difference"]
    rows = [
        [
            name,
            f"{row['counted']:,}",
            f"{row['formula']:,}",
            f"{100 * row['difference']:+.2f} %",
        ]
        for name, row in values.items()
    ]
    sentence = (
        f"Counted and analytical MACs {'agree' if abs(share) <= AGREE else 'DISAGREE'} within "
        f"{100 * abs(share):.2f} % (the worst: {worst}); 1 % is allowed."
    )
    return sentence, Table(["model", "counted", "by formula", "difference"], rows)


STUDY = Study(
    "complexity",
    question="Is the cost linear in frames and in tokens, and where does it beat joint attention?",
    probes=(FRAMES, TOKENS, AGREEMENT),
    reading=(
        "A cost that grows with the power 1 is linear, 2 quadratic. Fixed costs of a call and of a "
        "frame pull an exponent below what it is for large sizes: joint attention's MACs are "
        "linear where its products dominate and quadratic where its attention does. Intervals are "
        "those of a straight line through the logarithms; a curve that bends widens them. Joint "
        "attention has the same stem, width, depth and about the parameters, without edges; both "
        "run without gradients, in float32."
    ),
    present=present,
    times=False,
)
