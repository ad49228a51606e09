"""The frames of every clip of a manifest, decoded and resized ahead of time into a `FrameCache`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from videorwkv.data.cache import QUALITY, FrameCache, encode_jpeg, limit_size
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import DataError, UsageError, VideoRWKVError
from videorwkv.utils.files import decimal, free_space, memory_size, require_room
from videorwkv.utils.progress import Meter
from videorwkv.utils.values import read_json
from videorwkv.utils.words import counted
from videorwkv.utils.workers import Lost, WorkerPool, one_thread

# An estimate looks at so many clips, and at so many frames of each.
SAMPLED_CLIPS, SAMPLED_FRAMES = 12, 5
# Raw frames beat JPEG only while the system keeps them in memory, which other things need, too.
RAW_FRACTION = 0.25
# Words in the names of official archives -> the reader of that data set.
OFFICIAL = {
    "jester": "jester",
    "something": "ssv2",
    "kinetics": "kinetics400",
    "k400": "kinetics400",
}
# Seconds for one clip: enough for hours of video, and the end of a decoder that hangs.
LIMIT = 1800.0


@dataclass(frozen=True)
class Unreadable:
    """A clip that has no place in the cache, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FillPlan:
    """What has to be done to fill a cache.

    Args:
        cache: with the kind of store that new entries get.
        missing: clips that are not there yet.
        n_present: clips that are, in whatever store.
        unreadable: clips that are not on disk.
        bytes_per_clip: estimates for `raw` and `jpeg`; empty if no sampled clip could be read.
        n_sampled: clips that the estimates come from.
        reason: why the store was chosen.
    """

    cache: FrameCache
    missing: tuple[Row, ...]
    n_present: int
    unreadable: tuple[Unreadable, ...]
    bytes_per_clip: dict[str, float]
    n_sampled: int
    reason: str

    @property
    def needed(self) -> float:
        """Estimated bytes of what is missing."""
        return self.bytes_per_clip.get(self.cache.store, 0.0) * len(self.missing)

    def describe(self) -> str:
        """What will be stored, how, why, and how much room it takes."""
        total = len(self.missing) + self.n_present + len(self.unreadable)
        place = f"cache {self.cache.folder} at {self.cache.short_side} px"
        lines = [f"{place} has {self.n_present:,} of {counted(total, 'clip')}"]
        if not self.missing:
            return lines[0]
        kind = "exact RGB" if self.cache.store == "raw" else f"quality {self.cache.quality}"
        lines.append(f"new entries: {self.cache.store} ({kind}), {self.reason}")
        free = decimal(free_space(Path(self.cache.folder)))
        if not self.bytes_per_clip:
            lines.append(f"needed: unknown, as no sampled clip can be read; free: {free}")
            return "\n".join(lines)
        sizes = ", ".join(
            f"{name} {decimal(round(size * len(self.missing)))}"
            for name, size in self.bytes_per_clip.items()
        )
        lines.append(
            f"needed: about {decimal(round(self.needed))} for {counted(len(self.missing), 'clip')} "
            f"(estimated from {self.n_sampled}: {sizes}); free: {free}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Filled:
    """What `fill_cache` did: entries written now, and clips that could not be read."""

    n_written: int
    unreadable: tuple[Unreadable, ...]


def plan_fill(manifest: Manifest, cache: FrameCache) -> FillPlan:
    """Look at what is there, estimate the rest and choose a store where `cache` says `auto`.

    Raises:
        UsageError: the clips are generated, so there is nothing to cache; or entries are there
            that are stored in another way than `cache` asks for.
        DataError: the cache's settings are damaged.
    """
    if manifest.opener is not None:
        raise UsageError(f"{manifest.name}: its clips are generated, so a cache has no use.")
    missing: list[Row] = []
    present: list[Path] = []
    unreadable: list[Unreadable] = []
    rows = list({row.name: row for row in manifest.rows}.values())
    for row in rows:
        try:
            entry = cache.entry(row.path, row.segment)
            if entry.exists():
                present.append(entry)
            else:
                missing.append(row)
        except VideoRWKVError as error:
            unreadable.append(Unreadable(row.name, str(error)))
    _require_same_store(cache, present)
    sizes = _sample(manifest, cache, missing)
    per_clip = {}
    if sizes:
        raw, jpeg = np.mean(sizes, axis=0).tolist()
        per_clip = {"raw": raw, "jpeg": jpeg}
    store, quality, reason = _choose(cache, per_clip.get("raw", 0.0) * len(rows))
    return FillPlan(
        cache=replace(cache, store=store, quality=quality),
        missing=tuple(missing),
        n_present=len(present),
        unreadable=tuple(unreadable),
        bytes_per_clip=per_clip,
        n_sampled=len(sizes),
        reason=reason,
    )


def fill_cache(manifest: Manifest, plan: FillPlan, *, workers: int) -> Filled:
    """Store what is missing, in processes of its own. Ctrl-C keeps every entry that is complete.

    Raises:
        DataError: the disk can't hold it, is full or can't be written to; or processes are killed
            from outside.
    """
    require_room(Path(plan.cache.folder), plan.needed, "The cache")
    plan.cache.settle()
    unreadable = list(plan.unreadable)
    title, total = "caching", len(plan.missing)
    with (
        Meter(title, total, "clips") as meter,
        WorkerPool(
            _Fill(manifest, plan.cache),
            workers=max(1, min(workers, total)),
            timeout=LIMIT,
            initializer=one_thread,
        ) as pool,
    ):
        for row in plan.missing:
            pool.submit(row.name, row)
        for done in range(1, total + 1):
            path, answer = pool.next()
            if isinstance(answer, Lost):
                answer = _reason(str(path), answer)
            if answer:
                unreadable.append(Unreadable(str(path), answer))
            meter.update(done, f"{len(unreadable)} unreadable" if unreadable else "")
    n_written = total - (len(unreadable) - len(plan.unreadable))
    # In the manifest's order, whichever process was faster.
    order = {row.name: place for place, row in enumerate(manifest.rows)}
    return Filled(n_written, tuple(sorted(unreadable, key=lambda clip: order[clip.path])))


class _Fill:
    """What the processes run: a row -> why it can't be read, or nothing."""

    def __init__(self, manifest: Manifest, cache: FrameCache) -> None:
        self._manifest = manifest
        self._cache = cache

    def __call__(self, row: Row) -> str:
        try:
            self._cache.fill(row.path, lambda: self._manifest.open(row), segment=row.segment)
        except DataError:
            raise
        except VideoRWKVError as error:
            return str(error)
        return ""


def _reason(path: str, lost: Lost) -> str:
    if not lost.by_its_task:
        raise DataError(
            f"A process that read {path} has ended: {lost.reason}. Take fewer --workers, then run "
            "the same command again: what is complete stays."
        )
    return f"{path}: {'reading it' if lost.timed_out else 'the decoder crashed:'} {lost.reason}"


def _require_same_store(cache: FrameCache, entries: Sequence[Path]) -> None:
    """`UsageError` if one of `entries` is stored in another way than `cache` explicitly asks for.

    They would stay as they are, so that a cache might seem to be what it is not.
    """
    if cache.store == "auto" and cache.quality == QUALITY:
        return
    for entry in entries:
        try:
            about = read_json(entry)
            # As in `FrameCache.open`: entries of the first version are raw and don't say so.
            store, quality = about.get("store", "raw"), about.get("quality", cache.quality)
        except (OSError, ValueError, AttributeError):
            continue  # who opens it is told
        other = cache.store not in ("auto", store)
        if other or (store == "jpeg" and quality != cache.quality):
            there = f"jpeg (quality {quality})" if store == "jpeg" else "raw (exact RGB)"
            asked = f"--store {cache.store}" if other else f"--quality {cache.quality}"
            same = "--store raw" if store == "raw" else f"--store jpeg --quality {quality}"
            raise UsageError(
                f"Cache {cache.folder}: entries of this data set are {there} and stay so; {asked} "
                f"needs another folder. To go on with this one, give {same}."
            )


def _sample(
    manifest: Manifest, cache: FrameCache, rows: Sequence[Row]
) -> list[tuple[float, float]]:
    """Bytes of some clips, as raw and as JPEG frames; what can't be read is skipped."""
    step = max(1, len(rows) // SAMPLED_CLIPS)
    sizes = []
    for row in rows[step // 2 :: step][:SAMPLED_CLIPS]:
        try:
            with manifest.open(row) as video:
                total = len(video.times())
                places = np.linspace(0, total - 1, min(total, SAMPLED_FRAMES)).astype(int)
                clip = video.read(
                    places.tolist(), transform=lambda image: limit_size(image, cache.short_side)
                )
        except VideoRWKVError:
            continue
        frames_THWC = clip.frames_THWC
        jpegs = [len(encode_jpeg(image_HWC, cache.quality)) for image_HWC in frames_THWC]
        sizes.append((float(frames_THWC[0].nbytes * total), float(np.mean(jpegs) * total)))
    return sizes


def _choose(cache: FrameCache, raw_size: float) -> tuple[str, int, str]:
    """Store and quality for new entries, and why. `raw_size`: bytes of all clips as raw frames."""
    if cache.store != "auto":
        return cache.store, cache.quality, "as requested"
    if (settled := cache.settings()) is not None:
        return *settled, "as the folder's first entries"
    room = f"{decimal(int(RAW_FRACTION * memory_size()))}, a quarter of the memory"
    if raw_size <= RAW_FRACTION * memory_size():
        return "raw", cache.quality, f"chosen since all clips as raw frames fit into {room}"
    size = decimal(int(raw_size))
    return "jpeg", cache.quality, f"chosen since all clips as raw frames, {size}, exceed {room}"


def recognise(
    root: str | Path, archives: str = "", load: Callable[[str], Manifest] = load_manifest
) -> tuple[str, Manifest]:
    """What data set lies in `root`: the name that `train` takes for it, and its manifest.

    Args:
        root: a folder.
        archives: names of what was unpacked there; those of official data sets tell them.
        load: name -> manifest.

    Raises:
        VideoRWKVError: none that is known, or a list is missing.
    """
    for word, kind in OFFICIAL.items():
        if word in archives.lower():
            return f"{kind}:{root}", load(f"{kind}:{root}")
    return str(root), load(str(root))
