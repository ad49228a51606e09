from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.plots import Curve, save_curves
from studies import pictures
from studies.statistics import Estimate
from videorwkv.inference.plots import _smooth, save_confusion
from videorwkv.video import open_video


def picture(path: Path) -> np.ndarray:
    """[H, W, 3]"""
    path.parent.mkdir()
    y = (1.0, 0.8)
    curve = Curve((1.0, 0.5), y, y, y)
    panels = {"left": {"a": curve}, "right": {"a": curve, "b": curve._replace(y=(1.0, 0.6))}}
    if path.parent.name == "one":
        del panels["right"]
    save_curves(path, panels, x_label="cost", y_label="top-1")
    with open_video(path.parent) as video:
        return video.read_all().frames_THWC[0]


def test_curves_stand_side_by_side(tmp_path: Path) -> None:
    one, two = (picture(tmp_path / name / "curves.png") for name in ("one", "two"))
    assert one.shape[0] == two.shape[0]
    # Matplotlib 3.8 rounds half a pixel up.
    assert abs(two.shape[1] - 2 * one.shape[1]) <= 1
    # The second curve has a colour of its own: orange, and only in the second panel.
    orange_HW = (two[..., 0] > 180) & (two[..., 1] < 120) & (two[..., 2] < 60)
    assert not orange_HW[:, : one.shape[1]].any()
    assert orange_HW[:, one.shape[1] :].any()


@pytest.mark.parametrize("name", ["pay $5 or $6", "$\\frac$", "50 %$_$", r"a\$b$", "a_1^2"])
def test_a_name_is_no_formula(name: str, tmp_path: Path) -> None:
    """In ticks, titles, legends and plain text; `$\\frac$` would be an error."""
    known = Estimate(0.5, 0.4, 0.6, 2)
    pictures.forest([(name, known, [0.5])], name)
    pictures.bars([name], {name: [known], "b": [known]}, y=name)
    pictures.curves({name: Curve([1], [1]), "b": Curve([2], [2])}, x=name, y=name,
                    logarithmic=True)  # fmt: skip
    save_confusion(tmp_path / "a.png", np.eye(2, dtype=np.int64), [name, "b"])
    assert cv2.imread(str(tmp_path / "a.png")) is not None


def test_a_curve_ends_with_its_own_values() -> None:
    level = np.full(200, 0.9)
    level[-1] = 0.0  # one bad batch at the end
    smooth = _smooth(level)
    assert len(smooth) == 200
    # It weighs what one of the last values weighs, and no more: it was repeated five times.
    assert smooth[-1] == pytest.approx(0.9 * 5 / 6)
    assert smooth[0] == pytest.approx(0.9)
    assert smooth[100] == pytest.approx(0.9)
    assert _smooth([0.5]) == pytest.approx([0.5])
    assert len(_smooth([])) == 0
