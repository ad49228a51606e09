"""What only the clips together tell: which are copies of each other, and whose rate is unusual."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from videorwkv.data.check.report import USABLE, CheckedClip, CheckReport, Copies, Finding
from videorwkv.data.check.segments import Span, of_segment, remarks_on_files, span_of
from videorwkv.data.manifest import Manifest

# Of a clip that is in several splits, the copy in the first of these stays: scores stay comparable
# with those of others, and nothing that is scored has been trained on.
STAYS = ("test", "validation", "train")
KINDS = ("across splits", "overlapping across splits", "with two labels", "within a split")
ACROSS, OVERLAPPING, TWO_LABELS, WITHIN = KINDS
# A data set has a usual rate if this fraction of its clips, ten at least, is near the median; clips
# that are far from it are remarked upon.
USUAL_FRACTION, USUAL_CLIPS, NEAR, FAR = 0.9, 10, 1.05, 1.2


def make_report(
    manifest: Manifest, findings: Mapping[str, Finding], *, quick: bool, strict: bool
) -> CheckReport:
    """Put everything together.

    Args:
        manifest: the data set.
        findings: for every relative path of its rows.
        quick: compare bytes, as nothing was decoded; otherwise pictures, so that a copy in another
            container is found as well.
        strict: damaged clips count as bad.
    """
    clips = []
    for row in manifest.rows:
        found = of_segment(manifest, row, findings[manifest.relative_path(row)])
        clips.append(CheckedClip(row, _printable(manifest.relative_name(row)), found))
    for row in manifest.missing:
        finding = Finding(verdict="missing", detail="in the list, but not on disk")
        clips.append(CheckedClip(row, _printable(manifest.relative_name(row)), finding))
    _remark_on_rates(clips)
    for place, remark in remarks_on_files(clips).items():
        clips[place] = _with_remark(clips[place], remark)
    copies = _find_copies(manifest, clips, quick=quick)
    return CheckReport(
        manifest=manifest, clips=tuple(clips), copies=copies, strict=strict, quick=quick
    )


def _printable(path: str) -> str:
    """File names may hold bytes that are no text."""
    return path.encode(errors="backslashreplace").decode()


def _remark_on_rates(clips: list[CheckedClip]) -> None:
    rates = [clip.finding.fps for clip in clips if clip.finding.verdict in USABLE]
    known = [rate for rate in rates if rate is not None]
    if len(known) < USUAL_CLIPS:
        return
    usual = statistics.median(known)
    if sum(_apart(rate, usual) <= NEAR for rate in known) < USUAL_FRACTION * len(known):
        return
    for index, clip in enumerate(clips):
        rate = clip.finding.fps
        if rate is not None and _apart(rate, usual) > FAR:
            remark = f"odd rate: {rate:.4g} frames/s, most clips here have {usual:.4g}"
            clips[index] = _with_remark(clip, remark)


def _apart(one: float, other: float) -> float:
    return max(one, other) / min(one, other)


def _find_copies(
    manifest: Manifest, clips: list[CheckedClip], *, quick: bool
) -> tuple[Copies, ...]:
    """Groups of equal clips; `clips` then has the verdicts and remarks that follow from them."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        found = clip.finding
        # Empty or ruined files are bad enough, and often equal.
        if found.verdict in USABLE:
            groups[found.content_hash if quick else found.frames_hash].append(index)
    found_copies = []
    for indices in groups.values():
        spans = {i: span_of(manifest, clips[i].row, clips[i].finding) for i in indices}
        same: list[list[int]] = []
        for i in sorted(indices, key=spans.__getitem__):
            if same and spans[same[-1][0]].is_same(spans[i]):
                same[-1].append(i)
            else:
                same.append([i])
        found_copies += [_judge(clips, sorted(part)) for part in same if len(part) > 1]
        found_copies += _judge_overlaps(clips, spans)
    return tuple(sorted(found_copies, key=lambda copies: KINDS.index(copies.kind)))


def _judge(clips: list[CheckedClip], indices: Sequence[int]) -> Copies:
    splits = sorted({clips[i].row.split for i in indices}, key=_precedence)
    same_bytes = len({clips[i].finding.content_hash for i in indices}) == 1
    what = "bytes" if same_bytes else "pictures"
    stay = [i for i in indices if clips[i].row.split == splits[0]]
    go = [i for i in indices if clips[i].row.split != splits[0]]
    first, kind = clips[stay[0]], WITHIN
    if len({clips[i].row.label for i in stay} - {None}) > 1:
        # Nobody knows which label is right.
        kind = TWO_LABELS
        for i in stay:
            unlike = (None, clips[i].row.label)
            other = next(clips[j] for j in stay if clips[j].row.label not in unlike)
            detail = f"the same {what} as {other.path}, which is labelled {other.row.label!r}"
            clips[i] = _as_copy(clips[i], detail)
    else:
        for i in stay[1:]:
            clips[i] = _with_remark(clips[i], f"copy: the same {what} as {first.path}")
    if go:
        kind = ACROSS
        for i in go:
            detail = f"the same {what} as {first.path} in {first.row.split}"
            if clips[i].row.label != first.row.label:
                detail += f", which is labelled {first.row.label!r}"
            clips[i] = _as_copy(clips[i], detail)
        for i in stay:
            other = clips[go[0]]
            clips[i] = _with_remark(clips[i], f"copied to {other.row.split}: {other.path}")
    return Copies(kind, tuple(clips[i] for i in (*stay, *go)), same_bytes)


def _judge_overlaps(clips: list[CheckedClip], spans: Mapping[int, Span]) -> list[Copies]:
    """Segments of one file that share frames with a clip in another split."""
    found = []
    # The splits that are scored first: what has gone from them is in nobody's way.
    for i in sorted(spans, key=lambda i: (_precedence(clips[i].row.split), i)):
        if clips[i].finding.verdict not in USABLE:
            continue
        own = clips[i].row.split
        others = [
            j
            for j in spans
            if _precedence(clips[j].row.split) < _precedence(own)
            and spans[i].shares_frames(spans[j])
            and clips[j].finding.verdict in USABLE
        ]
        if others:
            other = clips[min(others)]
            detail = f"shares frames with {other.path} in {other.row.split}"
            clips[i] = _as_copy(clips[i], detail)
            same_bytes = clips[i].finding.content_hash == other.finding.content_hash
            found.append(Copies(OVERLAPPING, (other, clips[i]), same_bytes))
    return found


def _precedence(split: str) -> tuple[int, str]:
    return (STAYS.index(split) if split in STAYS else len(STAYS)), split


def _as_copy(clip: CheckedClip, detail: str) -> CheckedClip:
    return clip._replace(finding=replace(clip.finding, verdict="duplicate", detail=detail))


def _with_remark(clip: CheckedClip, remark: str) -> CheckedClip:
    remarks = (*clip.finding.remarks, remark)
    return clip._replace(finding=replace(clip.finding, remarks=remarks))
