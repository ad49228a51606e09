"""Timelines as files, read back by other code than that which wrote them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from videorwkv.data.timeline import ActionSegment
from videorwkv.errors import CheckpointError, UsageError
from videorwkv.inference.timeline.files import write_timelines
from videorwkv.inference.timeline.segments import Timeline

SEGMENTS = (
    ActionSegment(0.0, 1.25, "wave", 0.91234),
    ActionSegment(1.25, 3.0004, "cut <& paste>", 0.5),
    ActionSegment(59.9996, 3723.5, "wave", 1.0),
)
ONE = Timeline("day.mp4", SEGMENTS, 4000.0)
EMPTY = Timeline("night.mp4", (), 10.0)


def test_json(tmp_path: Path):
    broken = Timeline("gone.mp4", error="no such file")
    write_timelines(tmp_path / "a.json", [ONE, EMPTY, broken])
    first, second, third = json.loads((tmp_path / "a.json").read_text())["timelines"]
    assert first["path"] == "day.mp4"
    assert first["seconds"] == 4000.0
    assert first["segments"][1] == {
        "start": 1.25, "end": 3.0, "label": "cut <& paste>", "score": 0.5,
    }  # fmt: skip
    assert second["segments"] == []
    assert third["error"] == "no such file"


def test_csv(tmp_path: Path):
    write_timelines(tmp_path / "a.csv", [ONE, EMPTY])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["wave", "cut <& paste>", "wave"]
    assert rows[2] == {
        "path": "day.mp4", "label": "wave", "start": "60.000", "end": "3723.500", "score": "1.0000",
    }  # fmt: skip


def test_webvtt(tmp_path: Path):
    write_timelines(tmp_path / "a.vtt", [ONE])
    header, *cues = (tmp_path / "a.vtt").read_text().strip().split("\n\n")
    assert header == "WEBVTT"
    found = []
    for cue in cues:
        times, text = cue.split("\n")
        clock = re.fullmatch(
            r"(\d\d+):(\d\d):(\d\d\.\d{3}) --> (\d\d+):(\d\d):(\d\d\.\d{3})", times
        )
        assert clock is not None, times
        hours, minutes, seconds = clock[1], clock[2], clock[3]
        found.append((int(hours) * 3600 + int(minutes) * 60 + float(seconds), text))
    assert found[0] == (0.0, "wave (91%)")
    assert found[1] == (1.25, "cut &lt;&amp; paste&gt; (50%)")
    assert found[2][0] == 60.0
    assert "01:02:03.500" in cues[2]
    write_timelines(tmp_path / "b.vtt", [EMPTY])
    assert (tmp_path / "b.vtt").read_text() == "WEBVTT\n\n"


def test_eaf(tmp_path: Path):
    odd = Timeline("a b.mp4", (*SEGMENTS, ActionSegment(5, 6, "bell\x07", 0.5)))
    write_timelines(tmp_path / "a.eaf", [odd])
    root = ElementTree.parse(tmp_path / "a.eaf").getroot()
    # The order of the elements is fixed by ELAN's schema.
    assert [child.tag for child in root] == [
        "HEADER", "TIME_ORDER", "TIER", "TIER", "TIER", "LINGUISTIC_TYPE",
    ]  # fmt: skip
    slots = {s.attrib["TIME_SLOT_ID"]: int(s.attrib["TIME_VALUE"]) for s in root.iter("TIME_SLOT")}
    kinds = {t.attrib["LINGUISTIC_TYPE_ID"] for t in root.iter("LINGUISTIC_TYPE")}
    found = []
    for tier in root.iter("TIER"):
        assert tier.attrib["LINGUISTIC_TYPE_REF"] in kinds
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            start, end = (slots[one.attrib[f"TIME_SLOT_REF{k}"]] for k in (1, 2))
            assert one.findtext("ANNOTATION_VALUE") == tier.attrib["TIER_ID"]
            found.append((start, end, tier.attrib["TIER_ID"]))
    assert sorted(found) == [
        (0, 1250, "wave"), (1250, 3000, "cut <& paste>"), (5000, 6000, "bell\\x07"),
        (60000, 3723500, "wave"),
    ]  # fmt: skip
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.attrib["MEDIA_URL"].startswith("file:///")
    assert media.attrib["MEDIA_URL"].endswith("a%20b.mp4")
    assert len({a.attrib["ANNOTATION_ID"] for a in root.iter("ALIGNABLE_ANNOTATION")}) == 4


def test_wrong_names(tmp_path: Path):
    with pytest.raises(UsageError, match=r"unknown ending '.srt'"):
        write_timelines(tmp_path / "a.srt", [ONE])
    with pytest.raises(UsageError, match="belongs to one video, and 2 were given"):
        write_timelines(tmp_path / "a.vtt", [ONE, EMPTY])
    with pytest.raises(CheckpointError, match="Can't write"):
        write_timelines(tmp_path / "missing" / "a.csv", [ONE])
