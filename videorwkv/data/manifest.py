"""(path, label, split, segment) rows: the one form of a data set that everything else reads."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.flips import check_flips
from videorwkv.errors import ManifestError, UsageError, did_you_mean
from videorwkv.utils.remote import is_address, read_address
from videorwkv.utils.words import plural
from videorwkv.video.base import Video
from videorwkv.video.segment import PartVideo, Segment, part_name

if TYPE_CHECKING:
    from videorwkv.data.shards import Shards

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


# Between the labels of a clip that has several.
SEPARATOR = "|"


class Row(NamedTuple):
    """One clip.

    Args:
        path: what `open_video` takes; an address, `https://...` or `s3://...`; or a shard's path
            with the clip's name below it.
        label: name of its class; None if unknown. Where clips have several labels, their names in
            order with `|` between them, and empty text for none of the classes.
        split: `train`, `validation`, `test` or another name; empty if not decided.
        line: line of its list file, 1 is the first; 0 where there is none.
        group: who or what was recorded, where the data set says so; see `hold_out`.
        segment: which part of the video it is; None if it is the whole. A video may have several.
    """

    path: str
    label: str | None
    split: str = ""
    line: int = 0
    group: str = ""
    segment: Segment | None = None

    @property
    def name(self) -> str:
        """The path, and for a segment `#` and which one: no two clips have the same."""
        return part_name(self.path, self.segment)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A data set as rows.

    Args:
        name: kind of the data set, for messages.
        rows: its clips.
        labels: names of the classes, sorted; a label's place is its index. `split` keeps them all.
        flips: label -> label of the horizontally flipped clip, for every label; None where it is
            not known, and then nothing is flipped.
        root: folder that paths are relative to in `digest`, so that moving a data set keeps it.
        notes: what a user should know about how it was read.
        split_notes: and about how it was split.
        opener: row -> the whole video; None opens `row.path`. It must be picklable, for the
            workers.
        shards: where the clips lie, if they lie in tars.
        decoder: what decodes the files at `row.path`, as in `open_video`; an opener has its own.
        missing: clips that the data set's list names and that are not on disk; they are no rows.
        official: label -> the number that the data set's owners give it, for submission files;
            None where they give none.
        frame_rate: frames a second of folders of frames; None takes 12, as in `open_video`.
        multilabel: whether a clip may be of several classes.
        held_out: whether the data set names no splits, and `hold_out` has drawn them.
    """

    name: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    flips: Mapping[str, str] | None = None
    root: str = ""
    notes: tuple[str, ...] = ()
    split_notes: tuple[str, ...] = ()
    opener: Callable[[Row], Video] | None = None
    shards: Shards | None = None
    decoder: str = "auto"
    missing: tuple[Row, ...] = ()
    official: Mapping[str, int] | None = None
    held_out: bool = False
    multilabel: bool = False
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if list(self.labels) != sorted(set(self.labels)):
            raise ManifestError(f"{self.name}: labels must be sorted and without repeats.")
        known = set(self.labels)
        for row in self.rows:
            if row.label is None or row.label in known:
                continue
            for label in self.labels_of(row):
                if label not in known:
                    where = f"{row.path} (line {row.line})" if row.line else row.path
                    raise ManifestError(
                        f"{where}: unknown label {label!r}. {did_you_mean(label, self.labels)}"
                    )
        if self.flips is not None:
            check_flips(self.flips, self.labels, source=f"{self.name} flips")
        if self.decoder != "auto":
            from videorwkv.video.source import check_decoder

            check_decoder(self.decoder)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, `train`, `validation`, `test` first."""
        return _in_order({row.split for row in self.rows})

    def split(self, name: str) -> Manifest:
        """The rows of one split, the missing ones as well; `UsageError` if no clip is in it."""
        wanted = SPLIT_NAMES.get(name, name)
        rows = tuple(row for row in self.rows if row.split == wanted)
        missing = tuple(row for row in self.missing if row.split == wanted)
        if not rows and missing:
            raise UsageError(
                f"{self.name}: split {name!r}: none of its {len(missing):,} listed clips is on "
                f"disk; the first is {missing[0].path}."
            )
        if not rows:
            raise UsageError(f"{self.name}: no split {name!r}. {did_you_mean(wanted, self.splits)}")
        return replace(self, rows=rows, missing=missing)

    def split_by(
        self, split_of: Callable[[Row], str], *, notes: Iterable[str] = (), held_out: bool = False
    ) -> Manifest:
        """The same rows with the splits that `split_of` names; `notes` say how, and `held_out`
        whether by `hold_out`.

        `split_of` is asked about the missing clips, too.
        """
        rows, missing = (
            tuple(row._replace(split=split_of(row)) for row in part)
            for part in (self.rows, self.missing)
        )
        return replace(
            self, rows=rows, missing=missing, split_notes=tuple(notes), held_out=held_out
        )

    def with_labels(self, labels: Sequence[str]) -> Manifest:
        """The same rows for a model that knows `labels`; `ManifestError` on any other label."""
        flips = self.flips
        if flips is not None and set(flips) != set(labels):
            # Flips serve training only; a part of a table would leave classes without a partner.
            flips = None
        return replace(self, labels=tuple(labels), flips=flips)

    def labels_of(self, row: Row) -> tuple[str, ...]:
        """The classes of a row; none where they are unknown."""
        if row.label is None:
            return ()
        return split_labels(row.label) if self.multilabel else (row.label,)

    def label_index(self, label: str | None) -> int:
        """Place of a label in `labels`; -1 for None (unknown)."""
        if label is None:
            return -1
        if label not in self._index:
            raise UsageError(
                f"{self.name}: unknown label {label!r}. {did_you_mean(label, self.labels)}"
            )
        return self._index[label]

    def target(self, label: str | None) -> int | NDArray[np.float32]:
        """What a model is to answer: `label_index`; with `multilabel` 1 for each class of `label`
        and 0 for the others, float32 [K], or -1 for all where it is unknown."""
        if not self.multilabel:
            return self.label_index(label)
        if label is None:
            return np.full(len(self.labels), -1, np.float32)
        target_K = np.zeros(len(self.labels), np.float32)
        target_K[[self.label_index(one) for one in split_labels(label)]] = 1
        return target_K

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def open(self, row: Row) -> Video:
        """The row's video, open: `DecodeError` if it can't be read, `DataError` if the shard that
        it lies in can't be fetched."""
        if self.opener is not None:
            return self._part(self.opener(row), row)
        if self.shards is not None:
            whole = self.shards.open(row.path, decoder=self.decoder, frame_rate=self.frame_rate)
            return self._part(whole, row)
        from videorwkv.video.source import open_video

        if is_address(row.path):
            content = read_address(row.path)
            return open_video(content, name=row.path, decoder=self.decoder, segment=row.segment)
        return open_video(
            row.path, decoder=self.decoder, frame_rate=self.frame_rate, segment=row.segment
        )

    @staticmethod
    def _part(whole: Video, row: Row) -> Video:
        return whole if row.segment is None else PartVideo(whole, row.segment)

    def relative_path(self, row: Row) -> str:
        """The row's path below `root`, with `/`; the path as it is where it lies elsewhere."""
        # Text and not pathlib, which takes seconds for the 240,000 clips of Kinetics.
        folder = self.root.rstrip("/" if is_address(self.root) else os.sep)
        folder += "/" if is_address(self.root) else os.sep
        if not self.root or not row.path.startswith(folder):
            return row.path
        return row.path[len(folder) :].replace(os.sep, "/")

    def relative_name(self, row: Row) -> str:
        """As `relative_path`, with the segment: no two clips have the same."""
        return part_name(self.relative_path(row), row.segment)

    @property
    def flip_note(self) -> str:
        """What horizontal flip does to the labels."""
        if self.flips is None:
            return (
                f"horizontal flip disabled: no left/right label mapping for {self.name} "
                "(--flips FILE gives one)"
            )
        count = sum(label != flipped for label, flipped in self.flips.items()) // 2
        if not count:
            return "horizontal flip keeps every label"
        return f"horizontal flip swaps the labels of {count} {plural(count, 'pair')}"

    @property
    def digest(self) -> str:
        """12 hexadecimal digits of the SHA-256 over all (relative name, label, split), sorted."""
        lines = sorted((self.relative_name(r), r.label or "", r.split) for r in self.rows)
        return hashlib.sha256(repr(lines).encode()).hexdigest()[:12]

    def summary(self) -> str:
        """`folder: 88 clips, 12 classes, train 66, test 22`, and a line for each note."""
        counts = Counter(row.split for row in self.rows)
        absent = Counter(row.split for row in self.missing)
        parts = [
            f"{len(self.rows)} {plural(len(self.rows), 'clip')}",
            f"{len(self.labels)} {plural(len(self.labels), 'class', 'classes')}",
        ]
        for split in _in_order({*counts, *absent}):
            of = f" of {counts[split] + absent[split]} listed" if absent[split] else ""
            if split or counts[split]:
                parts.append(f"{split or 'no split'} {counts[split]}{of}")
        notes = [*self.notes, *self.split_notes]
        if self.missing:
            count = len(self.missing)
            notes.append(
                f"{count} listed {plural(count, 'clip is', 'clips are')} not on disk; the first: "
                f"{self.missing[0].path}"
            )
        return "\n".join([f"{self.name}: {', '.join(parts)}", *(f"note: {note}" for note in notes)])


def join_labels(labels: Iterable[str]) -> str:
    """Several labels as one text: `Row.label`."""
    return SEPARATOR.join(sorted(set(labels)))


def split_labels(text: str) -> tuple[str, ...]:
    """Inverse of `join_labels`."""
    return tuple(label for label in text.split(SEPARATOR) if label)


def make_manifest(
    name: str,
    rows: Iterable[Row],
    *,
    root: Path | str,
    notes: Iterable[str] = (),
    multilabel: bool = False,
) -> Manifest:
    """Rows -> manifest with the labels that they name."""
    rows = tuple(rows)
    texts = {row.label for row in rows if row.label is not None}
    if multilabel:
        texts = {label for text in texts for label in split_labels(text)}
    return Manifest(
        name=name,
        rows=rows,
        labels=tuple(sorted(texts)),
        root=str(root),
        notes=tuple(notes),
        multilabel=multilabel,
    )


def _in_order(splits: set[str]) -> tuple[str, ...]:
    usual = tuple(dict.fromkeys(SPLIT_NAMES.values()))
    return tuple(s for s in usual if s in splits) + tuple(sorted(splits - set(usual)))
