"""An annotated video that grows frame by frame, as a stream does. K classes, H height, W width."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import UsageError
from videorwkv.video import Frame

Image = NDArray[np.uint8]
# Frames that may wait for the encoder.
ROOM = 8


class Film:
    """Writes frames as they come; the file appears, whole, with `close()`. None without a frame.

    Args:
        path: an .mp4 file; missing folders are made.
        labels: K class names.
        fps: frames a second.

    Raises:
        UsageError: another suffix: a .gif would have to stay in memory until its end.
    """

    def __init__(self, path: str | Path, labels: Sequence[str], fps: float) -> None:
        self._path, self._labels, self._fps = Path(path), labels, fps
        if self._path.suffix.lower() != ".mp4" or self._path.is_dir():
            raise UsageError(f"--save {path}: wanted an .mp4 file.")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._images: queue.Queue[Image | None] = queue.Queue(ROOM)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, frame: Frame, edges_HW: Image, scores_K: NDArray[np.float32]) -> None:
        """One more frame.

        Raises:
            OSError: the file can't be written.
        """
        from videorwkv.annotate import draw

        self._check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, daemon=True, name="videorwkv-film")
            self._thread.start()
        image_HWC = draw(frame.image_HWC, edges_HW, scores_K, self._labels, time=frame.time)
        self._images.put(image_HWC)

    def close(self) -> None:
        """Finish the file; errors as `add`."""
        if self._thread is not None:
            self._images.put(None)
            self._thread.join()
            self._thread = None
        self._check()

    def _write(self) -> None:
        from videorwkv.video.writer import write_video

        images = self._taken()
        try:
            write_video(self._path, images, self._fps)
        except Exception as error:  # noqa: BLE001 - `add` and `close` raise it again
            self._error = error
        finally:
            for _ in images:  # or whoever adds would wait for ever
                pass

    def _taken(self) -> Iterator[Image]:
        while (image_HWC := self._images.get()) is not None:
            yield image_HWC

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
