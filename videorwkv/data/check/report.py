"""What a check has found: of each clip, and of all of them, as tables and as text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from videorwkv.data.manifest import SEPARATOR, Manifest, Row
from videorwkv.data.segments import segment_columns, segment_fields
from videorwkv.errors import ConfigError
from videorwkv.utils.files import make_folder, write_csv
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

VERDICTS = {
    "ok": "every frame can be decoded",
    "damaged": "frames are lost or had to be repaired, but at least half of them can be decoded",
    "truncated": "the end is missing",
    "unreadable": "not a video that can be decoded, or less than half of its frames can",
    "no video": "the file has no video stream",
    "empty": "a file of 0 bytes, or a folder without frames",
    "missing": "there is no such file",
    "outside": "the segment lies behind the end of its file",
    "timed out": "decoding took longer than the time limit",
    "crashed": "the decoder's process died",
    "duplicate": "the same clip, or a part of it, is in another split, or it has two labels",
}
# What `ok` means if only first frames were decoded.
QUICK_OK = "the first frame can be decoded, and no bytes are missing"
USABLE = ("ok", "damaged")
# How many clips of a kind the terminal shows.
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about one file or folder of frames.

    Args:
        verdict: a key of `VERDICTS`.
        detail: reason or extent, for a reader.
        remarks: `kind` or `kind: detail`; what is odd without being wrong.
        frames: those that can be decoded.
        seconds: from the beginning of the first to the end of the last; None without a clock.
        fps: mean rate; None with fewer than two frames or without a clock.
        width, height: as shown, turned if the file says so; 0 if unknown.
        codec: FFmpeg's name of the decoder, or the frames' kind.
        content_hash: of the bytes: of the file, or of the frames' files in order.
        frames_hash: of the decoded pictures, which a copy in another container shares.
    """

    verdict: str
    detail: str = ""
    remarks: tuple[str, ...] = ()
    frames: int = 0
    seconds: float | None = None
    fps: float | None = None
    width: int = 0
    height: int = 0
    codec: str = ""
    content_hash: str = ""
    frames_hash: str = ""

    def __post_init__(self) -> None:
        # Findings are written to a file, and read again.
        if self.verdict not in VERDICTS:
            raise ConfigError(f"Finding: verdict {self.verdict[:40]!r} is unknown.")


class CheckedClip(NamedTuple):
    """A row and what was found.

    Args:
        row: of the manifest.
        path: relative to the data set, as far as it lies there, with the segment; printable.
        finding: with what only the whole data set tells: copies, and a rate unlike the others'.
    """

    row: Row
    path: str
    finding: Finding


class Copies(NamedTuple):
    """Clips with the same pictures.

    Args:
        kind: `across splits`, `overlapping across splits` (segments that share frames), `with two
            labels` (within one split), or `within a split`.
        clips: two or more; those that stay come first.
        same_bytes: whether the files are equal, too; if not, it is one video in two containers.
    """

    kind: str
    clips: tuple[CheckedClip, ...]
    same_bytes: bool


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The outcome of a check.

    Args:
        manifest: what was checked.
        clips: its rows in order, then those that are missing.
        copies: groups of equal clips, those across splits first.
        strict: damaged clips count as bad.
        quick: of each clip, the first frame alone was decoded.
    """

    manifest: Manifest
    clips: tuple[CheckedClip, ...]
    copies: tuple[Copies, ...] = ()
    strict: bool = False
    quick: bool = False

    @property
    def verdicts(self) -> dict[str, int]:
        """Verdict -> clips, without those that no clip has."""
        found = Counter(clip.finding.verdict for clip in self.clips)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def remarks(self) -> dict[str, int]:
        """Kind of remark -> clips, the most frequent first."""
        found: Counter[str] = Counter()
        for clip in self.clips:
            found.update({remark.partition(":")[0] for remark in clip.finding.remarks})
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def good(self) -> tuple[CheckedClip, ...]:
        """Clips to train on."""
        return tuple(clip for clip in self.clips if self._is_good(clip))

    @property
    def bad(self) -> tuple[CheckedClip, ...]:
        """All others."""
        return tuple(clip for clip in self.clips if not self._is_good(clip))

    def _is_good(self, clip: CheckedClip) -> bool:
        return clip.finding.verdict in (("ok",) if self.strict else USABLE)

    def save(self, out: str | Path) -> list[str]:
        """Write report.csv, bad.csv, good.csv and, if the data set has a flip table, flips.csv.

        good.csv is a data set of its own: paths are relative to it, splits are those of the
        manifest.

        Returns:
            The arguments of `videorwkv` that train on it.

        Raises:
            UsageError: the folder can't be made.
            CheckpointError: the disk is full or the folder can't be written.
        """
        out = Path(out)
        make_folder(out)
        header = ["path", "split", "label", "verdict", "detail", "frames", "seconds", "fps"]
        header += ["width", "height", "codec", "remarks"]
        write_csv(out / "report.csv", [header, *map(_report_row, self.clips)])
        write_csv(out / "bad.csv", [header, *map(_report_row, self.bad)])
        listed = [clip.row for clip in self.good if _can_be_listed(clip.row)]
        labels = _labels(listed, self.manifest.multilabel)
        rows = [
            [_from(out, row.path), label, row.split]
            for row, label in zip(listed, labels, strict=True)
        ]
        columns = list(segment_columns(listed))
        rows = [own + segment_fields(row, columns) for own, row in zip(rows, listed, strict=True)]
        write_csv(out / "good.csv", [["path", "label", "split", *columns], *rows], is_read=False)
        arguments = ["train", str(out / "good.csv")]
        flips = self.manifest.flips
        left = {label for row in listed for label in self.manifest.labels_of(row)}
        (out / "flips.csv").unlink(missing_ok=True)
        # With one half of a pair gone, the flipped clips of the other would have no class.
        if flips is not None and all((a in left) == (b in left) for a, b in flips.items()):
            pairs = [[a, b] for a, b in flips.items() if a < b and a in left]
            write_csv(out / "flips.csv", [["label", "flipped"], *pairs], is_read=False)
            arguments += ["--flips", str(out / "flips.csv")]
        return arguments

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "data": self.manifest.name,
            "clips": len(self.clips),
            "good": len(self.good),
            "bad": len(self.bad),
            "verdicts": self.verdicts,
            "remarks": self.remarks,
            "copies": [
                {
                    "kind": copies.kind,
                    "same_bytes": copies.same_bytes,
                    "paths": [clip.path for clip in copies.clips],
                }
                for copies in self.copies
            ],
        }

    def table(self) -> RenderableType:
        """Clips by verdict and by remark, for the terminal."""
        from rich.table import Table

        table = Table(title=f"{self.manifest.name}: {counted(len(self.clips), 'clip')}")
        table.add_column("verdict")
        table.add_column("clips", justify="right")
        table.add_column("meaning")
        for verdict, count in self.verdicts.items():
            meaning = QUICK_OK if self.quick and verdict == "ok" else VERDICTS[verdict]
            table.add_row(verdict, f"{count:,}", meaning)
        if self.remarks:
            table.add_section()
        for kind, count in self.remarks.items():
            table.add_row("", f"{count:,}", f"remark: {kind}")
        return table

    def examples(self) -> str:
        """The first few clips of every bad kind, copies across splits before all, as they spoil
        results."""
        lines = []
        for kind in dict.fromkeys(copies.kind for copies in self.copies):
            groups = [copies for copies in self.copies if copies.kind == kind]
            shares = kind.startswith("overlapping")
            lines.append(f"{'clips' if shares else 'the same clip'} {kind}: {len(groups):,}")
            for copies in groups[:SHOWN]:
                names = (f"{c.path} ({_where(c.row)})" for c in copies.clips[:SHOWN])
                more = f", and {len(copies.clips) - SHOWN} more" * (len(copies.clips) > SHOWN)
                lines.append(f"  {(' and ' if shares else ' = ').join(names)}{more}")
            lines += ["  ..."] * (len(groups) > SHOWN)
        for verdict in self.verdicts:
            clips = [clip for clip in self.clips if clip.finding.verdict == verdict]
            if verdict in ("ok", "duplicate"):
                continue
            lines.append(f"{verdict}: {len(clips):,}")
            lines += [f"  {clip.path}: {clip.finding.detail}" for clip in clips[:SHOWN]]
            lines += ["  ..."] * (len(clips) > SHOWN)
        lost = set(self.manifest.labels) - {clip.row.label for clip in self.good}
        lines += [f"no clip is left of class {label!r}" for label in sorted(lost)]
        unlisted = sum(not _can_be_listed(clip.row) for clip in self.good)
        if unlisted:
            lines.append(
                f"{unlisted:,} good clips can't be listed in good.csv: without a label outside of "
                "`test`, or with a name that is not UTF-8"
            )
        return "\n".join(lines)


def _report_row(clip: CheckedClip) -> list[Any]:
    found = clip.finding
    return [
        clip.path,
        clip.row.split,
        clip.row.label or "",
        found.verdict,
        found.detail,
        found.frames,
        "" if found.seconds is None else f"{found.seconds:.3f}",
        "" if found.fps is None else f"{found.fps:.3f}",
        found.width or "",
        found.height or "",
        found.codec,
        "; ".join(found.remarks),
    ]


def _where(row: Row) -> str:
    return f"{row.split or 'no split'}, {row.label or 'no label'}"


def _labels(rows: Sequence[Row], several: bool) -> list[str]:
    """As good.csv writes them: of several labels, `|` alone is none of them, and one row at least
    has a `|`, by which the reader knows that there may be several."""
    if not several:
        return [row.label or "" for row in rows]
    found = [SEPARATOR if row.label == "" else row.label or "" for row in rows]
    if not any(SEPARATOR in label for label in found):
        return [label and label + SEPARATOR for label in found]
    return found


def _can_be_listed(row: Row) -> bool:
    """Whether a CSV file can hold the row and its reader takes it."""
    is_text = not any("\ud800" <= character <= "\udfff" for character in row.path)
    return is_text and (row.label is not None or row.split == "test")


def _from(folder: Path, path: str) -> str:
    """The path as seen from `folder`, where there is a way."""
    try:
        # A way up does not lead back through the link by which the folder was reached.
        relative = os.path.relpath(os.path.abspath(path), os.path.realpath(folder))
    except ValueError:  # another drive of Windows
        return os.path.abspath(path)
    # The reader takes blanks at the ends of a field away.
    return relative if relative == relative.strip() else os.path.join(".", relative)
