from __future__ import annotations

import numpy as np
import pytest

from studies.corruptions import Blur, Dark, Noise
from studies.extraction import (
    ExtractionCost,
    Extractor,
    agreement,
    changed,
    density,
    sheet,
)
from videorwkv.preprocess.edges import EdgeOptions

CANNY = Extractor("Canny", "canny", EdgeOptions())
SOBEL = Extractor("Sobel", "sobel", EdgeOptions())


def square(size: int = 64, at: int = 20) -> np.ndarray:
    frame_HWC = np.full((size, size, 3), 40, np.uint8)
    frame_HWC[at : at + 24, at : at + 24] = 200
    return frame_HWC


def lines(*columns: int) -> np.ndarray:
    edges_NHW = np.zeros((1, 32, 32), np.uint8)
    edges_NHW[:, :, list(columns)] = 255
    return edges_NHW


def test_agreement_counts_what_lies_within_a_pixel() -> None:
    assert agreement(lines(10), lines(10)) == 1
    assert agreement(lines(10), lines(11)) == 1
    assert agreement(lines(10), lines(12)) == 0
    # One of two is found, the one that is left is all right: F1 of 1/2 and 1.
    assert agreement(lines(10, 20), lines(10)) == pytest.approx(2 / 3)
    assert agreement(lines(10), lines(10, 20)) == pytest.approx(2 / 3)
    assert agreement(lines(), lines()) == 1
    assert agreement(lines(10), lines()) == 0
    # Of a graded map at half its height, one half is found.
    assert agreement(lines(10), lines(10) // 2) == pytest.approx(2 / 3, abs=0.01)


def test_density_of_a_map() -> None:
    assert density(lines(3, 5)) == pytest.approx(2 / 32)


def test_worse_frames_have_worse_maps() -> None:
    frames_NHWC = np.stack([square(at=at) for at in (8, 20)])
    clean = CANNY(frames_NHWC)
    # Otsu's threshold follows the light.
    assert agreement(clean, CANNY(changed(frames_NHWC, Dark(0.5)))) > 0.95
    noisy = [agreement(clean, CANNY(changed(frames_NHWC, Noise(d)))) for d in (2, 120)]
    assert noisy[0] > 0.9 > noisy[1]
    fixed = Extractor("fixed", "canny", EdgeOptions(high=300))
    assert agreement(fixed(frames_NHWC), fixed(changed(frames_NHWC, Dark(0.2)))) == 0


def test_cost_names_all(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Extractor("wide", "canny", EdgeOptions(blur_size=31))
    cost = ExtractionCost(extractors=(SOBEL, wide), size=64, model="lcr_nano")
    values = cost.probe(quick=True, device="cpu")
    assert values["rows"].keys() == {"Sobel", "wide"}
    assert all(row["ms"] > 0 and row["median"] > 0 for row in values["rows"].values())
    assert values["model_ms"] > 0
    assert (values["size"], values["model_clock"]) == (64, "CPU")


def test_sheet_is_a_picture() -> None:
    png = sheet(square(), [CANNY, SOBEL], [Noise(20), Blur(2)])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 400_000
