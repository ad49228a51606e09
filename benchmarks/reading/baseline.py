"""What reading is measured against: the shortest honest loop around PyAV or OpenCV.

One thread; nothing is checked, counted or repaired. Which frames are wanted, where they lie and
where the key frames are is told in advance and costs the loop nothing.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from videorwkv.preprocess.inputs import Box
from videorwkv.video.to_image import ONE_THREAD


@dataclass(frozen=True)
class Task:
    """One clip.

    Args:
        path: a video file or a folder of frames.
        indices: of the frames, increasing, possibly repeated.
        box: what is cut out of each frame.
        size: side in pixels to which that is resized.
        files: the frames of a folder.
        pts: of the frames in the file, for `indices`; empty where packets carry none.
        key_pts: of the file's key frames, increasing.
    """

    path: str
    indices: tuple[int, ...]
    box: Box
    size: int
    files: tuple[Path, ...] = ()
    pts: tuple[int, ...] = ()
    key_pts: tuple[int, ...] = ()


def pyav_from_start(task: Task) -> NDArray[np.uint8]:
    """Decode from the first frame to the last one that is wanted: [T, size, size, 3]."""
    wanted, last = set(task.indices), task.indices[-1]
    images: dict[int, NDArray[np.uint8]] = {}
    with av.open(task.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        reformatter = VideoReformatter()
        for index, picture in enumerate(container.decode(stream)):
            if index in wanted:
                images[index] = _shrink(picture, reformatter, task)
                if index == last:
                    break
    return np.stack([images[index] for index in task.indices])


def pyav_key_frames(task: Task) -> NDArray[np.uint8]:
    """The same, but go to a key frame wherever one lies between two wanted frames."""
    wanted = set(task.pts)
    images: dict[int, NDArray[np.uint8]] = {}
    with av.open(task.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        reformatter = VideoReformatter()
        pictures = container.decode(stream)
        reached = task.key_pts[0] if task.key_pts else 0
        for target in sorted(wanted):
            if target in images:
                continue
            key = bisect_right(task.key_pts, target) - 1
            if key >= 0 and task.key_pts[key] > reached:
                container.seek(task.key_pts[key], stream=stream)
                pictures = container.decode(stream)
            for picture in pictures:
                reached = max(reached, picture.pts)
                if picture.pts in wanted:
                    images[picture.pts] = _shrink(picture, reformatter, task)
                if picture.pts == target:
                    break
    return np.stack([images[pts] for pts in task.pts])


def opencv_images(task: Task) -> NDArray[np.uint8]:
    """Read and decode the wanted files of a folder: [T, size, size, 3]."""
    images = {}
    for index in set(task.indices):
        content = np.fromfile(task.files[index], np.uint8)
        image_HWC: Any = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        images[index] = _crop(image_HWC, task)
    return np.stack([images[index] for index in task.indices])


def _shrink(picture: av.VideoFrame, reformatter: VideoReformatter, task: Task) -> NDArray[np.uint8]:
    image_HWC: Any = reformatter.reformat(picture, format="rgb24", **ONE_THREAD).to_ndarray()
    return _crop(image_HWC, task)


def _crop(image_HWC: NDArray[np.uint8], task: Task) -> NDArray[np.uint8]:
    box = task.box
    cut_HWC = image_HWC[box.top : box.bottom, box.left : box.right]
    how = cv2.INTER_AREA if min(cut_HWC.shape[:2]) > task.size else cv2.INTER_LINEAR
    return cv2.resize(cut_HWC, (task.size, task.size), interpolation=how)
