"""What the rows of a report say, in sentences: each ratio is of two times of the same run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.models.report import BenchReport, Row
    from benchmarks.models.subjects import Unit


def sentences(report: BenchReport) -> Iterator[str]:
    """All that can be said of the models in this report."""
    own = dict.fromkeys(row.model for row in report.rows if not row.peer)
    whole = [name for name in own if not name.endswith(" masked")]
    for name in whole:
        for unit in report.units():
            yield from _alone(report, name, unit)
        for unit in report.units():
            yield from _beside_peers(report, name, unit)
        yield from _masked(report, name)
        yield from _clip_by_steps(report, name)
    yield from _over_length(report)


def rows_of(report: BenchReport, name: str, unit: Unit) -> list[Row]:
    return [row for row in report.of(unit) if row.model == name]


def fastest(rows: list[Row]) -> Row:
    return min(rows, key=lambda row: row.times.cpu)


def _alone(report: BenchReport, name: str, unit: Unit) -> Iterator[str]:
    rows = rows_of(report, name, unit)
    best = fastest(rows)
    text = f"{name}, a {unit}: {report.per_second(best):,.1f} {unit}s a second"
    eager = next((row for row in rows if row.way == "eager"), None)
    if eager is not None and best is not eager:
        text += f" as {best.way}, {eager.times.cpu / best.times.cpu:.2f} times as fast as eager"
    full = [row for row in rows if row.precision == "float32" and report.share(row) is not None]
    native = [row for row in full if row.way in ("eager", "inference", "compiled")]
    if native:
        shares = ", ".join(f"{row.way} {report.share(row) or 0:.0%}" for row in native)
        text += f"; of the GEMM peak: {shares}"
    yield text + "."


def _beside_peers(report: BenchReport, name: str, unit: Unit) -> Iterator[str]:
    every = rows_of(report, name, unit)
    eager = {row.way: row for row in every}.get("eager")
    peers = dict.fromkeys(row.model for row in report.of(unit) if row.peer)
    for peer in peers:
        theirs = rows_of(report, peer, unit)
        if peer.endswith(", softmax") and not peer.startswith(f"{name},"):
            continue
        # The same body: a way that only one of them can run in would say nothing of the mixer.
        shared = {row.way for row in theirs}
        rows = [row for row in every if row.way in shared] if peer.startswith(name) else every
        ours, best = fastest(rows), fastest(theirs)
        other = {row.way: row for row in theirs}.get("eager")
        text = f"{name} beside {peer}, a {unit}: "
        if eager is not None and other is not None:
            text += f"{eager.times.cpu / other.times.cpu:.2f} of its time, both eager; "
        text += f"{ours.times.cpu / best.times.cpu:.2f} at their fastest ({ours.way}, {best.way})"
        if ours.times.cpu > best.times.cpu and ours.macs and best.macs:
            work = ours.macs / best.macs
            speed = (ours.macs / ours.times.cpu) / (best.macs / best.times.cpu)
            text += f": {work:.2f} times its multiply-accumulates at {speed:.2f} times its rate"
        yield text + "."


def _masked(report: BenchReport, name: str) -> Iterator[str]:
    for other in dict.fromkeys(row.model for row in report.rows):
        if not (other.startswith(f"{name}, ") and other.endswith(" masked")):
            continue
        ways = {row.way: row for row in rows_of(report, name, "frame")}
        shares = [
            f"{row.way} {row.times.cpu / ways[row.way].times.cpu:.2f}"
            for row in rows_of(report, other, "frame")
            if row.way in ways
        ]
        yield f"{other}, of the whole frame's time: {', '.join(shares)}."


def _clip_by_steps(report: BenchReport, name: str) -> Iterator[str]:
    frames = {row.way: row for row in rows_of(report, name, "frame")}
    ratios = [
        f"{row.way} {report.num_frames * frames[row.way].times.cpu / row.times.cpu:.2f}"
        for row in rows_of(report, name, "clip")
        if row.way in ("eager", "inference", "bfloat16", "compiled") and row.way in frames
    ]
    if ratios:
        yield (
            f"{name}: a clip at once is so many times as fast as its {report.num_frames} frames "
            f"one by one: {', '.join(ratios)}."
        )


def _over_length(report: BenchReport) -> Iterator[str]:
    for name in dict.fromkeys(row.model for row in report.lengths):
        rows = [row for row in report.lengths if row.model == name]
        ran = [row for row in rows if row.frame is not None]
        if len(ran) > 1:
            # The minimum: what other programs add to a median is no property of the model.
            costs = [row.frame.cpu_min for row in ran if row.frame is not None]
            answers = [row.clip for row in ran if row.clip is not None]
            yield (
                f"{name}, {ran[0].length:,} to {ran[-1].length:,} frames: a frame's cost changes "
                f"by {max(costs) / min(costs) - 1:.1%}, an answer's {answers[-1] / answers[0]:.2f} "
                "times."
            )
        for row in rows:
            if row.why:
                yield f"{name}, {row.length:,} frames: {row.why}."
                break
