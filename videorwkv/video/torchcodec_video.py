"""Video files decoded by torchcodec instead of PyAV: the same frames, or an error.

PyAV still opens the file and lists its packets, so that times and indices are the same whatever
decodes. Equal frames were found, bit for bit, in the kinds of file below; all others are refused.
torchcodec is imported when the first such video is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.base import Frame, Images, Transform
from videorwkv.video.container import ContainerVideo
from videorwkv.video.to_image import display_matrix

# Elsewhere torchcodec's seeks end at other frames.
CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Of more than 8 bits or other colour sampling, FFmpeg's versions make different RGB.
PIXEL_FORMATS = ("yuv420p", "yuvj420p")
INSTALL = (
    "Install it with: pip install 'videorwkv[torchcodec]'. It needs FFmpeg's shared libraries as "
    "well (Debian: apt-get install ffmpeg); beside a CPU build of PyTorch, take 'torchcodec<0.14': "
    "later ones need CUDA. Or take decoder 'pyav', which gives the same frames."
)


def load_torchcodec() -> Any:
    """The class `torchcodec.decoders.VideoDecoder`; `UsageError` where it can't be loaded."""
    try:
        from torchcodec.decoders import VideoDecoder
    except ModuleNotFoundError as error:
        raise UsageError(f"Decoder 'torchcodec' is not installed. {INSTALL}") from error
    except (ImportError, OSError, RuntimeError) as error:
        # It says at length which of FFmpeg's versions it has tried.
        raise UsageError(
            f"Decoder 'torchcodec' can't be loaded: {_first_line(error)}. {INSTALL}"
        ) from error
    return VideoDecoder


class TorchcodecVideo(ContainerVideo):
    """A video file, or its content, decoded by torchcodec.

    Damaged files, interlaced, mirrored and unusual ones raise `DecodeError` where PyAV would give
    their decodable frames.

    Args:
        source: path, or the file's content.
        name: what messages call it.

    Raises:
        DecodeError: it can't be opened, is no video or has no video stream.
        UsageError: torchcodec can't be loaded.
    """

    def __init__(self, source: str | bytes, name: str) -> None:
        self._decoder_class = load_torchcodec()
        super().__init__(source, name)
        self._decoder: Any = None
        # Whether it may go to key frames.
        self._seeks = True

    def close(self) -> None:
        super().close()
        self._decoder = None

    def _iterate(self) -> Iterator[Frame]:
        for index, time in enumerate(self.times().tolist()):
            yield Frame(self._image(index), time)

    def _rescan(self) -> NDArray[np.float64]:
        raise self._refusal("its packets carry no times")

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        return {index: transform(self._image(index)) for index in indices.tolist()}

    def _image(self, index: int) -> NDArray[np.uint8]:
        """RGB [H, W, 3], upright."""
        if self._decoder is None:
            self._decoder = self._make_decoder(self._checked_stream())
        frame, reason = self._frame(index)
        if frame is None and self._seeks:
            # After a seek FFmpeg's versions differ in what they give: decode from the beginning.
            self._seeks = False
            self._decoder = self._make_decoder(self._decoder.stream_index)
            frame, reason = self._frame(index)
        if frame is None:
            raise self._refusal(reason)
        image_HWC: NDArray[np.uint8] = frame.data.numpy()
        return image_HWC

    def _frame(self, index: int) -> tuple[Any, str]:
        """torchcodec's frame, or None and why it is not the one that was asked for."""
        try:
            frame = self._decoder.get_frame_at(index)
        except (RuntimeError, IndexError) as error:
            return None, f"torchcodec fails at frame {index}: {_first_line(error)}"
        wanted = float(self._pts[index]) * self._tick
        if abs(frame.pts_seconds - wanted) > self._tick / 2:
            text = f"torchcodec gives the frame at {frame.pts_seconds:.3f} s for that at"
            return None, f"{text} {wanted:.3f} s"
        return frame, ""

    def _checked_stream(self) -> int:
        """Which of the file's streams to read; `DecodeError` where frames may differ."""
        self.times()
        if self._warnings:
            raise self._refusal("; ".join(self._warnings))
        with self._take() as decoding:
            if decoding.container_name not in CONTAINERS:
                raise self._refusal(f"its container is {decoding.container_name}")
            self._tick = decoding.tick
            picture = next((picture for _, picture in decoding.pictures()), None)
            if picture is None or decoding.num_errors:
                raise self._refusal("its first frame can't be decoded")
            if picture.format.name not in PIXEL_FORMATS:
                raise self._refusal(f"its pixel format is {picture.format.name}")
            if picture.interlaced_frame:
                raise self._refusal("it is interlaced")
            if np.linalg.det(display_matrix(picture).astype(np.float64)) < 0:
                raise self._refusal("it is mirrored")
            return decoding.stream_index

    def _make_decoder(self, stream_index: int) -> Any:
        try:
            return self._decoder_class(
                self._source,
                stream_index=stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device="cpu",
                custom_frame_mappings=self._mappings(),
            )
        except (RuntimeError, ValueError) as error:
            raise self._refusal(_first_line(error)) from error

    def _mappings(self) -> str:
        """The frames as PyAV lists them, so that torchcodec need not read the file for that."""
        pts = self._pts.tolist()
        steps = np.diff(self._pts).tolist() or [1]
        keys = set(self._key_places) if self._seeks else {pts[0]}
        frames = [
            {"pts": at, "duration": step, "key_frame": int(at in keys)}
            for at, step in zip(pts, [*steps, steps[-1]], strict=False)
        ]
        return json.dumps({"frames": frames})

    def _refusal(self, reason: str) -> DecodeError:
        return DecodeError(
            f"{self.name}: decoder 'torchcodec' does not read this file as PyAV does: {reason}. "
            "Take decoder 'pyav'."
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__
