"""Room for what the operation `cell` gives, the same for its ways in C and Triton and for graphs.

T frames, B batch, L tokens of a frame, C channels; arguments are those of `cell`.
"""

from __future__ import annotations

from torch import Tensor


def results(
    branch: Tensor, gate: Tensor | None, rate: Tensor | None, aside: Tensor | None,
    memory: Tensor, kind: int, every: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Room for h of all frames and for the memories that are asked for."""
    frames = len(branch)
    return (
        memory.new_empty(frames, *memory.shape),
        memory.new_empty(frames if every else 1, *memory.shape),
    )


def gradients(
    branch: Tensor, gate: Tensor | None, aside: Tensor | None, memory: Tensor
) -> list[Tensor]:
    """Room for the gradients; of what is None, none."""
    given = (branch, gate, aside, memory)
    return [memory.new_empty(0) if x is None else x.new_empty(x.shape) for x in given]


def backward_results(
    dout: Tensor | None, dmemories: Tensor | None, branch: Tensor, gate: Tensor | None,
    rate: Tensor | None, aside: Tensor | None, memory: Tensor, kind: int, every: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Room for all that the way back gives; arguments as of the operation."""
    dbranch, dgate, daside, dmemory = gradients(branch, gate, aside, memory)
    drate = memory.new_empty(0 if rate is None else rate.shape)
    return dbranch, dgate, drate, daside, dmemory
