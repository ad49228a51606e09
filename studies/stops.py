"""What is left of a clip when the picture stops at its last frame, and what the clock of the memory
that keeps it costs.

B batch, K classes, S seeds, M clips, N numbers of repetitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor

from studies import pictures, sentences
from studies.compare import accuracy_table, chance
from studies.design import Measured, Trained
from studies.lengths import ROOM, outcomes
from studies.report import Plot, Section, Table, Text
from studies.results import Outcomes, Results, difference, pack, unpack
from studies.statistics import Estimate, clips_interval
from videorwkv.models import LCR, Inputs, LCRConfig, model_config
from videorwkv.models.config import MemoryClock

# The default's first: the others are compared with it.
CLOCKS: Sequence[str] = sorted(
    get_args(MemoryClock), key=lambda clock: clock != LCRConfig().memory_clock
)
# Of more test clips than twice as many, every second, third, ... is shown: each costs as much as
# thirty short ones.
CLIPS = 125
# Share of what was known that a memory has to keep to be called one that keeps it.
ENOUGH = 0.95


@dataclass(frozen=True)
class Repeated:
    """Accuracy after the last frame of a test clip was shown so many times more.

    A clip is sampled as in training, in one view. Its last frame is then the same to the last bit:
    not even the noise of the pixels changes.

    Args:
        times: how many times more, growing; the first is 0.
        judged: the one that findings are about.
    """

    times: tuple[int, ...]
    judged: int

    name = "mean accuracy, last frame repeated"
    unit = "share"
    lower_is_better = False
    needs_generated = False

    def measure(self, trained: Trained) -> Measured:
        test, sampling = trained.test, trained.run.recipe.sampling
        test = replace(test, rows=test.rows[:: max(1, len(test) // CLIPS)])
        # A batch goes on to the next number of repetitions in one piece.
        batch_size = max(1, min(16, ROOM // max(self.times)))
        right_MN = outcomes(trained, test, sampling, len(self.times), self.logits, batch_size)
        return pack({str(n): right_MN[:, i].tolist() for i, n in enumerate(self.times)})

    def logits(self, model: LCR, inputs: Inputs) -> Tensor:
        """Logits after each number of repetitions, [B, N, K]; the state is carried on."""
        logits_BTK, state = model.scan(inputs)
        found, shown = [logits_BTK[:, -1]], 0
        for times in self.times[1:]:
            more = Inputs(*(x[:, -1:].repeat_interleave(times - shown, dim=1) for x in inputs))
            logits_BTK, state = model.scan(more, state)
            found.append(logits_BTK[:, -1])
            shown = times
        return torch.stack(found, dim=1)


def kept(after_SM: Outcomes, start_SM: Outcomes, chance: float) -> Estimate:
    """Share of the accuracy above chance at the start that is still there afterwards.

    A ratio of two means of the same clips; its interval is that of the linear approximation (the
    delta method), which needs a start well above chance.
    """
    start = float(start_SM.mean()) - chance
    share = (float(after_SM.mean()) - chance) / start
    error = clips_interval(after_SM - chance - share * (start_SM - chance))
    return Estimate(share, share + error.low / start, share + error.high / start, error.seeds)


@dataclass(frozen=True)
class ClockCost:
    """Time of a frame of one stream with each clock of the memory, ready for inference.

    Args:
        models: names of presets.
    """

    models: tuple[str, ...]

    name = "cost of the memory's clock"

    def probe(self, *, quick: bool, device: str) -> Mapping[str, Any]:
        """`{"clock": "CPU" or "wall", "ms": {model: {clock: milliseconds}}}`, the least of many.

        The clocks of a model are timed in turns, so that a busy machine disturbs their ratio
        little.
        """
        from studies.timing import frame_times
        from videorwkv.utils.device import pick_device

        where = pick_device(device)
        clock, key = ("wall", "least") if where.type == "cuda" else ("CPU", "cpu")
        found = {}
        for model in self.models:
            times = frame_times(
                {c: model_config(model, memory_clock=c) for c in CLOCKS},
                seconds=3.0 if quick else 20.0,
                device=where,
                folded=True,
            )
            found[model] = {c: values[key] for c, values in times.items()}
        return {"clock": clock, "ms": found}


def present_stops(
    results: Results, repeated: Repeated, cost: ClockCost
) -> tuple[list[str], Section]:
    """Sentences on the clocks of the memory; every variant in tables and a plot."""
    after = repeated.judged
    by = {
        v.name: {int(n): x for n, x in unpack(results, v.name, repeated.name).items()}
        for v in results.variants
    }
    left = {
        name: {n: kept(x, values[0], chance(results, name)) for n, x in values.items()}
        for name, values in by.items()
        if clips_interval(values[0]).low > chance(results, name)
    }
    found = []
    for name, reference in _pairs(results):
        found += [_left(n, by[n][0], left[n][after] if n in left else None, after)
                  for n in (reference, name)]  # fmt: skip
        moved = difference(by[name][after], by[reference][after])
        name = f"{name} after {after} repetitions of the last frame"
        found.append(sentences.difference(name, f"{reference} there", moved, repeated, "accuracy"))
    header = ["last frame repeated", *map(str, repeated.times)]
    rows = [
        [name, *(_per_cent(left[name][n]) if name in left else "" for n in values)]
        for name, values in by.items()
    ]
    blocks: list[Text | Table | Plot] = [
        Text(_ABOUT),
        accuracy_table(header[0], by),
        Table(header, rows, _LEFT),
    ]
    if left:
        picture = pictures.places(
            left,
            "how often the last frame was repeated",
            (100 * ENOUGH, f"{100 * ENOUGH:g} %"),
            "left of the accuracy above chance, %",
        )
        blocks.insert(0, Plot("stopped", picture, _LEFT))
    costs, table = _costs(results.probes[cost.name])
    return [*found, *costs], Section("A clip that stops", [*blocks, table])


def _pairs(results: Results) -> list[tuple[str, str]]:
    """Variants with another clock of the memory, and what each is compared with."""
    pairs = [(v, results.study.reference(v)) for v in results.variants]
    return [
        (variant.name, reference)
        for variant, reference in pairs
        if variant.name != reference
        and any(change.startswith("model.memory_clock=") for change in variant.changes)
    ]


def _left(name: str, start_SM: Outcomes, share: Estimate | None, after: int) -> str:
    start = f"{name}: {100 * float(start_SM.mean()):.1f} % at a clip's last frame"
    if share is None:
        return f"{start}, not significantly above chance: there is nothing to remember."
    verdict = (
        f"at least {100 * ENOUGH:g} %"
        if share.low >= ENOUGH
        else f"less than {100 * ENOUGH:g} %"
        if share.high < ENOUGH
        else f"the interval does not decide about {100 * ENOUGH:g} %"
    )
    figures = _per_cent(share).replace(" ", " % ", 1)
    return (
        f"{start}; after {after} repetitions of it {figures} of what is above chance is left: "
        f"{verdict}."
    )


def _per_cent(share: Estimate) -> str:
    """`98.1 [95.0, 101.2]`: a share that an interval may take above 100."""
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _costs(values: Mapping[str, Any]) -> tuple[list[str], Table]:
    """How long a frame takes with each clock of the memory."""
    found, rows = [], []
    for model, times in values["ms"].items():
        ratio = times["change"] / times["frames"]
        found.append(
            f"A frame of {model} takes {ratio:.2f} times as long with memory_clock=change as with "
            "frames."
        )
        rows.append([model, f"{times['frames']:.2f}", f"{times['change']:.2f}", f"{ratio:.2f}"])
    caption = (
        f"Least {values['clock']} time of a frame of one stream, ready for inference, in ms; both "
        "clocks of a model are timed in turns."
    )
    return found, Table(["memory_clock", "frames", "change", "ratio"], rows, caption)


_ABOUT = (
    "Each test clip is shown as the model was trained to see it, then its last frame again and "
    "again, to the last bit: not even the noise of the pixels changes, as it does in the still "
    "frames above. The state is carried on, so a repetition costs what a frame does."
)
_LEFT = (
    "What is left of the accuracy above chance at the clip's last frame, in %, with its 95 % "
    "interval; nothing of variants that are not significantly above chance there."
)
