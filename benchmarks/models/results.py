"""What `videorwkv bench` has found, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.models.lengths import LengthRow
from benchmarks.models.subjects import Unit
from benchmarks.timing import Times


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """One model in one way.

    Args:
        model: its title.
        way: a name of `benchmarks.models.ways.WAYS`, or `exported`.
        unit: `frame`, the next frame of B streams, or `clip`, B clips.
        peer: whether it is there for comparison.
        image_size: side of its frames in pixels.
        precision: of its matrix multiplications.
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
class SpeedReport:
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
    rows: tuple[SpeedRow, ...]
    lengths: tuple[LengthRow, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, unit: Unit) -> tuple[SpeedRow, ...]:
        return tuple(row for row in self.rows if row.unit == unit)

    def share(self, row: SpeedRow) -> float | None:
        """Of the peak of a matrix product of the same type; None where there is none to compare."""
        peak = self.peaks.get(row.precision)
        if peak is None or row.macs is None:
            return None
        return 2 * row.macs / (row.times.cpu * 1e6) / peak

    def per_second(self, row: SpeedRow) -> float:
        """Frames, or clips, by wall time."""
        return 1e3 * self.batch_size / row.times.wall

    def name(self, unit: Unit) -> str:
        if unit == "frame":
            return f"A new frame of {some(self.batch_size, 'stream')}"
        return f"{some(self.batch_size, 'clip')} of {self.num_frames} frames".capitalize()

    def units(self) -> tuple[Unit, ...]:
        order: tuple[Unit, ...] = ("frame", "clip")
        return tuple(unit for unit in order if self.of(unit))

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        rows = [
            {**asdict(row), "gemm_share": self.share(row), "per_second": self.per_second(row)}
            for row in self.rows
        ]
        return {**asdict(self), "rows": rows}

    @classmethod
    def load(cls, path: str | Path) -> SpeedReport:
        """Read a bench.json, to draw or to compare it."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        for row in values["rows"]:
            row["times"] = Times(**row["times"])
            del row["gemm_share"], row["per_second"]
        for row in values["lengths"]:
            row["frame"] = row["frame"] and Times(**row["frame"])
        values["rows"] = tuple(SpeedRow(**row) for row in values["rows"])
        values["lengths"] = tuple(LengthRow(**row) for row in values["lengths"])
        return cls(**{**values, "notes": tuple(values["notes"])})


def some(count: int, noun: str) -> str:
    """`one clip`, `2 clips`."""
    return f"one {noun}" if count == 1 else f"{count} {noun}s"
