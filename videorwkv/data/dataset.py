"""Rows -> samples that a model reads. V views, T frames, H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videorwkv.data.background import background_of, with_background
from videorwkv.data.cache import FrameCache
from videorwkv.data.manifest import Manifest, Row, join_labels
from videorwkv.data.negatives import negative
from videorwkv.data.torchvision_transforms import apply_transforms
from videorwkv.data.transforms import Augmentation, Draw, check_views, crop_views, erase
from videorwkv.errors import ConfigError, DataError, VideoRWKVError
from videorwkv.models.config import LCRConfig
from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import FrameFit, Inputs
from videorwkv.video.base import Clip, Sampling, Transform, Video


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip, ready for a model.

    Args:
        inputs: frames [T, H, W, 3] and edges [T, H, W]; with views [V, T, ...], the crops of the
            first temporal view first.
        label: index in the manifest's labels, -1 if unknown; of a window of a timeline that of each
            frame, int64 [T]; where clips have several labels, 1 for each that it has and 0 for the
            others, float32 [K], all -1 if unknown.
        index: of its row in the manifest.
        warnings: what went wrong without being fatal.
    """

    inputs: Inputs
    label: int | NDArray[np.int64] | NDArray[np.float32]
    index: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadClip:
    """A clip that can't be read. It is reported, never replaced by another one.

    Args:
        index: of its row in the manifest.
        path: the row's name, so with the segment.
        reason: why not.
    """

    index: int
    path: str
    reason: str


# Ends the warning of a clip whose frames lose their sides.
CROPPED = " is seen"


class Drawn(NamedTuple):
    """What chance has decided for one clip.

    Args:
        sampling: which frames, the speed of this clip included.
        places: draws the places in time; None takes the fixed ones.
        draw: what is done to the frames; None in evaluation.
    """

    sampling: Sampling
    places: np.random.Generator | None = None
    draw: Draw | None = None


class ClipDataset(torch.utils.data.Dataset):
    """The clips of a manifest, each a pure function of (seed, epoch, index).

    Args:
        manifest: one split.
        sampling: which frames of a video become a clip.
        size: side of the frames in pixels.
        edges: method in `EDGE_METHODS`; the edges are made of what the model sees.
        edge_options: their parameters.
        augmentation: for training: random places in time, and what it says. None evaluates: fixed
            places in time and fixed crops.
        seed: of everything random.
        views: temporal views and crops of a clip, in evaluation only; a clip is decoded once.
        cache: decodes every file once and keeps the frames; None decodes each time.
        repeats: how often an epoch shows each clip, drawn again each time: few and long clips need
            more than one window an epoch.
        frame_fit: how a frame becomes a square, as in `fit_box`.
        edges_later: leave the edges of training clips to `videorwkv.preprocess.inputs.completed`,
            which makes them where the model is.

    Raises:
        ConfigError: a number is out of range, there are no such views, or torchvision is wanted
            and not there, or not for these transforms.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        sampling: Sampling,
        size: int,
        edges: str = "canny",
        edge_options: EdgeOptions | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        views: tuple[int, int] = (1, 1),
        cache: FrameCache | None = None,
        repeats: int = 1,
        frame_fit: FrameFit = "crop",
        edges_later: bool = False,
    ) -> None:
        check_views(views, frame_fit, "ClipDataset")
        if augmentation is not None and views != (1, 1):
            raise ConfigError(f"ClipDataset: views {views} are for evaluation, not for training.")
        if size < 1 or repeats < 1:
            raise ConfigError(f"ClipDataset: size ({size}), repeats ({repeats}): at least 1.")
        if augmentation is not None and augmentation.torchvision:
            # Not at the first clip, in a worker: what can't be used is no fault of that clip.
            black_THWC = np.zeros((sampling.num_frames, size, size, 3), np.uint8)
            apply_transforms(black_THWC, augmentation.torchvision, seed)
        if augmentation is not None and augmentation.negatives:
            manifest = with_background(manifest)
        self.manifest = manifest
        self.sampling = sampling
        self.size = size
        self.edges = edges
        self.edge_options = edge_options or EdgeOptions()
        self.augmentation = augmentation
        self.seed = seed
        self.views = views
        self.cache = cache
        self.repeats = repeats
        self.frame_fit = frame_fit
        self.edges_later = edges_later

    def __len__(self) -> int:
        return len(self.manifest.rows) * self.repeats

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of a sample's edge maps: (T, H, W), with views (V, T, H, W)."""
        shape = (self.sampling.num_frames, self.size, self.size)
        return shape if self.views == (1, 1) else (self.views[0] * self.views[1], *shape)

    def locate(self, index: int) -> tuple[int, Row]:
        """Which row of the manifest an index shows."""
        row_index = index % len(self.manifest.rows)
        return row_index, self.manifest.rows[row_index]

    def __getitem__(self, key: tuple[int, int] | int) -> Sample | BadClip:
        """The clip of (epoch, index), or why it can't be read; an index alone is of epoch 0.

        Raises:
            IndexError: a plain index out of range, which ends a `for` loop over the clips.
            DataError: the data set as a whole can't be used (a full disk under the cache, say).
        """
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"clip {key} of {len(self)}")
            key = (0, int(key) % len(self))
        row_index, row = self.locate(key[1])
        try:
            with self.open(row) as video:
                drawn = self.draw(key)
                if drawn.draw is None:
                    return self._evaluation_sample(video, row, row_index)
                return self._training_sample(video, row, row_index, drawn, drawn.draw)
        except DataError:
            raise
        except VideoRWKVError as error:
            return BadClip(row_index, row.name, str(error))

    def draw(self, key: tuple[int, int]) -> Drawn:
        """Everything random of (epoch, index)."""
        if self.augmentation is None:
            return Drawn(self.sampling)
        rng = np.random.default_rng([self.seed, *key])
        speed = self.augmentation.draw_speed(rng)
        fps = None if self.sampling.fps is None else self.sampling.fps * speed
        # A generator of its own for the places in time: a file that turns out shorter than it
        # announces is drawn from twice.
        places = rng.spawn(1)[0]
        draw = self.augmentation.draw(
            rng, self.size, may_flip=self.manifest.flips is not None, frame_fit=self.frame_fit
        )
        return Drawn(replace(self.sampling, fps=fps), places, draw)

    def open(self, row: Row) -> Video:
        """The row's video, from the cache if there is one; `DecodeError` if it can't be read."""
        if self.cache is None:
            return self.manifest.open(row)
        return self.cache.open_row(self.manifest, row)

    def _training_sample(
        self, video: Video, row: Row, index: int, drawn: Drawn, draw: Draw
    ) -> Sample:
        sampling = drawn.sampling
        clip = video.sample(
            sampling.num_frames, fps=sampling.fps, rng=drawn.places, transform=draw.crop
        )
        frames_THWC, edges_THW = self.finished(clip.frames_THWC, draw)
        label = row.label
        flips = self.manifest.flips
        if draw.flipped and flips is not None and label is not None:
            label = join_labels(flips[one] for one in self.manifest.labels_of(row))
        if draw.negative is not None:
            label = background_of(self.manifest.labels)
        inputs = Inputs(tensor(frames_THWC), tensor(edges_THW))
        return Sample(inputs, self.manifest.target(label), index, clip.warnings)

    def finished(
        self, frames_THWC: NDArray[np.uint8], draw: Draw
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cropped frames of a training clip with all that is drawn for it, and their edges; or,
        with `edges_later`, whole frames and what is to be erased, as `completed` takes them."""
        frames_THWC = draw.finish(frames_THWC)
        if draw.negative is not None:
            frames_THWC = negative(frames_THWC, draw.negative)
        if self.edges_later:
            marks_THW = np.zeros(frames_THWC.shape[:3], np.uint8)
            if draw.erased is not None:
                top, left, bottom, right = draw.erased
                marks_THW[:, top:bottom, left:right] = 255
            return frames_THWC, marks_THW
        edges_THW = edge_map(frames_THWC, self.edges, self.edge_options)
        if draw.erased is not None:
            erase(frames_THWC, edges_THW, draw.erased)
        return frames_THWC, edges_THW

    def _evaluation_sample(self, video: Video, row: Row, index: int) -> Sample:
        clips, crops = self.views
        shapes: set[tuple[int, ...]] = set()

        def crop(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
            shapes.add(image_HWC.shape[:2])
            return crop_views(image_HWC, self.size, crops, self.frame_fit)

        clip, chosen_VT, repeated = self._read_views(video, clips, crop)
        warnings = clip.warnings
        if repeated:
            warnings += (f"{video.name}: too short for {clips} temporal views; some are equal",)
        if any(abs(height - width) < crops - 1 for height, width in shapes):
            warnings += (f"{video.name}: square or nearly so; some of its {crops} crops are equal",)
        if self.frame_fit == "crop" and (seen := _seen(shapes, crops)):
            warnings += (f"{video.name}: {seen}",)
        # Every decoded frame is cropped and its edges are found once, however many views share it.
        crops_NVHWC = clip.frames_THWC.reshape(-1, crops, self.size, self.size, 3)
        crops_VNHWC = crops_NVHWC.swapaxes(0, 1)
        edges_VNHW = np.stack(
            [edge_map(f_NHWC, self.edges, self.edge_options) for f_NHWC in crops_VNHWC]
        )
        shape = (clips * crops, self.sampling.num_frames, self.size, self.size)
        frames_VTHWC = crops_VNHWC[:, chosen_VT].swapaxes(0, 1).reshape(*shape, 3)
        edges_VTHW = edges_VNHW[:, chosen_VT].swapaxes(0, 1).reshape(shape)
        if self.views == (1, 1):
            frames_VTHWC, edges_VTHW = frames_VTHWC[0], edges_VTHW[0]
        inputs = Inputs(tensor(frames_VTHWC), tensor(edges_VTHW))
        return Sample(inputs, self.manifest.target(row.label), index, warnings)

    def _read_views(
        self, video: Video, clips: int, crop: Transform
    ) -> tuple[Clip, NDArray[np.int64], bool]:
        """The cropped frames of all temporal views, decoded once; each view's places [V, T] among
        them; and whether the video is too short for the views to differ."""
        while True:
            times = video.times()
            views_VT = np.stack(
                [self.sampling.indices(times, view=v, num_views=clips) for v in range(clips)]
            )
            needed, places = np.unique(views_VT, return_inverse=True)
            clip = video.read(needed.tolist(), transform=crop)
            # A file may turn out to hold fewer frames than it announced; then choose among those.
            if len(video.times()) == len(times):
                break
        repeated = len(np.unique(views_VT, axis=0)) < clips
        if repeated and _room_for_views(times, self.sampling, clips):
            raise AssertionError(f"{video.name}: temporal views are equal: {views_VT.tolist()}")
        return clip, places.reshape(views_VT.shape), repeated


def _seen(shapes: set[tuple[int, ...]], crops: int) -> str:
    """How much of the frames lies in `crops` squares; nothing if it is as good as all."""
    if not shapes:
        return ""
    height, width = max(shapes, key=lambda shape: max(shape) / min(shape))
    share = crops * min(height, width) / max(height, width)
    if share > 0.95:
        return ""
    what = "the centred square" if crops == 1 else f"{crops} squares"
    return f"of {width}x{height} pixels {what}, {share:.0%},{CROPPED}"


def _room_for_views(times: NDArray[np.float64], sampling: Sampling, clips: int) -> bool:
    """Whether an evenly timed video has frames enough for `clips` different temporal views."""
    steps = np.diff(times)
    if len(steps) == 0 or steps.max() > 1.5 * steps.min():
        return False
    if sampling.fps is None:
        return len(times) >= 2 * sampling.num_frames * clips
    window = (sampling.num_frames - 1) / sampling.fps
    return float(times[-1] - times[0] - window) >= 2 * (clips - 1) * float(steps.max())


def tensor(array: NDArray[np.uint8]) -> Tensor:
    """The same numbers as a tensor, copied where their rows lie apart."""
    return torch.from_numpy(np.ascontiguousarray(array))


def make_dataset(
    model: LCRConfig,
    manifest: Manifest,
    sampling: Sampling,
    *,
    cache: str | Path | None = None,
    kind: type[ClipDataset] | None = None,
    **options: Any,
) -> ClipDataset:
    """The clips of a manifest as a model with this configuration reads them; `kind` is another
    class than `ClipDataset`, and `options` are those of it."""
    rate = manifest.frame_rate
    frames = None
    if cache is not None:
        frames = FrameCache.for_images(cache, model.image_size, frame_rate=rate)
    return (kind or ClipDataset)(
        # Workers get a copy, and have no use for clips that are not there.
        replace(manifest, missing=()),
        sampling=sampling,
        size=model.image_size,
        edges=model.edges,
        edge_options=model.edge_options,
        frame_fit=model.frame_fit,
        cache=frames,
        **options,
    )
