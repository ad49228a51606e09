"""A stream of 100,000 frames: does memory stay flat, the time of a frame the same, are the logits
those of the clip path? Exit code 1 if memory or logits miss their floor; times are reported.

T frames, B batch (1), H height, W width, C = 3 (RGB), K classes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videorwkv.data.motion.clips import MotionOptions, motion_manifest
from videorwkv.inference.recogniser import load_run
from videorwkv.models import LCR, Inputs, LCRState

MEMORY_FLOOR, TIME_FLOOR, LOGITS_FLOOR = 0.01, 0.05, 1e-4
WINDOW = 1000
PIECE = 250
CLIPS, CLIP_FRAMES = 64, 16
PAGE = os.sysconf("SC_PAGESIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "run", help="a trained run: a network of random numbers may be chaotic in time"
    )
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    plain = load_run(options.run).model()
    result = {"run": options.run} | measure(
        plain, plain.for_inference(), options.frames, options.seed
    )
    for name, value in result.items():
        print(f"{name:<34} {value}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    missed = [name for name in ("memory_flat", "finite", "logits_equal") if not result[name]]
    print(f"missed: {', '.join(missed)}" if missed else "memory and logits: all floors kept")
    return 1 if missed else 0


class Pool:
    """Generated clips with their edge maps; a stream goes through them in a random order."""

    def __init__(self, model: LCR, frames: int, seed: int) -> None:
        size = model.config.image_size
        manifest = motion_manifest(MotionOptions(test=CLIPS, size=size, frames=CLIP_FRAMES))
        assert manifest.opener is not None
        clips = [
            model.preprocess(manifest.opener(row).read_all()) for row in manifest.split("test").rows
        ]
        self.inputs = Inputs(*(torch.cat(parts, dim=1) for parts in zip(*clips, strict=True)))
        rng = np.random.default_rng(seed)
        self.order = rng.integers(CLIPS, size=-(-frames // CLIP_FRAMES))

    def at(self, t: int) -> Inputs:
        place = int(self.order[t // CLIP_FRAMES]) * CLIP_FRAMES + t % CLIP_FRAMES
        return self.inputs.at(place, place + 1)

    def piece(self, start: int, stop: int) -> Inputs:
        frames = [self.at(t) for t in range(start, stop)]
        return Inputs(*(torch.cat(parts, dim=1) for parts in zip(*frames, strict=True)))


def measure(plain: LCR, model: LCR, frames: int, seed: int) -> dict[str, Any]:
    """The stream through `model`; `plain` is the same one as it was trained."""
    pool = Pool(plain, frames + WINDOW, seed)
    # Filled, not only asked for: pages that are touched later would look like growth.
    logits_TK = np.full((frames, plain.config.num_classes), np.nan, np.float32)
    cpu_T = np.full(frames, np.nan)
    rss_T = np.full(frames // 100, np.nan)
    reference_T = np.full(frames // 100, np.nan)
    matrix = torch.randn(384, 384)
    pieces = [WINDOW, *(frames * tenth // 10 for tenth in range(1, 10)), frames - WINDOW]
    kept: dict[int, LCRState] = {}
    state = warm = model.init_state()
    started = time.perf_counter()
    for t in range(frames):
        if t in pieces:
            kept[t] = state
        inputs = pool.at(t)
        before = time.process_time()
        logits_BK, state = model.step(inputs, state)
        cpu_T[t] = time.process_time() - before
        logits_TK[t] = logits_BK[0].numpy()
        if t == WINDOW:
            warm = state
        if t % 100 == 99:
            rss_T[t // 100] = resident()
            before = time.process_time()
            for _ in range(8):
                matrix @ matrix
            reference_T[t // 100] = time.process_time() - before
        if t % 10_000 == 9_999:
            print(
                f"{t + 1} frames, {time.perf_counter() - started:.0f} s, RSS "
                f"{rss_T[t // 100]:.1f} MiB",
                file=sys.stderr,
            )
    tenth = len(rss_T) // 10
    second, last = rss_T[tenth : 2 * tenth].mean(), rss_T[-tenth:].mean()

    # The first 1,000 after as many to warm up, and the last, each by the machine's speed then.
    first_ms, last_ms = (np.median(cpu_T[s]) * 1e3 for s in windows(frames, 1))
    first_reference, last_reference = (np.median(reference_T[s]) for s in windows(frames, 100))
    young, old = in_turns(model, pool, warm, state, frames)

    differences = {"fresh, as trained": difference(plain, pool, logits_TK, 0, None, WINDOW)}
    for start, from_state in kept.items():
        length = WINDOW if start >= frames - WINDOW else PIECE
        differences[f"from frame {start}"] = difference(
            model, pool, logits_TK, start, from_state, length
        )
    scale = float(np.abs(logits_TK).max())
    after = model.scan(pool.piece(frames - WINDOW, frames), kept[frames - WINDOW])[1]
    floats = [x for x in state[:3] if x.numel()]
    finite = bool(np.isfinite(logits_TK).all()) and all(bool(x.isfinite().all()) for x in floats)
    return {
        "frames": frames,
        "wall_s": round(time.perf_counter() - started, 1),
        "rss_second_tenth_mib": round(second, 2),
        "rss_last_tenth_mib": round(last, 2),
        "rss_change": f"{last / second - 1:+.4%}",
        "memory_flat": bool(abs(last / second - 1) <= MEMORY_FLOOR),
        "first_1000_cpu_ms": round(first_ms, 3),
        "last_1000_cpu_ms": round(last_ms, 3),
        "reference_change": f"{last_reference / first_reference - 1:+.2%}",
        "time_change": f"{last_ms / first_ms - 1:+.2%}",
        "time_change_by_reference": (
            f"{last_ms / first_ms / (last_reference / first_reference) - 1:+.2%}"
        ),
        "in_turns_young_cpu_ms": round(young, 3),
        "in_turns_old_cpu_ms": round(old, 3),
        "time_change_in_turns": f"{old / young - 1:+.2%}",
        "time_flat": bool(abs(old / young - 1) <= TIME_FLOOR),
        "finite": finite,
        "largest_state": round(max(float(x.abs().max()) for x in floats), 3),
        "largest_logit": round(scale, 3),
        "logit_differences": {name: float(f"{x:.3g}") for name, x in differences.items()},
        "state_difference_at_end": max(
            float((a - b).abs().max()) for a, b in zip(after[:3], state[:3], strict=True)
        ),
        "logits_equal": bool(max(differences.values()) <= LOGITS_FLOOR * max(1.0, scale)),
    }


def windows(frames: int, every: int) -> tuple[slice, slice]:
    """The first 1,000 frames after warm-up and the last 1,000, where each `every`-th is noted."""
    first = slice(WINDOW // every, 2 * WINDOW // every)
    return first, slice((frames - WINDOW) // every, frames // every)


def in_turns(
    model: LCR, pool: Pool, young: LCRState, old: LCRState, frames: int
) -> tuple[float, float]:
    """Median CPU milliseconds of 1,000 frames from a young and an old state, frame by frame."""
    times = np.empty((WINDOW, 2))
    states = [young, old]
    for t in range(WINDOW):
        inputs = pool.at(frames + t)
        for side in (t % 2, 1 - t % 2):
            before = time.process_time()
            _, states[side] = model.step(inputs, states[side])
            times[t, side] = time.process_time() - before
    return tuple(np.median(times, axis=0) * 1e3)


def difference(
    model: LCR,
    pool: Pool,
    logits_TK: np.ndarray,
    start: int,
    state: LCRState | None,
    length: int,
) -> float:
    """Largest difference between the stream's logits and those of a clip from the same state."""
    stop = min(start + length, len(logits_TK))
    found_BTK, _ = model.scan(pool.piece(start, stop), state)
    return float(np.abs(found_BTK[0].numpy() - logits_TK[start:stop]).max())


def resident() -> float:
    """Memory of this process in MiB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


if __name__ == "__main__":
    sys.exit(main())
