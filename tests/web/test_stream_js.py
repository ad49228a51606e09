"""What the page says about frames, against `videorwkv stream`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videorwkv.inference.pacing import paced
from videorwkv.inference.stream_options import StreamOptions
from videorwkv.inference.track import _smoothed
from videorwkv.video.array import ArrayVideo

Node = Callable[[str, Path], str]

RUN = """
import fs from "node:fs";
import { Naming, Pace, Segments, clock, softmax } from "./stream.js";

const given = JSON.parse(fs.readFileSync("given.json"));
const pace = new Pace(given.fps, given.gap);
const naming = new Naming(given);
const segments = new Segments();
const due = given.times.map((time) => pace.next(time));
const named = (given.probabilities ?? []).map((values, n) => {
  const { scores, label } = naming.next(given.times[n], values);
  segments.add(given.times[n], label, Math.max(...scores), n === 0);
  return { scores: Array.from(scores), label };
});
const list = segments.list.map(({ isOpen, ...rest }) => rest);
const times = [0, 59.96, 61.25, 3600].map(clock);
const shares = Array.from(softmax([1000, 999, -1000]));
console.log(JSON.stringify({ due, named, list, times, shares }));
"""


def run(node: Node, folder: Path, **given: Any) -> dict[str, Any]:
    (folder / "given.json").write_text(json.dumps(given))
    found: dict[str, Any] = json.loads(node(RUN, folder))
    return found


@pytest.mark.parametrize(
    "times",
    [
        [n / 30 for n in range(60)],
        [n / 25 for n in range(20)] + [6 + n / 25 for n in range(20)],
        [3.0 * n for n in range(8)],  # slower than the gap by nature
        sorted(np.random.default_rng(0).uniform(0, 12, 80).tolist()),
    ],
    ids=["even", "paused", "slow", "random"],
)
@pytest.mark.parametrize("fps", [5.0, 10.0, 16 / 3])
def test_the_same_frames_are_due(
    node: Node, tmp_path: Path, times: list[float], fps: float
) -> None:
    video = ArrayVideo("array", np.zeros((len(times), 8, 8, 3), np.uint8), np.array(times))
    wanted = {due.number: due.gap for due in paced(video, fps, 2.0)}
    found = run(node, tmp_path, fps=fps, gap=2.0, times=times, threshold=0.5, smooth=0.5)
    got = {n: one["paused"] for n, one in enumerate(found["due"]) if one["due"]}
    assert got == wanted
    assert 1 < len(wanted) <= len(times)


@pytest.mark.parametrize("smooth", [0.0, 0.5])
def test_the_same_labels(node: Node, tmp_path: Path, smooth: float) -> None:
    rng = np.random.default_rng(3)
    logits = 4 * np.repeat(rng.normal(size=(12, 4)), 8, axis=0) + rng.normal(size=(96, 4))
    powers = np.exp(logits)
    probabilities = (powers / powers.sum(-1, keepdims=True)).astype(np.float32)
    times = [n / 8 for n in range(96)]
    options = StreamOptions(threshold=0.6, smooth=smooth)
    scores_K, label, last = None, None, 0.0
    wanted = []
    for time, new_K in zip(times, probabilities, strict=True):
        scores_K = _smoothed(scores_K, new_K, time - last, smooth)
        label, last = options.label(scores_K, label), time
        wanted.append((label, scores_K))
    labels = [label for label, _ in wanted]
    assert None in labels
    assert len(set(labels)) > 3
    given = probabilities.tolist()
    found = run(
        node, tmp_path, fps=8, gap=2, times=times, threshold=0.6, smooth=smooth, probabilities=given
    )
    assert [one["label"] for one in found["named"]] == labels
    got = np.array([one["scores"] for one in found["named"]])
    np.testing.assert_allclose(got, [scores for _, scores in wanted], atol=1e-6)
    # Every change of label begins a segment, which ends where the next begins.
    starts = [
        n for n in range(96) if labels[n] is not None and (not n or labels[n] != labels[n - 1])
    ]
    assert [one["start"] for one in found["list"]] == [times[n] for n in starts]
    assert [one["label"] for one in found["list"]] == [labels[n] for n in starts]
    for one in found["list"]:
        inside = [n for n in range(96) if one["start"] <= times[n] < one["end"]]
        assert {labels[n] for n in inside} <= {one["label"]}
    assert found["list"][-1]["end"] in (times[-1], *times)


def test_numbers_as_they_are_shown(node: Node, tmp_path: Path) -> None:
    found = run(node, tmp_path, fps=1, gap=2, times=[], threshold=0.5, smooth=0)
    assert found["times"] == ["0:00.0", "1:00.0", "1:01.3", "60:00.0"]
    np.testing.assert_allclose(found["shares"], [0.731059, 0.268941, 0], atol=1e-6)
