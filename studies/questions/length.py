"""E: what happens in clips of another length, and how long does the memory hold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studies import pictures, sentences
from studies.compare import accuracy_table, chance, compare, table
from studies.design import Measured, Study, Trained, Variant
from studies.lengths import Held, Lengths, check, condition, half_way, is_order
from studies.measures import Accuracy
from studies.questions.order import FOR_PAUSES, WITH_PAUSES
from studies.report import Findings, Plot, Section, Table, Text
from studies.results import Outcomes, Results, cell, difference, unpack
from studies.statistics import Estimate, clips_interval, mean_and_deviation
from studies.stops import CLOCKS, ClockCost, Repeated, present_stops
from videorwkv.run.recipes import Recipe

# Frames that the model sees; the movement is as long as a clip of the default's training.
EVENT, WINDOW = 8, 64
STILL = (0, 1, 2, 4, 8, 16, 32, WINDOW - EVENT, 128)
MIDDLE = (WINDOW - EVENT) // 2
LATE = WINDOW - EVENT
ACCURACY = Accuracy()
LENGTHS = Lengths((4, 8, 16, 32, 64, 128, 256, 512))
HELD = Held(EVENT, ((0, STILL), (MIDDLE, (MIDDLE,)), (LATE, (0,))))
REPEATED = Repeated((0, 4, 16, 64, 128, 256), judged=128)
COST = ClockCost(("lcr_nano", "lcr_tiny"))
PLACES = {
    "early": condition(0, LATE),
    "middle": condition(MIDDLE, MIDDLE),
    "late": condition(LATE, 0),
}


@dataclass(frozen=True)
class Twice:
    """Accuracy with twice the frames of the same clip, as the recipe samples them."""

    name = "accuracy, twice the frames"
    unit = "share"
    lower_is_better = False
    needs_generated = False

    def measure(self, trained: Trained) -> Measured:
        frames = 2 * trained.run.recipe.sampling.num_frames
        return Accuracy(frames=frames).measure(trained)


def present(results: Results) -> Sequence[Section]:
    stops, stopped = present_stops(results, REPEATED, COST)
    if LENGTHS not in results.measures:
        return [*compare(results), Section(stopped.title, [Findings(stops), *stopped.blocks])]
    names = [v.name for v in results.variants if not is_order(_data(results, v.name))]
    lengths = {name: unpack(results, name, LENGTHS.name) for name in names}
    held = {name: unpack(results, name, HELD.name) for name in names}
    after = {name: {s: held[name][condition(0, s)] for s in STILL} for name in names}
    guess = chance(results, names[0])
    found = [*_over_lengths(results, lengths)]
    found += [_hold(name, after[name], guess) for name in names]
    found += [*_placed(names[0], held[names[0]]), *stops]
    level = (100 * guess, "chance")
    over = {n: {int(k): v for k, v in by.items()} for n, by in lengths.items()}
    return [
        Section(
            "Answer",
            [
                Findings(found),
                Plot(
                    "lengths",
                    pictures.places(
                        _accuracies(over),
                        "frames of the clip, at the pace of the training",
                        level,
                        "accuracy, %",
                    ),
                    "Accuracy over the length of the clip, with 95 % intervals.",
                ),
                Plot(
                    "held",
                    pictures.places(
                        _accuracies(after),
                        f"still frames after a movement of {EVENT} frames",
                        level,
                        "accuracy, %",
                    ),
                    "Accuracy over the still frames that follow the movement, with 95 % intervals.",
                ),
            ],
        ),
        Section("As trained", [table(results, ACCURACY), Text(_AS_TRAINED), _twice(results)]),
        Section("Over lengths", [accuracy_table("frames", over)]),
        Section(
            "How long the memory holds",
            [accuracy_table("still frames after", after), _places_table(held)],
        ),
        stopped,
        Section("What was not done", [Text(_NOT_DONE)]),
    ]


def _over_lengths(results: Results, lengths: dict[str, dict[str, Outcomes]]) -> list[str]:
    """The default at the longest clip against its training's, and the others against it there."""
    default, *others = lengths
    longest = str(max(LENGTHS.frames))
    trained = _recipe(results, default).sampling.num_frames
    usual = str(max((n for n in LENGTHS.frames if n <= trained), default=min(LENGTHS.frames)))
    found = [
        sentences.difference(
            f"{default} at {longest} frames",
            f"{default} at {usual}",
            difference(lengths[default][longest], lengths[default][usual]),
            LENGTHS,
            "accuracy",
        )
    ]
    return found + [
        sentences.difference(
            f"{name} at {longest} frames",
            f"{default} there",
            difference(lengths[name][longest], lengths[default][longest]),
            LENGTHS,
            "accuracy",
        )
        for name in others
    ]


def _hold(name: str, after: dict[int, Outcomes], chance: float) -> str:
    """How much is left of a movement after still frames, in one sentence."""
    means = {still: float(values.mean()) for still, values in after.items()}
    first, last = clips_interval(after[0]), clips_interval(after[STILL[-1]])
    start = f"{name}: {100 * first.value:.1f} % right after the movement"
    if not first.low > chance:
        return f"{start}, not significantly above chance: there is nothing to remember."
    lost = half_way(STILL, means, chance)
    between = (
        f"half of the accuracy above chance is lost between {lost[0]} and {lost[1]} still frames"
        if lost
        else f"half of the accuracy above chance is not lost within {STILL[-1]} still frames"
    )
    figures = cell(after[STILL[-1]]).replace(" ", " % ", 1)
    end = (
        "still above chance"
        if last.low > chance
        else "below chance"
        if last.high < chance
        else "no significant difference from chance"
    )
    return f"{start}; {between}; after {STILL[-1]} it is {figures}, {end} ({100 * chance:.1f} %)."


def _placed(name: str, held: dict[str, Outcomes]) -> list[str]:
    return [
        sentences.difference(
            f"{name}, movement {place} in {WINDOW} frames",
            "movement at the end",
            difference(held[PLACES[place]], held[PLACES["late"]]),
            HELD,
            "accuracy",
        )
        for place in ("early", "middle")
    ]


def _places_table(held: dict[str, dict[str, Outcomes]]) -> Table:
    rows = []
    for name, by in held.items():
        row = [name]
        for place, key in PLACES.items():
            text = cell(by[key])
            if place != "late":
                moved = difference(by[key], by[PLACES["late"]])
                text += f" ({sentences.signed(moved, 'share')})"
            row.append(text)
        rows.append(row)
    return Table(
        ["movement", *PLACES],
        rows,
        f"A movement of {EVENT} frames in a clip of {WINDOW}, the others being still: accuracy in "
        "%, mean [95 % interval] (difference to late, in points).",
    )


def _twice(results: Results) -> Table:
    measure = Twice()
    rows = [
        [
            v.name,
            sentences.spread(*mean_and_deviation(results.values(v.name, measure.name)), "share"),
        ]
        for v in results.variants
    ]
    caption = "The same clips with twice as many frames, half as far apart."
    return Table(["variant", measure.name], rows, caption)


def _accuracies(values: Mapping[str, Mapping[int, Outcomes]]) -> dict[str, dict[int, Estimate]]:
    return {
        name: {place: clips_interval(x).possible() for place, x in by.items()}
        for name, by in values.items()
    }


def _recipe(results: Results, name: str) -> Recipe:
    return results.of(name)[0].training.recipe


def _data(results: Results, name: str) -> str:
    return results.of(name)[0].training.data


_AS_TRAINED = "Here a variant is tested on clips like those that it was trained on."
_NOT_DONE = (
    "One training has clips of one length: a recipe does not mix them. What comes close: with "
    "loss_frames=all the loss is taken at every frame of the second half, and since the model "
    "never looks ahead that trains it at all lengths from half of the clip to the whole."
)

_CLOCK_ABOUT = {
    "frames": "The memory forgets and writes at every frame.",
    "change": "The memory forgets and writes as far as the pixels have changed.",
}
PAUSES = tuple(
    Variant(
        f"order with pauses: memory_clock={clock}",
        changes=(*FOR_PAUSES, f"model.memory_clock={clock}"),
        data=WITH_PAUSES,
        against=f"order with pauses: memory_clock={CLOCKS[0]}",
        full_only=True,
        about="Two movements with still frames around each, whose order is the class: nothing but "
        f"a memory tells it. {_CLOCK_ABOUT[clock]}",
    )
    for clock in CLOCKS
)

STUDY = Study(
    "length",
    question="Does the model handle clips of another length, and how long does its memory hold?",
    variants=(
        Variant(
            "default",
            about="The loss at every frame of the second half of a clip. "
            f"{_CLOCK_ABOUT[CLOCKS[0]]}",
        ),
        Variant(
            f"memory_clock={CLOCKS[1]}",
            changes=(f"model.memory_clock={CLOCKS[1]}",),
            about=_CLOCK_ABOUT[CLOCKS[1]],
        ),
        Variant(
            "loss at the last frame",
            changes=("loss_frames=last",),
            about="Trained at one length, where the default learns to answer at several.",
        ),
        Variant(
            "trained at 16 frames",
            changes=("sampling.num_frames=16",),
            data="frames=32",
            about="Clips twice as long at the same pace and for as many steps: twice the cost.",
        ),
        Variant(
            "trained at 32 frames",
            changes=("sampling.num_frames=32",),
            data="frames=64",
            full_only=True,
            about="Four times as long, at the same pace.",
        ),
        Variant(
            "trained with still frames",
            changes=("sampling.num_frames=12",),
            data="frames=24,event=16,at=0",
            about="After 8 frames the movement stops for 4 more; the answers that count, from the "
            "7th frame on, come mostly while nothing moves.",
        ),
        Variant(
            "mean over frames",
            changes=("model.cell=none",),
            about="No memory: the logits of all frames are averaged, each frame with the one "
            "before it in stem and time shift.",
        ),
        Variant(
            "joint attention",
            changes=("model.mixer=joint", "model.cell=none"),
            about="The body of the variant before, where a token attends to the tokens of all "
            "frames so far. Its cost a frame grows with the clip; the table's MACs are those of "
            "the first frame.",
        ),
        *PAUSES,
    ),
    measures=(ACCURACY, Twice(), LENGTHS, HELD, REPEATED),
    probes=(COST,),
    reading=(
        "Lengths are frames that the model sees, at the pace of its training. A class goes on for "
        "the whole clip, so longer clips say more, if the model can use it; what falls there falls "
        "for want of training at that length. Still frames move nothing, and nothing tells the "
        "class but what was seen before or will be: a memory has to hold it, and to wait for it. A "
        "mean over frames forgets nothing and dilutes everything; attention can look back at will. "
        "A memory whose clock is the change of the pixels stands still with them, so it should "
        "lose nothing while a clip's last frame is repeated."
    ),
    present=present,
    check=lambda plan: check(plan.trainings[0].data),
    times=False,
)
