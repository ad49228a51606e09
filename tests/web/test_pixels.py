"""The page's resizing and edges against Python's, to the pixel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.data.motion.clips import CLASSES, render
from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import fit_image

Node = Callable[[str, Path], str]

# Of each case: the pixels that differ, and by how much at most.
COMPARE = """
import fs from "node:fs";
import { edgeMap } from "./edges.js";
import { fitFrame } from "./resize.js";

const found = JSON.parse(fs.readFileSync("cases.json")).map((one, n) => {
  const read = (kind) => new Uint8Array(fs.readFileSync(`${n}.${kind}`));
  const wanted = read("wanted");
  const got =
    one.method === undefined
      ? fitFrame(read("given"), one.height, one.width, one.size, one.fit)
      : edgeMap(read("given"), one.size, one.method, one.options);
  if (got.length !== wanted.length) return [got.length, -1];
  const apart = Array.from(got, (value, i) => Math.abs(value - wanted[i]));
  return [apart.filter(Boolean).length, Math.max(...apart)];
});
console.log(JSON.stringify(found));
"""

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"norm": "l1"},
    {"blur_size": 1},
    {"blur_size": 3, "norm": "l1"},
    {"blur_size": 7},
    {"blur_size": 9},
    {"blur_size": 11},
    {"blur_sigma": 0.7},
    {"blur_size": 9, "blur_sigma": 2.3},
    {"high": 80.0},
    {"high": 90.0, "norm": "l1"},
    {"min_high": 60.0, "low_high_ratio": 0.3},
)


@pytest.fixture(params=[True, False], ids=["as it is", "without IPP"])
def _opencv(request: pytest.FixtureRequest) -> Iterator[None]:
    """Intel's library in OpenCV rounds some square roots otherwise than OpenCV itself."""
    if not request.param:
        before = cv2.ipp.useIPP()
        cv2.ipp.setUseIPP(False)
        yield
        cv2.ipp.setUseIPP(before)
    else:
        yield


def images(height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng([height, width])
    noise_HWC = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth_HWC = cv2.GaussianBlur(noise_HWC, (9, 9), 0)
    yield noise_HWC
    yield smooth_HWC
    yield 100 + smooth_HWC // 8  # washed out
    yield rng.integers(0, 7, (height, width, 3), dtype=np.uint8)  # near black
    yield np.full((height, width, 3), 93, np.uint8)
    label = CLASSES[height % len(CLASSES)]
    (moving_HWC,) = render(label, rng, size=max(height, width), frames=1)
    yield np.ascontiguousarray(moving_HWC[:height, :width])


def differing(node: Node, folder: Path, cases: list[dict[str, Any]]) -> list[Any]:
    for n, case in enumerate(cases):
        for kind in ("given", "wanted"):
            (folder / f"{n}.{kind}").write_bytes(case.pop(kind).tobytes())
    (folder / "cases.json").write_text(json.dumps(cases))
    found = json.loads(node(COMPARE, folder))
    return [(case, got) for case, got in zip(cases, found, strict=True) if got != [0, 0]]


# Shrunk by whole and by other factors, enlarged, as it is, and both at once.
@pytest.mark.parametrize(
    ("height", "width"),
    [(240, 320), (113, 200), (336, 336), (224, 300), (57, 80), (100, 150), (112, 112), (1080, 606)],
)
@pytest.mark.usefixtures("_opencv")
def test_resized_as_in_python(node: Node, tmp_path: Path, height: int, width: int) -> None:
    cases = []
    for image_HWC in images(height, width):
        rgba_HWC = np.dstack([image_HWC, np.full((height, width), 255, np.uint8)])
        for fit in ("crop", "stretch"):
            for size in (112, 64):
                square_HWC = fit_image(image_HWC, size, fit)
                names = {"height": height, "width": width, "size": size, "fit": fit}
                cases.append({"given": rgba_HWC, "wanted": square_HWC, **names})
    assert differing(node, tmp_path, cases) == []


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", ["canny", "sobel", "laplacian"])
@pytest.mark.usefixtures("_opencv")
def test_edges_as_in_python(
    node: Node, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    edge_options = EdgeOptions(**options)
    cases, shares = [], []
    for size in (32, 64, 112):
        for image_HWC in images(size, size):
            edges_HW = edge_map(image_HWC, method, edge_options)
            shares.append((edges_HW > 0).mean())
            names = {"size": size, "method": method, "options": asdict(edge_options)}
            cases.append({"given": image_HWC, "wanted": edges_HW, **names})
    assert min(shares) == 0  # a flat frame has no edge
    assert max(shares) > 0.02
    assert differing(node, tmp_path, cases) == []
