"""What `videorwkv data bench` has found: timings, shares, a table and a sentence on what to do."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videorwkv.utils.files import usable_cores

if TYPE_CHECKING:
    from rich.table import Table

    from benchmarks.reading.rates import BenchOptions
    from videorwkv.data.dataset import BadClip

STEPS = {"decode": "decode", "resize": "+ resize", "edges": "+ edges", "collate": "+ collate"}


@dataclass
class Timing:
    """One step with one number of workers, timed once a round.

    Args:
        step: what was done.
        workers: by how many processes; 0 is the one that asks.
        clips: how many clips each time.
        seconds: of each round.
        cpu: CPU seconds of each round, of this process and its children.
    """

    step: str
    workers: int
    clips: int
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, run: Callable[[], None]) -> None:
        """Time `run`; nothing else may be going on in this process or its children."""
        cpu, begun = _cpu_seconds(), time.perf_counter()
        run()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(_cpu_seconds() - cpu)

    @property
    def median(self) -> float:
        """Seconds a clip."""
        return statistics.median(self.seconds) / self.clips

    @property
    def best(self) -> float:
        """Seconds a clip in the fastest round."""
        return min(self.seconds) / self.clips

    @property
    def cpu_median(self) -> float:
        """CPU seconds a clip, of this process and its workers."""
        return statistics.median(self.cpu) / self.clips


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """The result of `bench`.

    Args:
        options: what was asked for.
        clips: how many clips were read.
        cached: whether they came from a frame cache.
        generated: whether they are no files.
        decoder: which was asked for.
        differing: in how many of them a loop around the decoder gives other frames.
        unreadable: clips that were left out.
        timings: one for each step and number of workers, and `edges alone`.
        baselines: which steps are loops around the decoder.
    """

    options: BenchOptions
    clips: int
    cached: bool
    generated: bool
    decoder: str
    differing: int
    unreadable: tuple[BadClip, ...]
    timings: tuple[Timing, ...]
    baselines: tuple[str, ...]

    def timing(self, step: str, workers: int) -> Timing:
        return next(t for t in self.timings if (t.step, t.workers) == (step, workers))

    def baseline(self, workers: int) -> Timing | None:
        """The faster loop; None where there is none (generated clips)."""
        loops = [self.timing(step, workers) for step in self.baselines]
        return min(loops, key=lambda loop: loop.median, default=None)

    def ratios(self, step: str, workers: int) -> list[float]:
        """Rate by that of the faster loop, round by round; empty where there is none."""
        loop = self.baseline(workers)
        if loop is None:
            return []
        own = self.timing(step, workers)
        return [
            (bare / loop.clips) / (ours / own.clips)
            for bare, ours in zip(loop.seconds, own.seconds, strict=True)
        ]

    def cpu_ratio(self, step: str, workers: int) -> float | None:
        """The same by CPU time, of the medians: it hardly minds what else the machine does."""
        loop = self.baseline(workers)
        own = self.timing(step, workers)
        return loop.cpu_median / own.cpu_median if loop and own.cpu_median else None

    @property
    def edges_added(self) -> float:
        """CPU time for the edges by the CPU time for everything before them."""
        before = self.timing("resize", min(self.options.workers))
        return self.timing("edges alone", 0).cpu_median / before.cpu_median

    def advice(self) -> str:
        """What bounds reading, and what to do about it."""
        workers = min(self.options.workers)
        whole = self.timing("edges", workers).cpu_median
        decode = min(1.0, self.timing("decode", workers).cpu_median / whole)
        edges = min(1.0, self.timing("edges alone", 0).cpu_median / whole)
        more = f"More --workers help up to the number of cores ({usable_cores()} here)"
        if decode >= 0.5:
            what = "Generating the clips" if self.generated else "Decoding"
            advice = f"{what} bounds reading: {decode:.0%} of the time. {more}"
            if not self.cached and not self.generated:
                advice += (
                    "; a frame cache (`videorwkv data prepare DATA --cache DIR`, then `train DATA "
                    "--cache DIR`) leaves nothing of it to do"
                )
            return f"{advice}."
        if edges >= 0.5:
            return (
                f"Edges bound reading: {edges:.0%} of the time. {more}; `sobel` and `laplacian` "
                "are cheaper than `canny`, but are another input to the model."
            )
        return (
            f"No step bounds reading: decoding takes {decode:.0%} of the time, edges {edges:.0%}, "
            f"the rest cropping, resizing and colours. {more}."
        )

    def summary(self) -> str:
        """What was read, how it compares, and the advice, a line each."""
        options = self.options
        kind = "training" if options.train else "evaluation"
        lines = [
            f"{self.clips} clips, {options.num_frames} frames at {options.size} px, edges "
            f"{options.edges}, {kind}{', from the cache' if self.cached else ''}, decoder "
            f"{self.decoder}, {options.rounds} round{'s' * (options.rounds > 1)}, files in memory",
        ]
        for workers in options.workers:
            ratios = self.ratios("collate", workers)
            loop = self.baseline(workers)
            cpu_ratio = self.cpu_ratio("collate", workers)
            if loop is not None and cpu_ratio is not None:
                lines.append(
                    f"{_plural(workers)}: {statistics.median(ratios):.0%} of bare {loop.step} "
                    f"(decode + resize), {min(ratios):.0%} to {max(ratios):.0%} in the rounds; by "
                    f"CPU time {cpu_ratio:.0%}"
                )
        lines.append(f"edges add {self.edges_added:.1%}")
        if self.differing:
            lines.append(
                f"note: in {self.differing} clips the bare loop gives other frames, damaged or "
                "oddly timed ones"
            )
        for clip in self.unreadable:
            # Most reasons begin with the path themselves.
            reason = clip.reason.removeprefix(f"{clip.path}: ")
            lines.append(f"left out, unreadable: {clip.path}: {reason}")
        lines.append(self.advice())
        return "\n".join(lines)

    def table(self) -> Table:
        """For the terminal."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        loops = " and ".join(self.baselines)
        about = f" {loops}: the shortest loop around it, decode + resize; the faster is 100 %."
        table = Table(
            box=SIMPLE_HEAD,
            caption=f"Medians over the rounds; best: the fastest.{about if loops else ''}",
            caption_justify="left",
        )
        table.add_column("work-\ners", justify="right", no_wrap=True)
        table.add_column("step", no_wrap=True)
        for name in ("clips/s", "best", "frames/s", "ratio", "CPU ms\na clip", "ratio"):
            table.add_column(name, justify="right", no_wrap=True)
        for workers in self.options.workers:
            for step in (*self.baselines, *STEPS):
                timing = self.timing(step, workers)
                ratios, cpu_ratio = self.ratios(step, workers), self.cpu_ratio(step, workers)
                table.add_row(
                    str(workers) if step == (*self.baselines, *STEPS)[0] else "",
                    STEPS.get(step, step),
                    f"{1 / timing.median:,.2f}",
                    f"{1 / timing.best:,.2f}",
                    f"{self.options.num_frames / timing.median:,.0f}",
                    f"{statistics.median(ratios):.0%}" if ratios else "",
                    f"{1000 * timing.cpu_median:,.1f}",
                    "" if cpu_ratio is None else f"{cpu_ratio:.0%}",
                    end_section=step == "collate",
                )
        return table

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "options": asdict(self.options),
            "clips": self.clips,
            "cached": self.cached,
            "generated": self.generated,
            "decoder": self.decoder,
            "baselines": list(self.baselines),
            "differing": self.differing,
            "unreadable": [asdict(clip) for clip in self.unreadable],
            "timings": [self._timing_to_dict(timing) for timing in self.timings],
            "edges_added": self.edges_added,
            "advice": self.advice(),
        }

    def _timing_to_dict(self, timing: Timing) -> dict[str, Any]:
        values = {
            **asdict(timing),
            "clips_per_second": 1 / timing.median,
            "frames_per_second": self.options.num_frames / timing.median,
            "cpu_ms_per_clip": 1000 * timing.cpu_median,
        }
        if timing.step == "edges alone":
            return values
        return {
            **values,
            "ratios": self.ratios(timing.step, timing.workers),
            "cpu_ratio": self.cpu_ratio(timing.step, timing.workers),
        }


def _cpu_seconds() -> float:
    """CPU seconds so far, of this process and its living children; without them off Linux."""
    total = time.process_time()
    if sys.platform == "linux":
        for child in multiprocessing.active_children():
            try:
                stat = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has just ended
            # After the name, which may hold blanks and brackets: fields 14 and 15, user and system.
            user, system = stat.rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def _plural(workers: int) -> str:
    return "without workers" if not workers else f"{workers} worker{'s' if workers > 1 else ''}"
