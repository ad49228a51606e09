"""Validation clips for a data set that names no splits: a part of every class, in whole groups."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.recordings import Groups, by_file, find_groups, members
from videorwkv.utils.words import counted


def hold_out(manifest: Manifest, fraction: float, by: str = "auto") -> Manifest:
    """Every class in `train` and `validation`, by a hash of the path: adding a clip moves few.

    Clips that belong together (one person, session or recording) are on the same side.

    Args:
        manifest: its splits are replaced.
        fraction: of each class that is held out; whole groups may make it more or less.
        by: what belongs together, as in `find_groups`.

    Raises:
        UsageError: as `find_groups`.
    """
    if manifest.multilabel:
        return _by_any_label(manifest, fraction, by)
    groups = find_groups(manifest, by) if fraction else None
    if groups is None:
        return _by_path(manifest, fraction, [])
    chosen = _choose(manifest, groups, fraction)
    doubts = []
    while not chosen:
        doubts.append(
            f"every {groups.what} has all clips of some class, so clips of one {groups.what} are "
            "on both sides: the validation accuracy will be too good"
        )
        files = by_file(manifest)
        if groups.what == "recording" or files is None:
            return _by_path(manifest, fraction, doubts)
        groups = files
        chosen = _choose(manifest, groups, fraction)
    held_out = {row for _, rows in chosen for row in rows}
    names = set(groups.group_of.values())
    named = sum(key in names for key, _ in chosen)
    how = f", by names such as {groups.example}" if groups.example else ""
    notes = [
        f"no split given: about {fraction:.0%} of each class is validation, and clips of one "
        f"{groups.what} stay together ({counted(len(names), groups.what)}, {named} in "
        f"validation{how}); "
        "--group-by none takes each clip by itself, --group-by REGEX groups otherwise",
        *doubts,
    ]
    known = {row.label for row in held_out}
    for label in sorted({row.label or "" for row in manifest.rows} - {x or "" for x in known}):
        notes.append(
            f"class {label!r} has clips of one {groups.what} alone: they train, and validation has "
            "none of it"
        )
    present = set(manifest.rows)
    return manifest.split_by(
        lambda row: "validation" if row in held_out else "train" if row in present else "",
        notes=notes,
        held_out=True,
    )


def _by_any_label(manifest: Manifest, fraction: float, by: str) -> Manifest:
    """Of clips with several labels, a part of all: combinations are too many to divide each."""
    one = {row: row._replace(label=None) for row in manifest.rows}
    plain = replace(manifest, rows=tuple(one.values()), multilabel=False)
    divided = hold_out(plain, fraction, by)
    split_of = dict(zip(manifest.rows, (row.split for row in divided.rows), strict=True))
    notes = [
        note.replace("of each class is", "of the clips are")
        for note in divided.split_notes
        if not note.startswith("class ")
    ]
    held = {
        label for row, split in split_of.items() if split == "validation"
        for label in manifest.labels_of(row)
    }  # fmt: skip
    if fraction and (absent := sorted(set(manifest.labels) - held)):
        names = ", ".join(map(repr, absent[:5])) + ", ..." * (len(absent) > 5)
        notes.append(f"classes that no validation clip has: {len(absent)} ({names})")
    return manifest.split_by(lambda row: split_of.get(row, ""), notes=notes, held_out=True)


def _by_path(manifest: Manifest, fraction: float, notes: list[str]) -> Manifest:
    by_label: dict[str | None, list[Row]] = {}
    for row in manifest.rows:
        by_label.setdefault(row.label, []).append(row)
    split_of: dict[Row, str] = {}
    if fraction:
        notes = [
            f"no split given: {fraction:.0%} of each class is validation, by hash of path",
            *notes,
        ]
    for label, rows in by_label.items():
        count = _wanted(len(rows), fraction)
        if fraction and count == 0:
            notes.append(f"class {label!r} has one clip: it trains, and validation has none of it")
        ordered = sorted(rows, key=lambda row: _hash(manifest.relative_name(row)))
        split_of.update(dict.fromkeys(ordered[:count], "validation"))
        split_of.update(dict.fromkeys(ordered[count:], "train"))
    # What is not on disk is not chosen among, and stays without a split.
    return manifest.split_by(lambda row: split_of.get(row, ""), notes=notes, held_out=True)


def _wanted(clips: int, fraction: float) -> int:
    """How many clips of a class are held out; one at least trains."""
    return min(clips - 1, max(1, round(fraction * clips))) if fraction else 0


def _choose(manifest: Manifest, groups: Groups, fraction: float) -> list[tuple[str, list[Row]]]:
    """The groups that are held out, in the order of their hashes: first those that bring the
    classes nearer to the fraction, then for a class without a clip the one that overshoots
    least."""
    clips = Counter(row.label for row in manifest.rows)
    wanted = {label: _wanted(count, fraction) for label, count in clips.items()}
    held: Counter[str | None] = Counter()
    chosen = []
    left = sorted(members(manifest, groups), key=lambda group: _hash(group[0]))

    def cost(counts: Counter[str | None]) -> int:
        return sum(abs(wanted[label] - counts[label]) for label in counts)

    def may_leave(counts: Counter[str | None]) -> bool:
        return all(held[label] + count < clips[label] for label, count in counts.items())

    def gain(counts: Counter[str | None]) -> int:
        before = Counter({label: held[label] for label in counts})
        return cost(before) - cost(Counter({x: held[x] + counts[x] for x in counts}))

    rest = []
    for key, rows in left:
        counts = Counter(row.label for row in rows)
        if may_leave(counts) and gain(counts) > 0:
            held += counts
            chosen.append((key, rows))
        else:
            rest.append((key, rows, counts))
    for label in sorted(clips, key=str):
        if held[label] or clips[label] < 2:
            continue
        serving = [entry for entry in rest if entry[2][label] and may_leave(entry[2])]
        if serving:
            best = max(serving, key=lambda entry: gain(entry[2]))
            held += best[2]
            chosen.append(best[:2])
            rest.remove(best)
    return chosen


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
