"""What was found in a file, for a segment of it; and segments that share frames across splits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from videorwkv.data.check.report import USABLE, CheckedClip, Finding
from videorwkv.data.manifest import Manifest, Row
from videorwkv.video.frames_folder import FOLDER_FPS
from videorwkv.video.segment import SLACK


def of_segment(manifest: Manifest, row: Row, finding: Finding) -> Finding:
    """What the finding of the whole file means for the row.

    A truncated file may serve a segment that lies before its end. The hash of the pictures stays
    that of the whole file.
    """
    segment = row.segment
    if segment is None or finding.verdict not in (*USABLE, "truncated"):
        return finding
    step = frame_seconds(manifest, finding)
    part = segment.in_seconds(step)
    length = finding.frames * step if finding.seconds is None else finding.seconds
    end = length if part.end == math.inf else part.end
    seconds = min(end, length) - part.start
    if part.start >= length or end > length + SLACK:
        if finding.verdict == "truncated":
            return finding
        has = f"{finding.frames} frames" if segment.in_frames else f"{length:.3f} s"
        return replace(
            finding, verdict="outside", detail=f"{segment.described}, and the file has {has}"
        )
    if finding.verdict == "truncated":
        if part.end > length:  # or up to the end, wherever that was
            return finding
        detail = f"the file is truncated behind this segment: {finding.detail}"
        finding = replace(finding, verdict="damaged", detail=detail)
    return replace(
        finding,
        frames=max(1, round(seconds / step)),
        seconds=None if finding.seconds is None else seconds,
    )


def frame_seconds(manifest: Manifest, finding: Finding) -> float:
    """Seconds for which a frame of the file is shown."""
    if finding.fps:
        return 1 / finding.fps
    if finding.seconds:  # a single frame
        return finding.seconds / max(1, finding.frames)
    return 1 / (manifest.frame_rate or FOLDER_FPS)


class Span(NamedTuple):
    """A clip's place in its file, in steps of a frame."""

    start: float = 0.0
    end: float = math.inf

    def shares_frames(self, other: Span) -> bool:
        """Whether they have more than half a frame in common: times are rounded."""
        return min(self.end, other.end) - max(self.start, other.start) > 0.5

    def is_same(self, other: Span) -> bool:
        """Whether they differ by half a frame at most."""
        if self.end == other.end == math.inf:
            return True
        return max(abs(self.start - other.start), abs(self.end - other.end)) <= 0.5


def span_of(manifest: Manifest, row: Row, finding: Finding) -> Span:
    """Where the row lies in its file."""
    if row.segment is None:
        return Span()
    step = 1.0 if row.segment.in_frames else frame_seconds(manifest, finding)
    return Span(row.segment.start / step, row.segment.end / step)


def remarks_on_files(clips: Sequence[CheckedClip]) -> dict[int, str]:
    """Place of a clip -> a remark, where segments of one file lie in several splits."""
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.row.path, set()).add(clip.row.split)
    return {
        place: f"file in several splits: also in {', '.join(sorted(others))}"
        for place, clip in enumerate(clips)
        if clip.row.segment is not None
        and (others := {split or "no split" for split in splits[clip.row.path] - {clip.row.split}})
    }
