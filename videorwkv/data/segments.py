"""Segments as tables write them, and which of them share frames."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ManifestError
from videorwkv.utils.words import counted
from videorwkv.video.segment import Segment

# Columns of a table: in seconds, and in frames.
PAIRS = (("start", "end"), ("start_frame", "end_frame"))
COLUMNS = tuple(name for pair in PAIRS for name in pair)
# In the place of a number of seconds: up to the end of the file.
END = "end"

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)")


def read_segment(fields: Mapping[str, str], where: str) -> Segment | None:
    """The segment that a row of a table names: `start` and `end` in seconds, or `start_frame` and
    `end_frame`, counted from 0, the last one not included. None where its fields are empty.

    Raises:
        ManifestError: one of the pair is missing, both pairs are given, or they are no segment; the
            message begins with `where`, file and line.
    """
    found = []
    for pair in PAIRS:
        given = [name for name in pair if fields.get(name)]
        if len(given) == 1:
            other = pair[1 - pair.index(given[0])]
            raise ManifestError(
                f"{where}: {given[0]} is {fields[given[0]]!r}, and {other} is missing: a segment "
                f"needs both. A row without {' and '.join(pair)} is the whole file."
            )
        if given:
            found.append(pair)
    if len(found) > 1:
        raise ManifestError(
            f"{where}: a segment both in seconds ({', '.join(PAIRS[0])}) and in frames "
            f"({', '.join(PAIRS[1])}); leave one of them empty."
        )
    if not found:
        return None
    start, end = found[0]
    return make_segment(fields[start], fields[end], where, in_frames=found[0] == PAIRS[1])


def make_segment(start: str, end: str, where: str, *, in_frames: bool = False) -> Segment:
    """A segment from two numbers as text, or two times as `[hours:]minutes:seconds`; `end` may be
    `END`.

    Raises:
        ManifestError: they are none, or `end` does not lie behind `start`; the message begins with
            `where`.
    """
    low = _number(start, where, in_frames)
    high = math.inf if end == END and not in_frames else _number(end, where, in_frames)
    if high <= low:
        hint = " The frame `end_frame` is not part of the segment." if in_frames else ""
        raise ManifestError(
            f"{where}: the segment ends at {end}, which is not behind its start, {start}.{hint}"
        )
    return Segment(low, high, in_frames)


def _number(text: str, where: str, in_frames: bool) -> float:
    clock = _CLOCK.fullmatch(text)
    try:
        if clock is not None and not in_frames:
            hours, minutes, seconds = clock.groups()
            if float(seconds) >= 60 or (hours and int(minutes) >= 60):
                raise ValueError("no time of a clock")
            value = 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(seconds)
        else:
            value = float(text)
    except ValueError:
        value = math.nan
    whole = not in_frames or value == math.floor(value) if math.isfinite(value) else False
    if not whole or value < 0 or "_" in text:
        kind = "the number of a frame, 0 for the first" if in_frames else "seconds, 0 or more"
        kind += ", with a decimal point" * (not in_frames and "," in text)
        raise ManifestError(f"{where}: a segment can't begin or end at {text!r}; wanted {kind}.")
    return value


def segment_columns(rows: Iterable[Row]) -> tuple[str, ...]:
    """The columns that a table of these rows needs, beside those of the clips."""
    kinds = {row.segment.in_frames for row in rows if row.segment is not None}
    return tuple(name for pair, kind in zip(PAIRS, (False, True), strict=True) if kind in kinds
                 for name in pair)  # fmt: skip


def segment_fields(row: Row, columns: Sequence[str]) -> list[str]:
    """What stands in `columns` for a row."""
    segment = row.segment
    if segment is None:
        return [""] * len(columns)
    pair = PAIRS[segment.in_frames]
    end = END if segment.end == math.inf else repr(segment.end)
    values = dict(zip(pair, (repr(segment.start), end), strict=True))
    return [values.get(name, "") for name in columns]


def require_pairs(header: Sequence[str], where: str) -> None:
    """`ManifestError` if a table has one column of a pair alone."""
    for pair in PAIRS:
        given = [name for name in pair if name in header]
        if len(given) == 1:
            other = pair[1 - pair.index(given[0])]
            raise ManifestError(
                f"{where}: there is a column {given[0]!r} and none called {other!r}; a segment "
                "needs both. Remove it to take whole files."
            )


def overlaps(rows: Sequence[Row], steps: Mapping[str, float] | None = None) -> Iterator[
    tuple[Row, Row]
]:  # fmt: skip
    """Pairs of rows of one file that share frames; the whole file shares some with each.

    Args:
        rows: any.
        steps: path -> seconds of a frame, to compare segments in seconds with others in frames.
            Without it those are not compared.
    """
    by_path: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_path[row.path].append(row)
    for path, own in by_path.items():
        step = None if steps is None else steps.get(path)
        kinds: defaultdict[bool, list[tuple[float, float, Row]]] = defaultdict(list)
        for row in own if len(own) > 1 else ():
            segment = row.segment
            if segment is not None and step is not None:
                segment = segment.in_seconds(step)
            if segment is None:
                for kind in (True, False):
                    kinds[kind].append((0.0, math.inf, row))
            else:
                kinds[segment.in_frames].append((segment.start, segment.end, row))
        seen = set()
        for placed in kinds.values():
            for pair in _sweep(sorted(placed, key=lambda place: place[:2])):
                names = pair[0].name, pair[1].name, pair[0].line, pair[1].line
                if names not in seen:  # two whole files are in both lists
                    seen.add(names)
                    yield pair


def _sweep(placed: Sequence[tuple[float, float, Row]]) -> Iterator[tuple[Row, Row]]:
    active: list[tuple[float, Row]] = []
    for start, end, row in placed:
        active = [(until, other) for until, other in active if until > start]
        yield from ((other, row) for _, other in active)
        active.append((end, row))


def segment_notes(manifest: Manifest) -> list[str]:
    """What to say of a data set with segments; nothing of one without."""
    rows = [row for row in manifest.rows if row.segment is not None]
    if not rows:
        return []
    files = len({row.path for row in manifest.rows})
    notes = [f"{counted(len(rows), 'clip is a segment', 'clips are segments')} of "
             f"{counted(files, 'file')}"]  # fmt: skip
    across, unlike = set(), set()
    for one, other in overlaps(manifest.rows):
        if one.split != other.split:
            across |= {one, other}
        elif one.label != other.label:
            unlike |= {one, other}
    if across:
        notes.append(
            f"{counted(len(across), 'clip')} share frames with a clip of another split; "
            "`videorwkv data check` lists them, and good.csv leaves them out of training"
        )
    if unlike:
        notes.append(f"{counted(len(unlike), 'clip')} share frames with a clip of another class")
    return notes
