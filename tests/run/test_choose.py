"""The recipe is chosen by what the training clips are like, and a line says which and why."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import videorwkv.run.choose as module
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row, make_manifest
from videorwkv.errors import DecodeError
from videorwkv.models import model_config
from videorwkv.run.choose import (
    CLOSE_SECONDS,
    SMALL,
    WHOLE_FRAMES,
    WHOLE_SECONDS,
    ClipStatistics,
    choose,
    measure_clips,
)
from videorwkv.run.recipes import default
from videorwkv.utils.workers import WorkerPool
from videorwkv.video.array import ArrayVideo
from videorwkv.video.base import Video

# Seen whole, with frames that lie far apart.
SHORT = WHOLE_SECONDS / 2
LONG = 3 * WHOLE_SECONDS
FPS = 2.0


class Opener(NamedTuple):
    """Clips in memory by number: seconds, height and width, and what can't be read."""

    seconds: Mapping[int, float]
    sizes: Mapping[int, tuple[int, int]]
    unreadable: tuple[int, ...] = ()

    def __call__(self, row: Row) -> Video:
        number = int(row.path)
        if number in self.unreadable:
            raise DecodeError(f"{row.path}: broken")
        times = np.arange(round(self.seconds[number] * FPS)) / FPS
        shape = (len(times), *self.sizes[number], 3)
        return ArrayVideo(row.path, np.zeros(shape, np.uint8), times)


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_lite0_weights", lambda: False)


def clips(
    seconds: float = SHORT,
    *,
    count: int = 6,
    height: int = 24,
    width: int = 24,
    split: str = "train",
    others: Mapping[int, float] | None = None,
    unreadable: tuple[int, ...] = (),
) -> Manifest:
    """Clips in memory.

    Args:
        seconds: how long each is.
        count: how many there are.
        height, width: of their frames.
        split: that all of them belong to.
        others: number of a clip -> its own length.
        unreadable: numbers of the clips that can't be read.
    """

    rows = [Row(str(n), "ab"[n % 2], split) for n in range(count)]
    lengths = {n: (others or {}).get(n, seconds) for n in range(count)}
    opener = Opener(lengths, dict.fromkeys(range(count), (height, width)), unreadable)
    return replace(make_manifest("clips", rows, root=""), opener=opener)


def test_few_short_wide_clips() -> None:
    recipe, why, _ = choose(load_manifest("gestures:train=20,validation=10,test=10,size=32"))
    assert recipe.model == model_config("lcr_pico", frame_fit="stretch")
    assert (recipe.sampling.fps, recipe.repeats, recipe.loss_frames) == (None, 1, "last")
    assert recipe.augmentation.erase_probability == 0
    for part in ("20 clips", "42x32", "lcr_pico", "whole clips", "whole frames"):
        assert part in why


def test_directions_are_seen_where_the_frames_of_a_whole_clip_lie_close() -> None:
    longest = CLOSE_SECONDS * WHOLE_FRAMES
    close, far = clips(longest - 0.5), clips(longest + 0.5)
    recipe, why, _ = choose(close)
    assert recipe.model == model_config("lcr_pico", stem_flow=True)
    assert "directions of movement" in why
    assert choose(far)[0].model == model_config("lcr_pico")
    assert not choose(clips(LONG))[0].model.stem_flow
    # A preset that is named is taken as it is.
    named, why, _ = choose(close, "lcr_pico")
    assert named.model == model_config("lcr_pico")
    assert "directions" not in why


def test_long_clips_are_cut_into_windows() -> None:
    recipe, why, _ = choose(clips(LONG))
    assert recipe.model == model_config("lcr_pico")
    assert recipe.sampling.fps is not None
    assert recipe.sampling.num_frames / recipe.sampling.fps < WHOLE_SECONDS
    assert recipe.repeats > 1
    assert recipe.views[0] > 1
    assert recipe.loss_frames == "all"
    assert "windows" in why
    assert f"6 clips of {LONG:.1f} to {LONG:.1f} s, mostly of 24x24" in why


def test_activities_are_seen_by_a_pretrained_stem_where_its_weights_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = choose(clips(LONG))[0]
    monkeypatch.setattr(module, "has_lite0_weights", lambda: True)
    recipe, why, _ = choose(clips(LONG))
    assert recipe.model == model_config("lcr_lite")
    assert recipe.steps == round(without.steps / 2)
    assert (recipe.sampling, recipe.lr, recipe.ema) == (
        without.sampling,
        without.lr,
        without.ema,
    )
    assert "lcr_lite, as the weights of its stem are installed; windows" in why
    assert choose(clips(SHORT))[0].model == model_config("lcr_pico")
    named, why, _ = choose(clips(LONG), "lcr_pico")
    assert named == without
    assert "installed" not in why


@pytest.mark.parametrize(
    ("lengths", "whole"),
    [({}, True), ({3: LONG}, True), (dict.fromkeys(range(5), LONG), False)],
)
def test_a_few_long_clips_among_short_ones_change_nothing(
    lengths: dict[int, float], whole: bool
) -> None:
    recipe, why, _ = choose(clips(count=30, others=lengths))
    assert (recipe.sampling.fps is None) == whole
    longest = LONG if lengths else SHORT
    assert f"{SHORT:.1f} to {longest:.1f} s" in why


@pytest.mark.parametrize(
    ("height", "width", "fit"),
    [(24, 24, "crop"), (24, 26, "crop"), (24, 40, "stretch"), (40, 24, "stretch")],
)
def test_wide_and_tall_frames_are_stretched(height: int, width: int, fit: str) -> None:
    recipe, why, _ = choose(clips(height=height, width=width))
    assert recipe.model.frame_fit == fit
    assert ("centred square" in why) == (fit == "crop")
    assert f"{width}x{height}" in why


@pytest.mark.parametrize("name", [None, "lcr_nano"])
def test_many_clips_get_the_default_recipe(name: str | None) -> None:
    recipe, why, _ = choose(clips(count=SMALL + 1), name)
    assert recipe == default(name or "lcr_tiny")
    assert why.startswith(
        f"recipe default with {name or 'lcr_tiny'}, as there are {SMALL + 1:,} clips"
    )
    assert choose(clips(count=SMALL), name)[0] != recipe


def test_steps_grow_with_the_clips_within_bounds() -> None:
    fewest, most = module.STEPS
    middle = (fewest + most) // 2 // module.STEPS_PER_CLIP
    steps = [choose(clips(count=count))[0].steps for count in (2, middle, SMALL)]
    assert steps == [fewest, middle * module.STEPS_PER_CLIP, most]


def test_a_named_model_is_kept() -> None:
    recipe, why, _ = choose(clips(width=40), "lcr_nano")
    assert recipe.model == model_config("lcr_nano", frame_fit="stretch")
    own = default("lcr_nano")
    chosen = choose(clips(width=40), starts=False)[0]
    assert recipe == replace(chosen, model=recipe.model, lr=own.lr, ema=own.ema)
    assert "lcr_nano" in why
    assert "lcr_pico" not in why


def test_presets_for_few_clips_are_trained_as_they_were_measured() -> None:
    chosen = choose(clips(width=40), starts=False)[0]
    pico = model_config("lcr_pico", frame_fit="stretch")
    assert choose(clips(width=40), "lcr_pico")[0] == replace(chosen, model=pico)
    lite = choose(clips(width=40), "lcr_lite")[0]
    assert lite.steps == chosen.steps // 2
    assert lite == replace(
        chosen,
        model=model_config("lcr_lite", frame_fit="stretch"),
        steps=lite.steps,
        eval_every=lite.eval_every,
    )


def test_what_can_not_be_read_is_left_out() -> None:
    seen = measure_clips(clips(others={0: LONG, 1: LONG}, unreadable=(0, 1)))
    assert seen == ClipStatistics((SHORT, SHORT), SHORT, 24, 24)


@pytest.mark.skipif(sys.platform != "linux", reason="the opener needs fork")
def test_a_clip_that_crashes_or_hangs_the_decoder_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = clips(others={0: LONG, 1: LONG})
    open_whole = whole.opener
    assert open_whole is not None

    def opener(row: Row) -> Video:
        if row.path == "0":
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        if row.path == "1":
            time.sleep(600)
        return open_whole(row)

    monkeypatch.setattr(module, "CLIP_TIMEOUT", 1.0)
    assert measure_clips(replace(whole, opener=opener)) == ClipStatistics(
        (SHORT, SHORT), SHORT, 24, 24
    )


def test_a_daemonic_process_looks_by_itself() -> None:
    with WorkerPool(measure_clips, workers=1) as pool:  # its processes are such, and may start none
        pool.submit("clips", clips())
        assert pool.next() == ("clips", measure_clips(clips()))


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (clips(unreadable=tuple(range(6))), "no clip could be opened in time"),
        (clips(split="test"), "there is no clip to train on"),
        (clips(count=0), "there is no clip to train on"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_where_no_clip_can_be_read(manifest: Manifest, why: str, workers: int) -> None:
    assert measure_clips(manifest, workers=workers) is None
    chosen = choose(manifest, workers=workers)
    assert chosen == (default("lcr_tiny"), f"recipe default, as {why}.", None)


@pytest.mark.parametrize("workers", [0, 1])
def test_measuring_ends_in_time(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(module, "ALL_TIMEOUT", 0.0)
    seen = measure_clips(clips(others={0: LONG}), workers=workers)
    assert seen == ClipStatistics((LONG, LONG), LONG, 24, 24)


def test_only_training_clips_with_a_label_are_looked_at() -> None:
    whole = clips(SHORT)
    others = (Row("6", None, "train"), Row("7", "a", "test"))
    assert measure_clips(replace(whole, rows=whole.rows + others)) == measure_clips(whole)


def test_the_middle_size_counts() -> None:
    sizes = {0: (24, 400), 1: (300, 24), **dict.fromkeys(range(2, 6), (24, 24))}
    seen = measure_clips(replace(clips(), opener=Opener(dict.fromkeys(range(6), SHORT), sizes)))
    assert seen is not None
    assert (seen.height, seen.width) == (24, 24)


def test_single_pictures_in_which_nothing_moves() -> None:
    recipe, why, _ = choose(clips(1 / FPS))
    assert recipe == default("lcr_tiny")
    assert "single pictures" in why
