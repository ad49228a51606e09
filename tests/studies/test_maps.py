"""Pictures are drawn of the clips that were asked for, and the page shows what leaving tokens out
does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import small
import tiny
import torch

from studies.attribution import look, occlude
from studies.index import study
from studies.map_pictures import make_clip, write_film, write_strip
from studies.questions import maps
from studies.questions.maps import Maps
from videorwkv.data.load import load_manifest
from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import Inputs, build_model
from videorwkv.run.recipes import apply_overrides, motion_demo
from videorwkv.video.source import open_video

DATA = "motion:train=8,validation=0,test=16,size=32,frames=6"
# As few as a film can have, which is drawn frame by frame.
TWO_FRAMES = (*small.CHANGES, "sampling.num_frames=2")


def test_clips_are_chosen() -> None:
    test = load_manifest(DATA).split("test")
    # Every block of eight rows holds each class once.
    assert Maps(clips=3).choose(test) == [0, 1, 2]
    assert Maps(clips=20).choose(test) == list(range(16))
    assert len({test.rows[i].label for i in Maps(clips=8).choose(test)}) == 8
    assert Maps(paths=("000005", "000011")).choose(test) == [5, 11]
    with pytest.raises(UsageError, match=r"no test clip's path ends with x\.mp4"):
        Maps(paths=("x.mp4",)).choose(test)
    with pytest.raises(ConfigError, match="clips"):
        Maps(clips=0)


def test_strip_and_film(tmp_path: Path) -> None:
    """One row a map, one column a frame; as many frames in the film, the last one thrice."""
    config = replace(apply_overrides(motion_demo(), small.CHANGES).model, num_classes=8)
    model = build_model(config).eval()
    test = load_manifest(DATA).split("test")
    with test.open(test.rows[0]) as video:
        inputs = model.preprocess(video.sample(3))
    looked = look(model, Inputs(*inputs))
    occlusion_BTL = occlude(model, Inputs(*inputs), looked.said())
    frames_THWC, edges_THW = (x[0].numpy() for x in inputs)
    clip = make_clip(
        looked, occlusion_BTL, 0, frames_THWC, edges_THW, 8, test.labels, "left", "my clip"
    )
    titles = list(clip.maps)
    assert [t.partition("\n")[0] for t in titles] == [
        "gate", "forget signal", "change of memory", "evidence for", "occlusion of",
    ]  # fmt: skip
    evidence, occlusion = (clip.maps[title] for title in titles[-2:])
    assert evidence.low == -evidence.high
    assert evidence.values_TRC.shape == (3, 4, 4)
    said = int(clip.scores_TK[-1].argmax())
    assert np.allclose(evidence.values_TRC.reshape(3, 16), looked.evidence_BTLK[0, :, :, said])
    assert np.allclose(occlusion.values_TRC.reshape(3, 16), occlusion_BTL[0])
    assert titles[-2].endswith(test.labels[said])
    assert "true class: left" in clip.title
    write_strip(tmp_path / "a.png", clip)
    write_film(tmp_path / "a.gif", clip)
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    assert image.shape[0] > 400
    with open_video(tmp_path / "a.gif") as film:
        frames = film.read_all().frames_THWC
    assert len(frames) == 3 + 2
    assert not np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[2], frames[4])


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small.settings(tmp_path, changes=TWO_FRAMES)
    written = study("maps", settings, out=tmp_path / "pages")
    text = written.markdown.read_text()
    for share in ("12.5", "25", "50"):
        assert f"Dropping the {share} % of the tokens that matter most" in text
    for those in ("matter least", "have most evidence", "have least evidence"):
        assert f"Dropping the 50 % of the tokens that {those}" in text
    head = "| dropped | most important | random | least important | most evidence |"
    assert head in text
    assert text.count(".gif)") == 3
    names = {path.name for path in (tmp_path / "pages" / "maps").iterdir()}
    assert {"default-1.png", "default-1.gif", "left-out-default.png"} <= names
    assert sum(p.stat().st_size for p in (tmp_path / "pages" / "maps").iterdir()) < maps.ROOM
    # Drawn for one seed alone.
    assert len(list(settings.runs.glob("*/clips-drawn-*/"))) == 1
    # Of clips that may not be shown.
    hidden = study("maps", replace(settings, show_frames=False), out=tmp_path / "hidden")
    assert ".gif" not in hidden.markdown.read_text()
    assert "videorwkv study maps" in hidden.markdown.read_text()
    assert "--no-frames" in hidden.markdown.read_text()
    # More pictures than a page bears.
    monkeypatch.setattr(maps, "ROOM", 1000)
    text = study("maps", settings, out=tmp_path / "full").markdown.read_text()
    assert "More do not fit on a page" in text
    assert ".gif" not in text


def test_own_clips(tmp_path: Path) -> None:
    """A clip that can't be read is left out of the pictures and counts as wrong."""
    from studies.data import DataOptions

    for label, level in (("dark", 0), ("light", 120)):
        for i in range(4):
            tiny.write_clip(tmp_path / "clips" / label / f"{i}.mp4", level=level)
    data = DataOptions(spec=str(tmp_path / "clips"), validation_share=0.5)
    settings = small.settings(
        tmp_path, data=data, recipe="motion_demo", seeds=1, changes=TWO_FRAMES
    )
    chosen = data.load(str(tmp_path / "clips"))[0].split("validation").rows
    Path(chosen[0].path).write_bytes(b"no video")
    written = study("maps", settings, out=tmp_path / "pages")
    text = written.markdown.read_text()
    assert text.count(".gif)") == 2
    assert f"{chosen[0].label}/{Path(chosen[0].path).name}, frame by frame" not in text


def test_draw_for_a_run_that_exists(tmp_path: Path) -> None:
    from types import SimpleNamespace
    from typing import Any

    recipe = apply_overrides(motion_demo(), TWO_FRAMES)
    test = load_manifest(DATA).split("test")
    torch.manual_seed(0)
    model = build_model(replace(recipe.model, num_classes=8)).eval()
    run: Any = SimpleNamespace(recipe=recipe, labels=test.labels, model=lambda device: model)
    found = Maps(clips=1).draw(run, test, tmp_path / "new" / "maps", device="cpu")
    assert [path.name for path in found.values()] == ["clip-1.png", "clip-1.gif"]
    assert all(path.is_file() for path in found.values())
