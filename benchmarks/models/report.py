"""What `videorwkv bench` has found: rows, tables for a terminal and for Markdown, JSON, a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models.lengths import LengthRow
from benchmarks.models.subjects import Unit
from videorwkv.inference import timing
from videorwkv.inference.timing import Times
from videorwkv.utils.files import write_atomic

if TYPE_CHECKING:
    from rich.table import Table

HEADER = (
    *("model", "px", "way", "M param.", "GMAC", "wall ms", "min", "CPU ms", "min", "a second"),
    *("GEMM %", "MiB"),
)
LENGTH_HEADER = ("model", "frames", "ms a frame", "ms an answer", "MiB", "not run")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model in one way.

    Args:
        model: its title.
        way: a name of `benchmarks.models.ways.WAYS`, or `exported`.
        unit: `frame`, the next frame of B streams, or `clip`, B clips.
        peer: whether it is there for comparison.
        image_size: side of its frames in pixels.
        precision: of its products.
        tube_mask_ratio: share of the patches left out.
        parameters: trainable numbers; None: unknown.
        macs: multiply-accumulates of a call; None: unknown.
        times: milliseconds of a call.
        memory: MiB at the peak of an eager call, beyond the weights; None: not measured.
    """

    model: str
    way: str
    unit: Unit
    peer: bool
    image_size: int
    precision: str
    tube_mask_ratio: float
    parameters: int | None
    macs: int | None
    times: Times
    memory: float | None


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """The result of `bench`.

    Args:
        machine: versions and hardware.
        num_frames: T, frames of a clip.
        batch_size: B, streams or clips side by side.
        threads: of PyTorch and of the runtimes.
        peaks: GFLOP/s of a matrix product in this run, by its type.
        rows: one for each model, way and unit.
        lengths: cost over length; empty if not asked for.
        notes: what was left out.
    """

    machine: dict[str, Any]
    num_frames: int
    batch_size: int
    threads: int
    peaks: dict[str, float]
    rows: tuple[Row, ...]
    lengths: tuple[LengthRow, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, unit: Unit) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.unit == unit)

    def share(self, row: Row) -> float | None:
        """Of the peak of a matrix product of the same type; None where there is none to compare."""
        peak = self.peaks.get(row.precision)
        if peak is None or row.macs is None:
            return None
        return 2 * row.macs / (row.times.cpu * 1e6) / peak

    def per_second(self, row: Row) -> float:
        """Frames, or clips, by wall time."""
        return 1e3 * self.batch_size / row.times.wall

    def name(self, unit: Unit) -> str:
        if unit == "frame":
            return f"A new frame of {_some(self.batch_size, 'stream')}"
        return f"{_some(self.batch_size, 'clip')} of {self.num_frames} frames".capitalize()

    def units(self) -> tuple[Unit, ...]:
        order: tuple[Unit, ...] = ("frame", "clip")
        return tuple(unit for unit in order if self.of(unit))

    def cells(self, unit: Unit) -> Iterator[tuple[str, ...]]:
        """Rows of a table below `HEADER`; what a model's rows share stands in its first."""
        before = None
        for row in self.of(unit):
            first, before = row.model != before, row.model
            times, share = row.times, self.share(row)
            yield (
                row.model if first else "",
                str(row.image_size) if first else "",
                row.way,
                f"{row.parameters / 1e6:.2f}" if first and row.parameters is not None else "",
                f"{row.macs / 1e9:.3f}" if first and row.macs is not None else "",
                *(_ms(x) for x in (times.wall, times.wall_min, times.cpu, times.cpu_min)),
                f"{self.per_second(row):,.1f}",
                "" if share is None else f"{share:.0%}",
                "" if row.memory is None else f"{row.memory:,.0f}",
            )

    def length_cells(self) -> Iterator[tuple[str, ...]]:
        """Rows of a table below `LENGTH_HEADER`."""
        before = None
        for row in self.lengths:
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

    def about(self) -> str:
        """The machine and the conditions, in one paragraph."""
        peaks = ", ".join(f"{name} {peak:,.0f}" for name, peak in self.peaks.items())
        return (
            f"{self.machine['cpu']}; {_some(self.threads, 'thread')}, batch {self.batch_size}; "
            f"torch {self.machine['torch']}; scan: {self.machine['scan']}; GEMM peak in this run, "
            f"GFLOP/s: {peaks}; load before: {self.machine['load before']}"
        )

    def legend(self) -> str:
        """What the columns mean."""
        text = (
            "Medians and minima of turns; all models in turns in one process, on the same frames. "
            "GMAC: multiply-accumulates of products and convolutions, of a frame or of all clips. "
            "GEMM %: of the peak of a matrix product of the same type in this run, by CPU time. "
            "MiB: peak of the eager call beyond the weights. Pixels of peers are normalised "
            "beforehand; edges are made beforehand."
        )
        if self.lengths:
            text += (
                " Over length, by CPU time: for a stream the next frame after so many; for a clip "
                "model the clip's share, and the whole clip, which a new frame costs it. MiB in "
                "brackets is an estimate."
            )
        return text

    def markdown(self) -> str:
        """Tables and sentences."""
        from benchmarks.models.summary import sentences

        parts = [self.about()]
        for unit in self.units():
            parts += [f"**{self.name(unit)}**", timing.table(HEADER, list(self.cells(unit)))]
        if self.lengths:
            parts.append("**Cost over length**")
            parts.append(timing.table(LENGTH_HEADER, list(self.length_cells())))
        parts.append(self.legend())
        parts.append("\n".join(f"- {text}" for text in (*sentences(self), *self.notes)))
        return "\n\n".join(part for part in parts if part) + "\n"

    def tables(self) -> Iterator[Table]:
        """For the terminal."""
        for unit in self.units():
            yield _table(self.name(unit), HEADER, list(self.cells(unit)))
        if self.lengths:
            cells = list(self.length_cells())
            yield _table("Cost over length", LENGTH_HEADER, cells)

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        rows = [
            {**asdict(row), "gemm_share": self.share(row), "per_second": self.per_second(row)}
            for row in self.rows
        ]
        return {**asdict(self), "rows": rows}

    def save(self, folder: str | Path) -> None:
        """Write bench.md, bench.json and the plots bench.png and, over length, lengths.png.

        Raises:
            CheckpointError: they can't be written.
        """
        from benchmarks.models.plot import save_lengths, save_times

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "bench.md", self.markdown().encode())
        values = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        write_atomic(folder / "bench.json", f"{values}\n".encode())
        save_times(folder / "bench.png", self)
        if self.lengths:
            save_lengths(folder / "lengths.png", self)

    @classmethod
    def load(cls, path: str | Path) -> BenchReport:
        """Read a bench.json, to draw or to compare it."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        for row in values["rows"]:
            row["times"] = Times(**row["times"])
            del row["gemm_share"], row["per_second"]
        for row in values["lengths"]:
            row["frame"] = row["frame"] and Times(**row["frame"])
        values["rows"] = tuple(Row(**row) for row in values["rows"])
        values["lengths"] = tuple(LengthRow(**row) for row in values["lengths"])
        return cls(**{**values, "notes": tuple(values["notes"])})


def _ms(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _some(count: int, noun: str) -> str:
    return f"one {noun}" if count == 1 else f"{count} {noun}s"


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
