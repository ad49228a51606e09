"""Steps that two processes share against the same steps taken by one; `pair.py` calls it.

In float64, where rounding is far below what a wrong share, norm or draw would change.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from typing import Any

import tiny
import torch
from torch import Tensor

from videorwkv.data import Batch
from videorwkv.data.mixing import Mixing
from videorwkv.models import Inputs, build_model
from videorwkv.training.learner import Learner
from videorwkv.utils.processes import ALONE, Processes

CPU = torch.device("cpu")
# Options -> readable clips of each process in each piece of the batch of each step.
CASES: dict[str, tuple[dict[str, Any], list[list[list[int]]]]] = {
    "equal parts": ({}, [[[2], [2]]] * 3),
    "unequal parts": ({}, [[[2], [3]], [[1], [4]], [[3], [1]]]),
    "one has no clip": ({}, [[[2], [2]], [[0], [3]], [[4], [0]]]),
    "nobody has one": ({}, [[[2], [2]], [[0], [0]], [[2], [1]]]),
    "drop-path": ({"model": {"drop_path": 0.5, "depth": 3}}, [[[2], [3]], [[0], [4]]]),
    "every frame, averaged": ({"loss_frames": "all", "ema": 0.9}, [[[2], [3]]] * 3),
    "pieces": ({"accumulate": 2}, [[[2, 1], [3, 2]], [[0, 2], [3, 1]], [[1, 0], [2, 0]]]),
    "few activations": ({"checkpoint_frames": 2}, [[[2], [3]]] * 2),
    "no batch norm": ({"model": {"stem": "patch", "head_norm": "layer"}}, [[[2], [3]]] * 3),
    "frozen stem": ({"freeze": ("stem",)}, [[[2], [3]]] * 2),
    "mixed pairs": ({"mixup": 0.8, "cutmix": 1.0}, [[[2], [4]], [[4], [3]], [[0], [3]]]),
    "mixed, every frame": ({"mixup": 0.8, "loss_frames": "all"}, [[[2], [3]]] * 2),
    "another gate": ({"model": {"forget_source": "rate"}}, [[[2], [3]]] * 2),
}


def batch(
    inputs: Inputs, labels: Tensor, step: int, indices: Sequence[int], mixing: Mixing
) -> Batch:
    rows = torch.tensor(indices, dtype=torch.int64)
    chosen = Inputs(*(x[rows] for x in inputs)) if len(rows) else None
    keys, good = [(step, index) for index in indices], [True] * len(indices)
    mix = mixing.plan(keys, good, seed=0, size=32) if mixing.is_on else None
    return Batch(chosen, labels[rows], rows, mix=mix)


def worst_difference(processes: Processes, changes: dict[str, Any], steps: list[Any]) -> float:
    recipe = tiny.recipe(batch_size=6, **changes)
    torch.manual_seed(0)
    model = build_model(recipe.model).double()
    if recipe.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(recipe.freeze))
    alone = Learner(copy.deepcopy(model), recipe, CPU, ALONE)
    shared = Learner(model, recipe, CPU, processes)
    worst = 0.0
    mixing = Mixing(mixup=recipe.mixup, cutmix=recipe.cutmix)
    for step, counts_PA in enumerate(steps):
        generator = torch.Generator().manual_seed(step)
        frames = torch.randint(0, 256, (9, 3, 32, 32, 3), generator=generator, dtype=torch.uint8)
        edges = 255 * torch.randint(0, 2, (9, 3, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 8, (9,), generator=generator)
        inputs = Inputs(frames, edges)

        whole, mine, first = [], [], 0
        for counts_P in zip(*counts_PA, strict=True):
            every = list(range(first, first + sum(counts_P)))
            start = sum(counts_P[: processes.rank])
            whole.append(batch(inputs, labels, step, every, mixing))
            mine.append(
                batch(inputs, labels, step, every[start : start + counts_P[processes.rank]], mixing)
            )
            first += sum(counts_P)
        totals = [[sum(counts_P) for counts_P in zip(*counts_PA, strict=True)]]
        one, other = alone.step(whole, totals, step, 1e-3), shared.step(mine, counts_PA, step, 1e-3)
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.clips, one.correct) == (other.clips, other.correct)
            worst = max(worst, abs(one.loss - other.loss), abs(one.norm - other.norm) / one.norm)
    state, wanted = shared.best_model.state_dict(), alone.best_model.state_dict()
    assert state.keys() == wanted.keys()
    for name in wanted:
        worst = max(worst, float((state[name].double() - wanted[name].double()).abs().max()))
    return worst


def check(processes: Processes) -> int:
    """Print the largest difference of each case."""
    json.dump(
        {name: worst_difference(processes, *case) for name, case in CASES.items()}, sys.stdout
    )
    return 0
