"""A report of `videorwkv bench` in words: tables for a terminal and for Markdown, and sentences, in
which each ratio is of two times of the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.models.plot import save_lengths, save_times
from benchmarks.models.results import SpeedReport, SpeedRow, some
from benchmarks.models.subjects import Unit
from benchmarks.timing import markdown_table
from videorwkv.utils.files import write_atomic

if TYPE_CHECKING:
    from rich.table import Table

HEADER = (
    *("model", "px", "way", "M param.", "GMAC", "wall ms", "min", "CPU ms", "min", "a second"),
    *("GEMM %", "MiB"),
)
LENGTH_HEADER = ("model", "frames", "ms a frame", "ms an answer", "MiB", "not run")


def cells(report: SpeedReport, unit: Unit) -> Iterator[tuple[str, ...]]:
    """Rows of a table below `HEADER`; what a model's rows share stands in its first."""
    before = None
    for row in report.of(unit):
        first, before = row.model != before, row.model
        times, share = row.times, report.share(row)
        yield (
            row.model if first else "",
            str(row.image_size) if first else "",
            row.way,
            f"{row.parameters / 1e6:.2f}" if first and row.parameters is not None else "",
            f"{row.macs / 1e9:.3f}" if first and row.macs is not None else "",
            *(_ms(x) for x in (times.wall, times.wall_min, times.cpu, times.cpu_min)),
            f"{report.per_second(row):,.1f}",
            "" if share is None else f"{share:.0%}",
            "" if row.memory is None else f"{row.memory:,.0f}",
        )


def length_cells(report: SpeedReport) -> Iterator[tuple[str, ...]]:
    """Rows of a table below `LENGTH_HEADER`."""
    before = None
    for row in report.lengths:
        memory = "" if row.memory is None else f"{row.memory:,.0f}"
        yield (
            row.model if row.model != before else "",
            f"{row.length:,}",
            "" if row.frame is None else _ms(row.frame.cpu),
            "" if row.clip is None else _ms(row.clip),
            f"({memory})" if row.estimated else memory,
            row.why,
        )
        before = row.model


def about(report: SpeedReport) -> str:
    """The machine and the conditions, in one paragraph."""
    peaks = ", ".join(f"{name} {peak:,.0f}" for name, peak in report.peaks.items())
    return (
        f"{report.machine['cpu']}; {some(report.threads, 'thread')}, batch {report.batch_size}; "
        f"torch {report.machine['torch']}; scan: {report.machine['scan']}; GEMM peak in this run, "
        f"GFLOP/s: {peaks}; load before: {report.machine['load before']}"
    )


def legend(report: SpeedReport) -> str:
    """What the columns mean."""
    text = (
        "Medians and minima of turns; all models in turns in one process, on the same frames. "
        "GMAC: multiply-accumulates of products and convolutions, of a frame or of all clips. "
        "GEMM %: of the peak of a matrix product of the same type in this run, by CPU time. "
        "MiB: peak of the eager call beyond the weights. Pixels of peers are normalised "
        "beforehand; edges are made beforehand."
    )
    if report.lengths:
        text += (
            " Over length, by CPU time: for a stream the next frame after so many; for a clip "
            "model the clip's share, and the whole clip, which a new frame costs it. MiB in "
            "brackets is an estimate."
        )
    return text


def markdown(report: SpeedReport) -> str:
    """Tables and sentences."""
    parts = [about(report)]
    for unit in report.units():
        parts += [
            f"**{report.name(unit)}**",
            markdown_table(HEADER, cells(report, unit), words=("way",)),
        ]
    if report.lengths:
        parts.append("**Cost over length**")
        parts.append(markdown_table(LENGTH_HEADER, length_cells(report), words=("not run",)))
    parts.append(legend(report))
    parts.append("\n".join(f"- {text}" for text in (*sentences(report), *report.notes)))
    return "\n\n".join(part for part in parts if part) + "\n"


def tables(report: SpeedReport) -> Iterator[Table]:
    """For the terminal."""
    for unit in report.units():
        yield _table(report.name(unit), HEADER, list(cells(report, unit)))
    if report.lengths:
        yield _table("Cost over length", LENGTH_HEADER, list(length_cells(report)))


def save_report(report: SpeedReport, folder: str | Path) -> None:
    """Write bench.md, bench.json and the plots bench.png and, over length, lengths.png.

    Raises:
        CheckpointError: they can't be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "bench.md", markdown(report).encode())
    values = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    write_atomic(folder / "bench.json", f"{values}\n".encode())
    save_times(folder / "bench.png", report)
    if report.lengths:
        save_lengths(folder / "lengths.png", report)


def _ms(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in header:
        text = name in ("model", "way", "not run")
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "not run")
    for i, row in enumerate(rows):
        last = i + 1 == len(rows) or bool(rows[i + 1][0])
        table.add_row(*row, end_section=last)
    return table


def sentences(report: SpeedReport) -> Iterator[str]:
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


def rows_of(report: SpeedReport, name: str, unit: Unit) -> list[SpeedRow]:
    return [row for row in report.of(unit) if row.model == name]


def fastest(rows: list[SpeedRow]) -> SpeedRow:
    return min(rows, key=lambda row: row.times.cpu)


def _alone(report: SpeedReport, name: str, unit: Unit) -> Iterator[str]:
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


def _beside_peers(report: SpeedReport, name: str, unit: Unit) -> Iterator[str]:
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


def _masked(report: SpeedReport, name: str) -> Iterator[str]:
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


def _clip_by_steps(report: SpeedReport, name: str) -> Iterator[str]:
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


def _over_length(report: SpeedReport) -> Iterator[str]:
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
