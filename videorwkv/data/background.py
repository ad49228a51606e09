"""The class of clips in which nothing of interest happens: it is learnt, and never named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from videorwkv.data.manifest import Manifest

# Its name where the data have none.
BACKGROUND = "background"
# What such a class is called, as in folders of clips.
BACKGROUNDS = (BACKGROUND, "none")


def background_of(labels: Sequence[str]) -> str | None:
    """Which of the labels is the background, if one is."""
    return next((name for name in BACKGROUNDS if name in labels), None)


def background_places(labels: Sequence[str]) -> tuple[int, ...]:
    """Places of all background classes among the labels."""
    return tuple(place for place, label in enumerate(labels) if label in BACKGROUNDS)


def with_background(manifest: Manifest) -> Manifest:
    """The same rows for a training that adds clips of nothing, or a timeline: with a background
    class, if the data have none."""
    if background_of(manifest.labels) is not None:
        return manifest
    flips = None if manifest.flips is None else {**manifest.flips, BACKGROUND: BACKGROUND}
    return replace(manifest, labels=tuple(sorted((*manifest.labels, BACKGROUND))), flips=flips)
