"""(path, label, split) rows: the one form of a data set that everything else reads."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from videorwkv.errors import ManifestError, UsageError, did_you_mean
from videorwkv.video.base import Video

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Row(NamedTuple):
    """One clip.

    Args:
        path: what `open_video` takes.
        label: name of its class; None if unknown.
        split: `train`, `validation`, `test` or another name; empty if not decided.
        line: line of its list file, 1 is the first; 0 where there is none.
    """

    path: str
    label: str | None
    split: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A data set as rows.

    Args:
        name: kind of the data set, for messages.
        rows: its clips.
        labels: names of the classes, sorted; a label's place is its index. `split` keeps them all.
        flips: label -> label of the mirrored clip, for every label; None where it is not known,
            and then nothing is flipped.
        root: folder that paths are relative to in `digest`, so that moving a data set keeps it.
        notes: what a user should know about how it was read.
        split_notes: and about how it was split.
        opener: row -> video; None opens `row.path`. It must be picklable, for the workers.
    """

    name: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    flips: Mapping[str, str] | None = None
    root: str = ""
    notes: tuple[str, ...] = ()
    split_notes: tuple[str, ...] = ()
    opener: Callable[[Row], Video] | None = None

    def __post_init__(self) -> None:
        if list(self.labels) != sorted(set(self.labels)):
            raise ManifestError(f"{self.name}: labels must be sorted and without repeats.")
        known = set(self.labels)
        for row in self.rows:
            if row.label is not None and row.label not in known:
                where = f"{row.path} (line {row.line})" if row.line else row.path
                raise ManifestError(
                    f"{where}: unknown label {row.label!r}. {did_you_mean(row.label, self.labels)}"
                )
        if self.flips is not None:
            check_flips(self.flips, self.labels, source=f"{self.name} flips")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, `train`, `validation`, `test` first."""
        usual = tuple(dict.fromkeys(SPLIT_NAMES.values()))
        found = {row.split for row in self.rows}
        return tuple(s for s in usual if s in found) + tuple(sorted(found - set(usual)))

    def split(self, name: str) -> Manifest:
        """The rows of one split; `UsageError` if there is none of that name."""
        wanted = SPLIT_NAMES.get(name, name)
        rows = tuple(row for row in self.rows if row.split == wanted)
        if not rows:
            raise UsageError(f"{self.name}: no split {name!r}. {did_you_mean(wanted, self.splits)}")
        return replace(self, rows=rows)

    def split_by(self, split_of: Callable[[Row], str], *, notes: Iterable[str] = ()) -> Manifest:
        """The same rows with the splits that `split_of` names; `notes` say how."""
        rows = tuple(row._replace(split=split_of(row)) for row in self.rows)
        return replace(self, rows=rows, split_notes=tuple(notes))

    def with_labels(self, labels: Sequence[str]) -> Manifest:
        """The same rows for a model that knows `labels`; `ManifestError` on any other label."""
        flips = self.flips
        if flips is not None and set(flips) != set(labels):
            # Flips serve training only; a part of a table would leave classes without a partner.
            flips = None
        return replace(self, labels=tuple(labels), flips=flips)

    def label_index(self, label: str | None) -> int:
        """Place of a label in `labels`; -1 for None (unknown)."""
        if label is None:
            return -1
        if label not in self.labels:
            raise UsageError(
                f"{self.name}: unknown label {label!r}. {did_you_mean(label, self.labels)}"
            )
        return self.labels.index(label)

    def open(self, row: Row) -> Video:
        """The row's video, open: `DecodeError` if it can't be read."""
        if self.opener is not None:
            return self.opener(row)
        from videorwkv.video.source import open_video

        return open_video(row.path)

    def relative_path(self, row: Row) -> str:
        """The row's path below `root`, with `/`; the path as it is where it lies elsewhere."""
        path = Path(row.path)
        return path.relative_to(self.root).as_posix() if _below(path, self.root) else row.path

    @property
    def digest(self) -> str:
        """12 hexadecimal digits of the SHA-256 over all (relative path, label, split), sorted."""
        lines = sorted((self.relative_path(r), r.label or "", r.split) for r in self.rows)
        return hashlib.sha256(repr(lines).encode()).hexdigest()[:12]

    def summary(self) -> str:
        """`folder: 88 clips, 12 classes, train 66, test 22`, and a line for each note."""
        counts = Counter(row.split for row in self.rows)
        parts = [
            f"{len(self.rows)} {_plural(len(self.rows), 'clip', 'clips')}",
            f"{len(self.labels)} {_plural(len(self.labels), 'class', 'classes')}",
            *(f"{split or 'no split'} {counts[split]}" for split in self.splits),
        ]
        notes = (f"note: {note}" for note in (*self.notes, *self.split_notes))
        return "\n".join([f"{self.name}: {', '.join(parts)}", *notes])


def make_manifest(
    name: str, rows: Iterable[Row], *, root: Path | str, notes: Iterable[str] = ()
) -> Manifest:
    """Rows -> manifest with the labels that they name."""
    rows = tuple(rows)
    labels = tuple(sorted({row.label for row in rows if row.label is not None}))
    return Manifest(name=name, rows=rows, labels=labels, root=str(root), notes=tuple(notes))


def load_manifest(
    spec: str | Path, *, validation_share: float = 0.2, flips: str | Path | None = None
) -> Manifest:
    """A data set by its name or place.

    Args:
        spec: `motion` or `motion:train=4000,size=64,...` (generated); a folder per class
            (`root/<class>/clip.mp4` or `root/{train,validation,test}/<class>/clip.mp4`); a CSV
            file with header `path,label[,split]`. `folder:ROOT` and `csv:FILE` name the reader.
        validation_share: share of every class that becomes `validation` where the data set names
            no split, chosen by a hash of the path; 0 leaves all in `train`.
        flips: CSV file `label,flipped`: see `read_flip_table`.

    Raises:
        UsageError: the place does not exist, or the reader is unknown.
        ManifestError: it can't be understood; the message names file and line.
    """
    if not 0 <= validation_share < 1:
        raise UsageError(f"validation_share ({validation_share}) must lie in [0, 1).")
    kind, _, rest = str(spec).partition(":")
    if kind == "motion":
        from videorwkv.data.motion import MotionOptions, motion_manifest

        manifest = motion_manifest(MotionOptions.parse(rest))
    else:
        manifest = _read(str(spec))
    if not manifest.rows:
        raise ManifestError(f"{spec}: no clip.")
    if all(row.split == "" for row in manifest.rows):
        manifest = hold_out(manifest, validation_share)
    if flips is not None:
        manifest = replace(manifest, flips=read_flip_table(flips, manifest.labels))
    return manifest


def hold_out(manifest: Manifest, share: float) -> Manifest:
    """Every class in `train` and `validation`, by a hash of the path: adding a clip moves few."""
    groups: dict[str | None, list[Row]] = {}
    for row in manifest.rows:
        groups.setdefault(row.label, []).append(row)
    held_out: set[Row] = set()
    notes = []
    if share:
        notes.append(f"no split given: {share:.0%} of each class is validation, by hash of path")
    for label, rows in groups.items():
        count = min(len(rows) - 1, max(1, round(share * len(rows)))) if share else 0
        if share and count == 0:
            notes.append(f"class {label!r} has one clip: it trains, and validation has none of it")
        held_out.update(sorted(rows, key=lambda r: _hash(manifest.relative_path(r)))[:count])
    return manifest.split_by(lambda row: "validation" if row in held_out else "train", notes=notes)


def read_flip_table(path: str | Path, labels: Sequence[str]) -> dict[str, str]:
    """CSV `label,flipped` -> what each label becomes when its clip is mirrored.

    A label that the table does not name keeps its name: list every pair that has a direction. One
    line serves a pair both ways. `ManifestError` on a label that the data set lacks, and where two
    lines contradict each other.
    """
    table: dict[str, str] = {}
    for line, fields in read_csv(path, required=("label", "flipped")):
        label, flipped = fields["label"], fields["flipped"]
        for name in (label, flipped):
            if name not in labels:
                raise ManifestError(
                    f"{path}:{line}: unknown label {name!r}. {did_you_mean(name, labels)}"
                )
        for one, other in ((label, flipped), (flipped, label)):
            if table.setdefault(one, other) != other:
                raise ManifestError(
                    f"{path}:{line}: {one!r} becomes {other!r} here and {table[one]!r} above; "
                    "mirroring twice must give the label back."
                )
    return {label: table.get(label, label) for label in labels}


def check_flips(flips: Mapping[str, str], labels: Sequence[str], *, source: str) -> None:
    """`ManifestError` unless every label has a partner, and its partner's partner is itself."""
    if set(flips) != set(labels):
        odd = ", ".join(sorted(set(flips) ^ set(labels)))
        raise ManifestError(f"{source}: needs exactly the labels of the data set; odd: {odd}.")
    for label, flipped in flips.items():
        if flips.get(flipped) != label:
            raise ManifestError(
                f"{source}: {label!r} becomes {flipped!r}, which becomes {flips.get(flipped)!r}; "
                "mirroring twice must give the label back."
            )


def read_csv(path: str | Path, *, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with a header: (line, column -> text without outer blanks).

    Raises:
        UsageError: no such file.
        ManifestError: not UTF-8 text, a column is missing, or a row has another number of fields.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    wanted = ",".join(required)
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in required if name not in header]
            if missing:
                raise ManifestError(
                    f"{path}:1: no column {', '.join(map(repr, missing))} in the header "
                    f"{','.join(header)!r}; the first line must be {wanted!r}, comma-separated."
                )
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    raise ManifestError(
                        f"{path}:{reader.line_num}: {len(fields)} fields, but the header has "
                        f"{len(header)}; a field with a comma needs double quotes around it."
                    )
                named = zip(header, (field.strip() for field in fields), strict=True)
                yield reader.line_num, dict(named)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text ({error.reason}).") from error
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not CSV ({error}).") from error


def _read(spec: str) -> Manifest:
    from videorwkv.data.formats import READERS

    path = Path(spec)
    kind, colon, rest = spec.partition(":")
    if path.is_dir():
        return READERS["folder"](path)
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise UsageError(
                f"{path}: a data set is a folder with a folder per class, a .csv file with the "
                "header path,label[,split], or 'motion'."
            )
        return READERS["csv"](path)
    # One letter is a Windows drive.
    if colon and len(kind) > 1 and kind.isalnum():
        if kind not in READERS:
            raise UsageError(
                f"Unknown data set reader {kind!r}. {did_you_mean(kind, ['motion', *READERS])}"
            )
        if not Path(rest).exists():
            raise UsageError(f"{rest}: no such file or folder.")
        return READERS[kind](Path(rest))
    hint = " 'motion' is the generated one." if "/" not in spec else ""
    raise UsageError(f"{spec}: no such file or folder.{hint}")


def _below(path: Path, root: str) -> bool:
    return bool(root) and path.is_relative_to(root)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
