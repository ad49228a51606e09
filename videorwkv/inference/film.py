"""An annotated video that grows frame by frame, as a stream does. K classes, H height, W width."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import UsageError
from videorwkv.utils.files import make_folder
from videorwkv.video import Frame

Image = NDArray[np.uint8]
# Frames that may wait for the encoder.
ROOM = 8
# Seconds. A longer pause of the source is shown as this: hours of one picture help nobody.
PAUSE = 10.0


class Film:
    """Writes frames as they come; the file appears, whole, with `close()`. None without a frame.

    It runs as fast as its source: a frame stays until the time of the next one.

    Args:
        path: an .mp4 file; missing folders are made.
        labels: K class names.
        fps: frames a second of the film.

    Raises:
        UsageError: another suffix: a .gif would have to stay in memory until its end; or its folder
            can't be made.
    """

    def __init__(self, path: str | Path, labels: Sequence[str], fps: float) -> None:
        self._path, self._labels, self._fps = Path(path), labels, fps
        if self._path.suffix.lower() != ".mp4" or self._path.is_dir():
            raise UsageError(f"--save {path}: wanted an .mp4 file.")
        make_folder(self._path.parent)
        self._images: queue.Queue[tuple[Image, float] | None] = queue.Queue(ROOM)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, frame: Frame, edges_HW: Image, scores_K: NDArray[np.float32]) -> None:
        """One more frame.

        Raises:
            CheckpointError: the file can't be written.
        """
        from videorwkv.inference.annotate import draw

        self._check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, daemon=True, name="videorwkv-film")
            self._thread.start()
        image_HWC = draw(frame.image_HWC, edges_HW, scores_K, self._labels, time=frame.time)
        self._images.put((image_HWC, frame.time))

    def close(self) -> None:
        """Finish the file; errors as `add`."""
        if self._thread is not None:
            self._images.put(None)
            self._thread.join()
            self._thread = None
        self._check()

    def _write(self) -> None:
        from videorwkv.inference.annotate import save_video

        images = self._taken()
        try:
            save_video(self._path, images, self._fps)
        except Exception as error:  # noqa: BLE001 - `add` and `close` raise it again
            self._error = error
        finally:
            for _ in images:  # or whoever adds would wait for ever
                pass

    def _taken(self) -> Iterator[Image]:
        shown: Image | None = None
        start = last = 0.0
        tick = 0
        while (one := self._images.get()) is not None:
            image_HWC, time = one
            if shown is None:
                start = time
            else:
                start += max(0.0, time - last - PAUSE)
                steps = max(1, round((time - start) * self._fps) - tick)
                yield from itertools.repeat(shown, steps)
                tick += steps
            shown, last = image_HWC, time
        if shown is not None:
            yield shown

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
