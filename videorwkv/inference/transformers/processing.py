"""`LCRVideoProcessor`: videos to what the model reads, by the package's own reading and sampling.

The frames are those that `videorwkv predict` takes, decoded by PyAV, so torchcodec is not needed.
T frames, H and W height and width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchFeature
from transformers.video_processing_utils import BaseVideoProcessor

from videorwkv.errors import UsageError
from videorwkv.preprocess.edges import EdgeOptions
from videorwkv.preprocess.inputs import preprocess
from videorwkv.utils.options import dataclass_from_dict
from videorwkv.video.base import Sampling
from videorwkv.video.source import open_video


class LCRVideoProcessor(BaseVideoProcessor):
    """Frames and edge maps of videos, as a model wants them.

    Args:
        num_frames: T.
        fps: None samples uniformly; a rate samples a dense window (`videorwkv.Sampling`).
        image_size: side of the frames in pixels.
        frame_fit: `crop` or `stretch`, see `videorwkv.LCRConfig`.
        edges: how edge maps are made.
        edge_options: parameters of that, JSON values of `videorwkv.EdgeOptions`.
        other: what transformers adds, such as `video_processor_type`.
    """

    model_input_names = ("pixel_values", "edge_values")

    def __init__(
        self,
        *,
        num_frames: int = 16,
        fps: float | None = None,
        image_size: int = 224,
        frame_fit: str = "crop",
        edges: str = "canny",
        edge_options: dict[str, Any] | None = None,
        **other: Any,
    ) -> None:
        super().__init__(**other)
        Sampling(num_frames=num_frames, fps=fps)  # raises where these can't be
        self.num_frames, self.fps, self.image_size = num_frames, fps, image_size
        self.frame_fit, self.edges = frame_fit, edges
        self.edge_options = dict(edge_options or {})

    def preprocess(
        self,
        videos: Any,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        do_sample_frames: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Videos -> `pixel_values`, uint8 [B, T, 3, H, W], and `edge_values`, uint8 [B, T, H, W].

        Args:
            videos: a path, URL or array [T, H, W, 3] or [T, 3, H, W] of uint8, or a list of them.
            num_frames: T; the processor's own if None.
            fps: likewise.
            do_sample_frames: whether to sample from an array, too; a file is always sampled.
            return_tensors: `pt` or `np`; None: arrays.

        Raises:
            UsageError: anything else, or arrays of different lengths that are not sampled.
            DecodeError: a file that can't be read.
        """
        sampling = Sampling(
            num_frames=self.num_frames if num_frames is None else num_frames,
            fps=self.fps if fps is None else fps,
        )
        clips = [self._clip(video, sampling, bool(do_sample_frames)) for video in _batch(videos)]
        lengths = sorted({len(clip) for clip in clips})
        if len(lengths) != 1:
            raise UsageError(
                f"LCRVideoProcessor: got videos of {lengths} frames; one batch needs one length: "
                "do_sample_frames=True, or one video at a time."
            )
        options = dataclass_from_dict(EdgeOptions, self.edge_options, where="edge_options")
        inputs = [
            preprocess(
                clip,
                size=self.image_size,
                edges=self.edges,
                edge_options=options,
                frame_fit=self.frame_fit,  # type: ignore[arg-type]
            )
            for clip in clips
        ]
        frames_BTHWC = torch.cat([one.frames_BTHWC for one in inputs])
        values = {
            "pixel_values": frames_BTHWC.permute(0, 1, 4, 2, 3).contiguous().numpy(),
            "edge_values": torch.cat([one.edges_BTHW for one in inputs]).numpy(),
        }
        return BatchFeature(values, tensor_type=return_tensors)

    def _clip(self, video: Any, sampling: Sampling, is_sampled: bool) -> NDArray[np.uint8]:
        """The frames of a video, uint8 [T, H, W, 3]."""
        if isinstance(video, str | Path | bytes):
            with open_video(video) as opened:
                return opened.sample(sampling.num_frames, fps=sampling.fps).frames_THWC
        frames: NDArray[np.uint8] = np.asarray(video)
        if frames.ndim == 4 and frames.shape[-1] != 3 and frames.shape[1] == 3:
            frames = frames.transpose(0, 2, 3, 1)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
            raise UsageError(
                f"LCRVideoProcessor: got {list(frames.shape)} {frames.dtype}; wanted a path, or "
                "RGB frames of uint8, [T, H, W, 3] or [T, 3, H, W]."
            )
        if is_sampled:
            # An array has no times, so it is sampled as if it were as long as the window.
            times = np.arange(len(frames), dtype=np.float64)
            frames = frames[Sampling(num_frames=sampling.num_frames).indices(times)]
        return np.ascontiguousarray(frames)


def _batch(videos: Any) -> list[Any]:
    """One video or many -> a list of videos; a list of frames is one video."""
    if not isinstance(videos, list | tuple):
        is_many = not isinstance(videos, str | Path | bytes) and np.ndim(videos) == 5
        return list(videos) if is_many else [videos]
    if not videos:
        raise UsageError("LCRVideoProcessor: got an empty list; wanted a video or more.")
    if isinstance(videos[0], str | Path | bytes) or np.ndim(videos[0]) == 4:
        return list(videos)
    if np.ndim(videos[0]) == 3:
        return [np.stack([np.asarray(frame) for frame in videos])]
    return [clip for one in videos for clip in _batch(one)]
