"""What a model reads: uint8 frames and edge maps. B batch, T frames, H height, W width, C: RGB.

Both stay uint8 until they are on the model's device: a quarter of the memory and of the transfer.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.preprocess.edges import EdgeOptions, check_frames, edge_map
from videorwkv.preprocess.on_device import ON_DEVICE, edge_map_on_device, resize_on_device

# How a frame becomes a square: its largest centred square, or the whole frame, which then loses its
# proportions.
FrameFit = Literal["crop", "stretch"]
# Devices, beside the CPU, on which frames are resized and marked: others, such as Apple's, have no
# float64, which exact edges need.
HAS_FLOAT64 = ("cuda",)


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right) of every frame, in pixels."""

    top: int
    left: int
    bottom: int
    right: int


class Inputs(NamedTuple):
    """Frames and their edge maps.

    Args:
        frames_BTHWC: RGB, uint8, [B, T, H, W, 3].
        edges_BTHW: 0 (no edge) to 255, uint8, [B, T, H, W].
    """

    frames_BTHWC: Tensor
    edges_BTHW: Tensor

    def to(self, device: torch.device | str) -> Inputs:
        return Inputs(
            self.frames_BTHWC.to(device, non_blocking=True),
            self.edges_BTHW.to(device, non_blocking=True),
        )

    def at(self, start: int, stop: int) -> Inputs:
        """Frames `start` to `stop` of every clip in the batch."""
        return Inputs(self.frames_BTHWC[:, start:stop], self.edges_BTHW[:, start:stop])


def check_inputs(inputs: Inputs, patch_size: int) -> None:
    """`UsageError` unless they are what `Inputs` says, of one frame or more, and patches fit."""
    frames, edges = inputs
    shape = frames.shape
    # Types above all: pixels are worked on in place, after a copy that float frames would not get.
    is_uint8 = frames.dtype == edges.dtype == torch.uint8
    if not is_uint8 or len(shape) != 5 or shape[4] != 3 or edges.shape != shape[:4]:
        raise UsageError(
            f"Inputs: got frames {frames.dtype} {list(shape)} and edges {edges.dtype} "
            f"{list(edges.shape)}; uint8 [B, T, H, W, 3] and [B, T, H, W] are wanted, as "
            "model.preprocess gives them."
        )
    if not shape[0] or not shape[1]:
        raise UsageError(
            f"Inputs: got {shape[0]} clips of {shape[1]} frames; at least one frame is wanted."
        )
    check_size(shape[2], shape[3], patch_size)


def check_size(height: int, width: int, patch_size: int) -> None:
    """`UsageError` unless frames of this size can be cut into patches."""
    p = patch_size
    if height % p or width % p or height < 1 or width < 1:
        raise UsageError(
            f"Inputs: frames of {height}x{width} can't be cut into patches of {p}x{p}; resize "
            f"to multiples of {p}, or use model.preprocess."
        )


def preprocess(
    clip: Any, *, size: int, edges: str, edge_options: EdgeOptions, frame_fit: FrameFit = "crop"
) -> Inputs:
    """Frames as decoded -> a batch of one of `size` x `size`, with edge maps.

    Args:
        clip: has its frames as `frames_THWC` (a `Clip`) or `image_HWC` (a `Frame`), or is an array
            or a tensor: RGB, uint8, [T, H, W, 3] or [H, W, 3]. A tensor of a GPU stays on it, and
            becomes the same numbers; one of another device comes to the CPU and back.
        size: the side in pixels.
        edges, edge_options: as in `edge_map`.
        frame_fit: as in `fit_box`.

    Raises:
        UsageError: anything else, or no frame.
    """
    frames = getattr(clip, "frames_THWC", getattr(clip, "image_HWC", clip))
    if isinstance(frames, Tensor):
        _check_tensor(frames)
        if frames.device.type in HAS_FLOAT64:
            return _preprocess_there(frames, size, edges, edge_options, frame_fit)
        device = frames.device
        frames = frames.cpu().numpy()
        found = preprocess(
            frames, size=size, edges=edges, edge_options=edge_options, frame_fit=frame_fit
        )
        return found.to(device)
    check_frames(frames, "preprocess")
    if not len(frames):
        raise UsageError("preprocess: got a clip of 0 frames; wanted: one frame or more.")
    square_THWC = fit(frames if frames.ndim == 4 else frames[None], size, frame_fit)
    edges_THW = edge_map(square_THWC, edges, edge_options)
    return Inputs(torch.from_numpy(square_THWC)[None], torch.from_numpy(edges_THW)[None])


def _check_tensor(frames: Tensor) -> None:
    shape = frames.shape
    if frames.dtype != torch.uint8 or len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape:
        raise UsageError(
            f"preprocess: got {frames.dtype} {list(shape)}; wanted: RGB frames, uint8 "
            "[T, H, W, 3] or [H, W, 3]; permute planes to the end."
        )


def _preprocess_there(
    frames: Tensor, size: int, edges: str, edge_options: EdgeOptions, frame_fit: FrameFit
) -> Inputs:
    """`preprocess` of a tensor, on its device."""
    frames_THWC = frames if frames.ndim == 4 else frames[None]
    height, width = frames_THWC.shape[1:3]
    box = fit_box(height, width, frame_fit)
    square_THWC = resize_on_device(frames_THWC[:, box.top : box.bottom, box.left : box.right], size)
    return with_edges(square_THWC[None], edges, edge_options)


def with_edges(frames_BTHWC: Tensor, edges: str, edge_options: EdgeOptions) -> Inputs:
    """Frames that already have the size of the model, and their edge maps, made where the frames
    are; those of a method that is no tensor's are made on the CPU.

    Args:
        frames_BTHWC: RGB, uint8, [B, T, H, W, 3], on any device, where the edge maps go as well.
        edges, edge_options: as in `edge_map`.

    Raises:
        UsageError: another type or shape.
    """
    if frames_BTHWC.dtype != torch.uint8 or frames_BTHWC.ndim != 5 or frames_BTHWC.shape[4] != 3:
        raise UsageError(
            f"model(frames): got {frames_BTHWC.dtype} {list(frames_BTHWC.shape)}; wanted: RGB "
            "frames as they are decoded, uint8 [B, T, H, W, 3], not scaled and not normalised. "
            "model.preprocess makes them of a clip of any size."
        )
    if edges == "none":
        return Inputs(frames_BTHWC, frames_BTHWC.new_zeros(frames_BTHWC.shape[:4]))
    there = frames_BTHWC.device.type in HAS_FLOAT64 and edges in ON_DEVICE
    if there and frames_BTHWC.numel():
        return _with_edges_there(frames_BTHWC, edges, edge_options)
    clips = [edge_map(clip.numpy(), edges, edge_options) for clip in frames_BTHWC.cpu()]
    maps = np.stack(clips) if clips else np.zeros(frames_BTHWC.shape[:4], np.uint8)
    return Inputs(frames_BTHWC, torch.from_numpy(maps).to(frames_BTHWC.device))


def _with_edges_there(frames_BTHWC: Tensor, edges: str, edge_options: EdgeOptions) -> Inputs:
    """As `with_edges`, by operations on the frames' device; `edges` is one of `ON_DEVICE`."""
    edges_FHW = edge_map_on_device(frames_BTHWC.flatten(0, 1), edges, edge_options)
    return Inputs(frames_BTHWC, edges_FHW.unflatten(0, frames_BTHWC.shape[:2]))


def completed(marked: Inputs, edges: str, edge_options: EdgeOptions) -> Inputs:
    """Training clips whose edges were left for later, on their device.

    Args:
        marked: whole frames; in place of edges, what is to be erased of them: 0 nothing.
        edges, edge_options: as in `edge_map`; one of `ON_DEVICE`.

    Returns:
        what `videorwkv.data.transforms.erase` makes of frames and edges, to the pixel.
    """
    frames_BTHWC, erased_BTHW = marked
    edges_BTHW = _with_edges_there(frames_BTHWC, edges, edge_options).edges_BTHW
    # In float64, which holds the sum of any frame.
    mean_BTC = frames_BTHWC.sum((2, 3)).double() / frames_BTHWC[0, 0, ..., 0].numel()
    mean_BT11C = mean_BTC.round().byte()[:, :, None, None]
    return Inputs(
        torch.where(erased_BTHW[..., None] > 0, mean_BT11C, frames_BTHWC),
        edges_BTHW.masked_fill(erased_BTHW > 0, 0),
    )


def fit(
    frames_THWC: NDArray[np.uint8], size: int, frame_fit: FrameFit = "crop"
) -> NDArray[np.uint8]:
    """Each frame as a square, see `fit_box`: [T, H, W, 3] -> [T, size, size, 3]."""
    return np.stack([fit_image(image_HWC, size, frame_fit) for image_HWC in frames_THWC])


def fit_image(
    image_HWC: NDArray[np.uint8], size: int, frame_fit: FrameFit = "crop"
) -> NDArray[np.uint8]:
    """One frame as a square, see `fit_box`: [H, W, 3] -> [size, size, 3]."""
    height, width = image_HWC.shape[:2]
    box = fit_box(height, width, frame_fit)
    return resize(image_HWC[box.top : box.bottom, box.left : box.right], size)


def fit_box(height: int, width: int, frame_fit: FrameFit) -> Box:
    """The part of a frame that becomes the square: the largest centred square of it (`crop`), or
    all of it (`stretch`)."""
    if frame_fit == "stretch":
        return Box(0, 0, height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return Box(top, left, top + side, left + side)


def resize(image_HWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W, 3] -> [size, size, 3], stretched where H and W differ."""
    if image_HWC.shape[:2] == (size, size):
        return image_HWC
    # INTER_AREA averages what falls into one pixel; other methods would alias when shrinking.
    how = cv2.INTER_AREA if min(image_HWC.shape[:2]) > size else cv2.INTER_LINEAR
    return cv2.resize(image_HWC, (size, size), interpolation=how)
