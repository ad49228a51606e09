"""The experiment that draws a film, what is true and what was found."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

FILE = Path(__file__).parents[3] / "experiments" / "timeline.py"


@pytest.mark.filterwarnings("error")
def test_a_picture_of_a_film(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("experiments_timeline", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data, target = "motion:timeline=10,train=1,validation=0,test=1,size=32", tmp_path / "film.png"
    assert module.main([str(run), data, "--threshold=0.12", f"--picture={target}"]) == 0
    shown = capsys.readouterr().out
    assert "sliding window: " in shown
    written = json.loads((run / "timeline.json").read_text())
    assert written["stream"]["options"]["threshold"] == 0.12
    image_HWC = cv2.imread(str(target))
    assert image_HWC is not None
    height = len(image_HWC)
    # Frames above, with many colours; bars below, with few.
    above, below = image_HWC[: height // 4], image_HWC[height // 2 :]
    colours = [len(np.unique(part.reshape(-1, 3), axis=0)) for part in (above, below)]
    assert colours[0] > colours[1] > 2
