"""One run of the smallest model that knows when nothing happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from videorwkv.data import load_manifest
from videorwkv.training.loop import train
from videorwkv.video import Sampling


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timeline") / "run"
    recipe = replace(
        tiny.recipe(),
        sampling=Sampling(num_frames=4, fps=4.0),
        timeline=True,
        best_by="f1_50",
        steps=2,
    )
    data = load_manifest("motion:timeline=10,train=3,validation=1,test=0,size=32")
    train(recipe, data, folder, quiet=True)
    return folder
