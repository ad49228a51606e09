"""The cost of a new frame after T frames: a recurrent state beside joint space-time attention.

B batch, T frames, H height, W width, L tokens.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.models.peers import Peer, normalised, video_mae
from benchmarks.timing import Case, Times, interleaved, once, peak_memory
from videorwkv.exporting.frames import generated
from videorwkv.models import LCR, Inputs, LCRState, model_config
from videorwkv.models.cost import count_macs

# Frames that are generated and shown again and again.
SHOWN = 64
WIDTH, HEADS, TOKENS_PER_TUBE = 192, 3, 196
JOINT = {
    "VideoMAE-Ti, scores in memory": "eager",
    "VideoMAE-Ti, fused attention": "sdpa",
}
TURN = 0.3


@dataclass(frozen=True, kw_only=True)
class LengthRow:
    """One model at one length.

    Args:
        model: its title.
        length: T, frames of the stream so far, or of the clip.
        frame: milliseconds of a new frame; for a clip model its share of the clip. None: not run.
        clip: milliseconds of the answer to a new frame: for a clip model the whole clip.
        memory: MiB beyond the weights: at the peak of the call, or by estimate.
        estimated: whether the memory is an estimate.
        why: why it was not run, or empty.
    """

    model: str
    length: int
    frame: Times | None
    clip: float | None
    memory: float | None
    estimated: bool = False
    why: str = ""


def measure_lengths(
    title: str,
    model: LCR,
    lengths: Sequence[int],
    *,
    seconds: float,
    memory_limit: float,
    time_limit: float,
    on_note: Callable[[str], None] = lambda _: None,
) -> tuple[LengthRow, ...]:
    """Time the next frame after each length in turns, then joint attention over as many.

    Args:
        title: of the model.
        model: as it is trained; its copy for inference runs.
        lengths: T, growing.
        seconds: of timing the stream.
        memory_limit: GiB that a clip may take; by estimate, more is not tried.
        time_limit: seconds that a clip may take; by estimate, more is not tried.
        on_note: told what is going on.
    """
    rows = measure_stream(title, model.for_inference(), lengths, seconds=seconds, on_note=on_note)
    for name, attention in JOINT.items():
        rate = 0.0
        for length in lengths:
            row, rate = _joint(
                name, attention, length, memory_limit, time_limit, rate, seconds=min(1.0, seconds)
            )
            on_note(f"{name}, {length} frames: {row.why or 'done'}")
            rows.append(row)
    return tuple(rows)


def measure_stream(
    title: str,
    model: LCR,
    lengths: Sequence[int],
    *,
    seconds: float,
    on_note: Callable[[str], None] = lambda _: None,
) -> list[LengthRow]:
    """The next frame after each length, in turns; arguments as `measure_lengths`."""
    inputs = generated(model.config, streams=1, num_frames=min(SHOWN, max(lengths)))
    frames = [inputs.at(t, t + 1) for t in range(inputs.frames_BTHWC.shape[1])]
    # A state is a value: that after T frames is kept, and gone on from as often as need be.
    state, states = model.init_state(1), {}
    with torch.inference_mode():
        for t in range(max(lengths)):
            if t and t % 512 == 0:
                on_note(f"{title}: {t} frames")
            _, state = model.step(frames[t % len(frames)], state)
            if t + 1 in lengths:
                states[t + 1] = state
    memory = {
        length: peak_memory(partial(_next_frame, model, frames, state), _next_frame_warm(model))
        if sys.platform == "linux"
        else None
        for length, state in states.items()
    }
    cases = {str(T): _next_frame(model, frames, state) for T, state in states.items()}
    times = interleaved(cases, seconds=seconds, sample=TURN)
    return [
        LengthRow(
            model=title,
            length=length,
            frame=times[str(length)],
            clip=times[str(length)].cpu,
            memory=memory[length],
        )
        for length in lengths
    ]


def _next_frame(model: LCR, frames: Sequence[Inputs], start: LCRState) -> Case:
    """The next frames of a stream, from this state on."""
    state, numbers = [start], itertools.cycle(range(len(frames)))

    def frame() -> None:
        with torch.inference_mode():
            _, state[0] = model.step(frames[next(numbers)], state[0])

    return frame


def _next_frame_warm(model: LCR) -> Case:
    side = 2 * model.config.patch_size
    small = Inputs(
        torch.zeros(1, 1, side, side, 3, dtype=torch.uint8),
        torch.zeros(1, 1, side, side, dtype=torch.uint8),
    )
    return _next_frame(model, [small], model.init_state(1, image_size=side))


def joint_memory(attention: str, length: int) -> float:
    """MiB that VideoMAE-Ti needs beyond its weights for T frames, by its largest tensors."""
    tokens = max(1, length // 2) * TOKENS_PER_TUBE
    # The normalised clip and its copy; x, its norm, q, k, v and four times the width inside.
    linear = 2 * length * 3 * 224**2 + tokens * WIDTH * 9
    # Scores, and their softmax beside them.
    square = 2 * HEADS * tokens**2 if attention == "eager" else 0
    return 4 * (linear + square) / 2**20


def _joint(
    name: str,
    attention: str,
    length: int,
    memory_limit: float,
    time_limit: float,
    rate: float,
    *,
    seconds: float,
) -> tuple[LengthRow, float]:
    """One length, and the multiply-accumulates a second that it ran at."""
    needed = joint_memory(attention, length)
    row = partial(LengthRow, model=name, length=length, frame=None, clip=None)
    if needed > memory_limit * 1024:
        why = f"needs {needed / 1024:,.0f} GiB, more than {memory_limit:g}"
        return row(memory=needed, estimated=True, why=why), rate
    build = video_mae(WIDTH, attention)
    peer = Peer(title=name, kind="clip", build=build)
    with torch.device("meta"):
        # Counted as products: the fused kernel does the same ones.
        shown = video_mae(WIDTH, "eager")(400, length).eval()
        empty = torch.zeros(1, 3, length, 224, 224)
        macs = count_macs(lambda: shown(empty))
    # As fast as the last length, or as a slow machine where there is none.
    takes = macs / (rate or 1e10)
    if takes > time_limit:
        why = f"takes about {_duration(takes)}, more than {time_limit:g} s"
        return row(memory=needed, estimated=True, why=why), rate
    memory = None
    if sys.platform == "linux":
        memory = peak_memory(
            partial(_clip, peer, length), _clip(peer, 2), limit=int(memory_limit * 2**30)
        )
        if memory is None:
            return row(
                memory=needed, estimated=True, why=f"needs more than {memory_limit:g} GiB"
            ), rate
    case = _clip(peer, length)
    if takes > 5:
        times = once(case)
    else:
        times = interleaved({"clip": case}, seconds=seconds, least=3)["clip"]
    frame = replace(times, **{name: getattr(times, name) / length for name in _TIMES})
    done = LengthRow(model=name, length=length, frame=frame, clip=times.cpu, memory=memory)
    return done, macs / (times.cpu / 1e3)


_TIMES = ("wall", "wall_min", "cpu", "cpu_min")


def _clip(peer: Peer, length: int) -> Case:
    network: Any = peer.network(num_frames=length)
    inputs = generated(model_config("lcr_tiny"), streams=1, num_frames=min(SHOWN, length))
    shown = torch.arange(length) % inputs.frames_BTHWC.shape[1]
    pixels = normalised(Inputs(inputs.frames_BTHWC[:, shown], inputs.edges_BTHW[:, shown]))
    clip_BCTHW = pixels.transpose(1, 2).contiguous()

    def clip() -> None:
        with torch.inference_mode():
            network(clip_BCTHW)

    return clip


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"
