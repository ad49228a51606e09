"""Timelines as files: JSON, CSV, WebVTT subtitles, and ELAN's .eaf.

The ending of the name chooses. JSON and CSV hold the segments of many videos; the CSV is a data set
that `train` and `evaluate` read, so that what a model says can be corrected by hand and learnt
from. Subtitles and .eaf belong to one video.
"""

from __future__ import annotations

import json
import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from videorwkv.data.timeline import ActionSegment
from videorwkv.errors import UsageError, did_you_mean
from videorwkv.inference.timeline.segments import Timeline
from videorwkv.utils.files import csv_text, write_atomic

CSV_HEADER = ("path", "label", "start", "end", "score")
_VTT_HEAD = "WEBVTT\n\n"
# Characters that XML can't hold, not even escaped.
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def check_target(target: str | Path, num_videos: int) -> str:
    """The format of a file to write, by its ending.

    Raises:
        UsageError: an ending without a format, or a format of one video for several.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in _FORMATS:
        raise UsageError(
            f"--timeline {target}: unknown ending {suffix!r}. {did_you_mean(suffix, _FORMATS)} "
            "Without a file, put --timeline behind the videos."
        )
    if num_videos > 1 and suffix in (".vtt", ".eaf"):
        raise UsageError(
            f"--timeline {target}: {suffix} belongs to one video, and {num_videos} were given. "
            "Write a .json or .csv file, or call the command for each video."
        )
    return suffix


def write_timelines(target: str | Path, timelines: Sequence[Timeline]) -> None:
    """Write a file whose ending chooses the format; it is written whole or not at all.

    Raises:
        UsageError: as `check_target`.
        CheckpointError: the folder is missing or can't be written, or the disk is full.
    """
    suffix = check_target(target, len(timelines))
    write_atomic(Path(target), _FORMATS[suffix](timelines))


class TimelineFile:
    """A file of segments that come one after another; a context manager.

    CSV and WebVTT grow with each segment, so that a stream that is killed loses none; JSON and .eaf
    are written at the end.

    Args:
        target: its ending chooses the format.
        sources: what the videos are called.

    Raises:
        UsageError: as `check_target`, or the file can't be written.
    """

    def __init__(self, target: str | Path, sources: Sequence[str]) -> None:
        self._suffix = check_target(target, len(sources))
        self._target = Path(target)
        self._found: dict[str, list[ActionSegment]] = {source: [] for source in sources}
        self._file: IO[str] | None = None
        try:
            if self._suffix in (".csv", ".vtt"):
                self._file = self._target.open("w", encoding="utf-8", newline="")
                self._file.write(csv_text([CSV_HEADER]) if self._suffix == ".csv" else _VTT_HEAD)
                self._file.flush()
        except OSError as error:
            raise UsageError(
                f"--timeline {target}: it can't be written: {error.strerror or error}."
            ) from error

    def __enter__(self) -> TimelineFile:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
        else:
            found = [Timeline(path, tuple(sorted(own))) for path, own in self._found.items()]
            write_timelines(self._target, found)

    def add(self, source: str, segment: ActionSegment) -> None:
        """One more segment."""
        if self._file is None:
            self._found[source].append(segment)
            return
        is_csv = self._suffix == ".csv"
        self._file.write(csv_text([csv_row(source, segment)]) if is_csv else vtt_cue(segment))
        self._file.flush()


def _as_json(timelines: Sequence[Timeline]) -> str:
    values = {"timelines": [timeline.to_dict() for timeline in timelines]}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def csv_row(path: str, segment: ActionSegment) -> list[str]:
    """A line of the CSV: see `CSV_HEADER`. A file is named by its whole path: the table may lie in
    another folder than the one that a path is relative to."""
    return [
        str(Path(path).absolute()) if os.path.exists(path) else path,
        segment.label,
        f"{segment.start:.3f}",
        f"{segment.end:.3f}",
        f"{segment.score:.4f}",
    ]


def _as_csv(timelines: Sequence[Timeline]) -> str:
    rows = [csv_row(one.path, segment) for one in timelines for segment in one.segments]
    return csv_text([CSV_HEADER, *rows])


def vtt_cue(segment: ActionSegment) -> str:
    """A cue of a WebVTT file, with the empty line that ends it."""
    # https://www.w3.org/TR/webvtt1/: a cue's text has no line breaks here, and these are escaped.
    text = segment.label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    times = f"{_clock(segment.start)} --> {_clock(segment.end)}"
    return f"{times}\n{' '.join(text.split())} ({segment.score:.0%})\n\n"


def _as_vtt(timelines: Sequence[Timeline]) -> str:
    cues = [vtt_cue(segment) for timeline in timelines for segment in timeline.segments]
    return _VTT_HEAD + "".join(cues)


def _clock(seconds: float) -> str:
    """`01:02:03.456`; WebVTT allows more than two digits of hours."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


def _as_eaf(timelines: Sequence[Timeline]) -> str:
    """ELAN Annotation Format 3.0 (www.mpi.nl/tools/elan/EAFv3.0.xsd): a tier for each label, as the
    annotations of one tier must not overlap."""
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        AUTHOR="videorwkv",
        DATE="1970-01-01T00:00:00+00:00",  # equal results are equal files
        FORMAT="3.0",
        VERSION="3.0",
        attrib={
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ElementTree.SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    for timeline in timelines:
        path = Path(timeline.path)
        media = {"MEDIA_URL": timeline.path}
        if "://" not in timeline.path:
            # ELAN looks in the folder of the .eaf first.
            media = {
                "MEDIA_URL": path.absolute().as_uri(),
                "RELATIVE_MEDIA_URL": f"./{path.name}",
            }
        media["MIME_TYPE"] = mimetypes.guess_type(path.name)[0] or "unknown"
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    order = ElementTree.SubElement(document, "TIME_ORDER")
    segments = [segment for timeline in timelines for segment in timeline.segments]
    number = 0
    for label in sorted({segment.label for segment in segments}):
        name = _NO_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", label)
        tier = ElementTree.SubElement(document, "TIER", TIER_ID=name, LINGUISTIC_TYPE_REF="action")
        for segment in segments:
            if segment.label != label:
                continue
            number += 1
            slots = f"ts{2 * number - 1}", f"ts{2 * number}"
            for slot, seconds in zip(slots, (segment.start, segment.end), strict=True):
                value = str(round(seconds * 1000))
                ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=value)
            holder = ElementTree.SubElement(tier, "ANNOTATION")
            own = ElementTree.SubElement(
                holder,
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{number}",
                TIME_SLOT_REF1=slots[0],
                TIME_SLOT_REF2=slots[1],
            )
            ElementTree.SubElement(own, "ANNOTATION_VALUE").text = name
    ElementTree.SubElement(
        document,
        "LINGUISTIC_TYPE",
        LINGUISTIC_TYPE_ID="action",
        TIME_ALIGNABLE="true",
        GRAPHIC_REFERENCES="false",
    )
    ElementTree.indent(document)
    text = ElementTree.tostring(document, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


_FORMATS: dict[str, Callable[[Sequence[Timeline]], str]] = {
    ".json": _as_json,
    ".csv": _as_csv,
    ".vtt": _as_vtt,
    ".eaf": _as_eaf,
}
