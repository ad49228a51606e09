"""Long generated clips: what happens in them, and that each frame is exact by its number."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from videorwkv.data.motion.clips import CLASSES, FPS, clip_generator
from videorwkv.data.motion.film import (
    CIRCLE,
    DIAGONAL,
    TURN,
    FilmVideo,
    Scene,
    motions,
    scenes,
)


def film(index: int = 0, frames: int = 160, seed: int = 3) -> FilmVideo:
    return FilmVideo("film", seed=seed, split="train", index=index, size=32, frames=frames)


def test_scenes_fill_the_film_in_random_order():
    every: list[Scene] = []
    for index in range(60):
        shown = scenes(clip_generator(3, "train", index, stream=4), 480)
        assert sum(scene.frames for scene in shown) == 480
        for one, other in itertools.pairwise(shown):
            is_pause = not (one.label or one.strange)
            assert not (is_pause and not (other.label or other.strange)), "two pauses in a row"
            assert not one.label or one.label != other.label, "one movement cut in two"
        assert all(8 <= scene.frames <= 40 for scene in shown[:-1])
        every += shown
    counts = Counter(scene.label or scene.strange or "pause" for scene in every)
    assert set(counts) == {*CLASSES, DIAGONAL, CIRCLE, TURN, "pause"}
    share = sum(scene.frames for scene in every if scene.label) / (60 * 480)
    assert 0.4 < share < 0.7
    # No class is rare.
    least, *_, most = sorted(counts[label] for label in CLASSES)
    assert most < 2.5 * least


def test_a_frame_is_exact_by_its_number_whatever_was_drawn_before():
    one, other = film(), film()
    frames = [frame.image_HWC for frame in one]
    assert [frame.time for frame in film()] == [index / FPS for index in range(160)]
    for index in (159, 3, 80):
        np.testing.assert_array_equal(other.frame(index), frames[index])
    clip = other.read([5, 40, 150])
    np.testing.assert_array_equal(clip.frames_THWC[1], frames[40])
    assert (film(index=1).frame(0) != frames[0]).any()
    # A longer film begins in the same way.
    np.testing.assert_array_equal(film(frames=300).frame(100), frames[100])


def test_a_movement_goes_on_where_the_one_before_has_ended():
    video = film(frames=960)
    motion, start = video.motion, 0
    for scene in video.scenes[:-1]:
        start += scene.frames
        # No jump at the cut: at most the fastest step, around the border of the torus.
        for values, most in ((motion.place, 0.16), (motion.angle[:, None], 0.05)):
            step = np.abs(values[start] - values[start - 1])
            assert np.minimum(step, 1 - step).max() < most
        assert np.abs(motion.ground[start] - motion.ground[start - 1]).max() < 0.02


def test_only_what_the_scene_says_moves():
    video = film(frames=2000)
    place, angle, zoom = video.motion.place, video.motion.angle, video.motion.zoom
    seen, start = set(), 0
    for scene in video.scenes:
        part = slice(start, start + scene.frames)
        moves = [len(np.unique(v[part].round(9), axis=0)) > 1 for v in (place, angle, zoom)]
        what = scene.label or scene.strange or "pause"
        expected = {
            "pause": [False] * 3,
            TURN: [False, True, False],
            "approach": [False, False, True],
            "recede": [False, False, True],
        }
        assert moves == expected.get(what, [True, False, False]), what
        if what in (DIAGONAL, CIRCLE):  # along both axes, as no class does
            assert all(len(np.unique(place[part, axis].round(9))) > 1 for axis in (0, 1))
        seen.add(what)
        start += scene.frames
    assert seen == {*CLASSES, DIAGONAL, CIRCLE, TURN, "pause"}


def test_place_is_uniform_at_every_moment():
    """Else the picture would say what has happened."""
    places = []
    for index in range(1000):
        shown = scenes(clip_generator(3, "train", index, stream=4), 60)
        places.append(motions(shown, clip_generator(3, "train", index, stream=6)).place[-1])
    counts, _, _ = np.histogram2d(*np.transpose(places), bins=2, range=[(0, 1), (0, 1)])
    # Four standard deviations of a fair draw.
    assert abs(counts - 250).max() < 4 * np.sqrt(1000 * 0.25 * 0.75)
