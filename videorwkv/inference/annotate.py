"""Annotated videos: frame, edge map, and the labels and scores so far, of a clip or of a stream.

T frames of the clip that the model saw, K classes, H height, W width.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.preprocess.inputs import FrameFit
from videorwkv.utils.files import make_folder
from videorwkv.video.base import Frame, Video
from videorwkv.video.writer import write_video

if TYPE_CHECKING:
    from videorwkv.inference.exported import ExportedModel
    from videorwkv.models.lcr import LCR

Image = NDArray[np.uint8]

HEIGHT = 240
BARS = 3
# Frames of a stream that may wait for the encoder.
WAITING = 8
# Seconds. A longer pause of a stream is shown as this: hours of one picture help nobody.
PAUSE = 10.0
# Seconds of a stream's film that a killed program may lose.
FRAGMENT = 2.0
_INK, _BAR, _TROUGH, _PAPER = (35, 35, 35), (31, 119, 180), (225, 228, 232), (255, 255, 255)
_FAINT, _FAINT_BAR = (150, 150, 150), (190, 205, 220)


def write_annotated(
    path: str | Path,
    video: Video,
    model: LCR | ExportedModel,
    times_T: NDArray[np.float64],
    running_TK: NDArray[np.float32],
    labels: Sequence[str],
) -> None:
    """Write the whole video as .mp4 or .gif: frame | edge map | best classes so far.

    The scores change at the frames that the model saw and stay until the next of them. Where it did
    not look, before the first of them and after the last, they are pale, and that is said. Frames
    are left out above 12.5 a second in a .gif, above 60 in a .mp4; the duration stays the same.

    Args:
        path: .mp4 or .gif.
        video: the video to draw on.
        model: gives the edge maps as it saw them.
        times_T: seconds of the frames that the model saw.
        running_TK: probabilities after each of them.
        labels: K class names.

    Raises:
        CheckpointError: the file can't be written.
    """
    times = video.times()
    rate = (len(times) - 1) / max(times[-1], 1e-3) if len(times) > 1 else 1.0
    most = 12.5 if Path(path).suffix.lower() == ".gif" else 60.0
    # A rate is that of rounded times: a hundredth above the limit is none.
    every = max(1, math.ceil(rate / most - 0.01))

    # What a frame says holds until the next one that is looked at.
    step = float(np.median(np.diff(times_T))) if len(times_T) > 1 else 0.0
    reach = 0.9 * max(step, 1 / rate)
    first, last = times_T[0] - reach, times_T[-1] + reach

    def frames() -> Iterator[Image]:
        for number, frame in enumerate(video):
            if number % every:
                continue
            # Half a millisecond of slack against times that differ in the last digit.
            seen = int(np.searchsorted(times_T, frame.time + 5e-4, side="right")) - 1
            scores_K = running_TK[seen] if seen >= 0 else None
            edges_HW = model.preprocess(frame).edges_BTHW[0, 0].numpy()
            fit = model.config.frame_fit
            yield draw(
                frame.image_HWC,
                edges_HW,
                scores_K,
                labels,
                time=frame.time,
                frame_fit=fit,
                looked=first < frame.time < last,
            )

    save_video(path, frames(), rate / every)


class AnnotatedVideoWriter:
    """Writes the annotated frames of a stream as they come; a context manager.

    The file appears, whole, with `close()`, and not at all without a frame; until then it is called
    NAME.part.mp4 and can be played as far as it has come, also after a power cut. It plays as fast
    as its source: a frame is shown until the time of the next one. Where pictures change their
    size, later ones are fitted into the room of the first.

    Args:
        path: an .mp4 file; missing folders are made.
        labels: K class names.
        fps: frames a second of the file.
        frame_fit: how the model that makes the edges fits a frame.

    Raises:
        UsageError: another suffix: a .gif would have to stay in memory until its end; or its folder
            can't be made.
    """

    def __init__(
        self,
        path: str | Path,
        labels: Sequence[str],
        fps: float,
        *,
        frame_fit: FrameFit = "crop",
    ) -> None:
        self.path, self._labels, self._fps = Path(path), labels, fps
        self._fit = frame_fit
        if self.path.suffix.lower() != ".mp4" or self.path.is_dir():
            raise UsageError(f"--save {path}: wanted an .mp4 file.")
        make_folder(self.path.parent)
        self._images: queue.Queue[tuple[Image, float] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> AnnotatedVideoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, frame: Frame, edges_HW: Image, scores_K: NDArray[np.float32]) -> None:
        """One more frame.

        Raises:
            CheckpointError: the file can't be written.
        """
        self._check()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._write, daemon=True, name="videorwkv-annotate"
            )
            self._thread.start()
        image_HWC = draw(
            frame.image_HWC,
            edges_HW,
            scores_K,
            self._labels,
            time=frame.time,
            frame_fit=self._fit,
        )
        self._images.put((image_HWC, frame.time))

    def close(self) -> None:
        """Finish the file; errors as `add`."""
        if self._thread is not None:
            self._images.put(None)
            self._thread.join()
            self._thread = None
        self._check()

    def _write(self) -> None:
        images = self._taken()
        try:
            save_video(self.path, images, self._fps, fragment=FRAGMENT)
        except Exception as error:  # noqa: BLE001 - `add` and `close` raise it again
            self._error = error
        finally:
            for _ in images:  # or whoever adds would wait forever
                pass

    def _taken(self) -> Iterator[Image]:
        shown: Image | None = None
        start = last = 0.0
        tick = 0
        while (one := self._images.get()) is not None:
            image_HWC, time = one
            image_HWC = image_HWC if shown is None else _fitted(image_HWC, shown.shape[1])
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


def _fitted(image_HWC: Image, width: int) -> Image:
    """An annotated frame, [HEIGHT, W, 3], as large as fits into another width."""
    own = image_HWC.shape[1]
    if own > width:
        height = max(1, round(HEIGHT * width / own))
        image_HWC = cv2.resize(image_HWC, (width, height), interpolation=cv2.INTER_AREA)
    below, right = HEIGHT - image_HWC.shape[0], width - image_HWC.shape[1]
    return np.pad(image_HWC, ((0, below), (0, right), (0, 0)), constant_values=255)


def save_video(
    path: str | Path, images: Iterable[Image], fps: float, *, fragment: float | None = None
) -> None:
    """`write_video`, with an error that names the file.

    Raises:
        CheckpointError: the disk is full, or the folder can't be written.
    """
    try:
        write_video(path, images, fps, fragment=fragment)
    except (OSError, av.FFmpegError) as error:
        raise CheckpointError(
            f"Can't write {path}: {error.strerror or error}. Make room, or choose another place "
            "with --save."
        ) from error


def draw(
    image_HWC: Image,
    edges_HW: Image,
    scores_K: NDArray[np.float32] | None,
    labels: Sequence[str],
    *,
    time: float,
    frame_fit: FrameFit = "crop",
    looked: bool = True,
) -> Image:
    """One annotated frame, [HEIGHT, W, 3]; scores of None are drawn as not yet known.

    Where the model has not `looked`, the scores are those of another time, and pale.
    Edges of a stretched frame get its proportions back, so that both panels look alike.
    """
    seen = image_HWC if frame_fit == "stretch" else edges_HW
    edges_HWC = np.repeat(edges_HW[..., None], 3, axis=2)
    panels = [
        _scaled(image_HWC, cv2.INTER_AREA, image_HWC.shape),
        _scaled(edges_HWC, cv2.INTER_NEAREST, seen.shape),
        _scores(scores_K, labels, time=time, looked=looked),
    ]
    return np.concatenate(panels, axis=1)


def _scaled(image_HWC: Image, how: int, shape: tuple[int, ...]) -> Image:
    """[H, W, 3] as a panel with the proportions of `shape`, (height, width, ...)."""
    height, width = shape[:2]
    # A panorama must not push the labels out of sight.
    target = min(round(width * HEIGHT / height), 2 * HEIGHT)
    return cv2.resize(image_HWC, (max(2, target // 2 * 2), HEIGHT), interpolation=how)


def _scores(
    scores_K: NDArray[np.float32] | None, labels: Sequence[str], *, time: float, looked: bool
) -> Image:
    width = 260
    panel_HWC = np.full((HEIGHT, width, 3), _PAPER, np.uint8)
    _text(panel_HWC, f"{time:6.2f} s", 12, 24)
    if not looked:
        _text(panel_HWC, "model: not looking", 96, 24, _FAINT)
    ink, bar = (_INK, _BAR) if looked else (_FAINT, _FAINT_BAR)
    if scores_K is None:
        return panel_HWC
    for rank, k in enumerate(np.argsort(-scores_K, kind="stable")[:BARS]):
        top = 48 + 62 * rank
        _text(panel_HWC, labels[k], 12, top + 14, ink)
        full = width - 24 - 48
        cv2.rectangle(panel_HWC, (12, top + 24), (12 + full, top + 38), _TROUGH, cv2.FILLED)
        filled = round(float(scores_K[k]) * full)
        if filled:
            cv2.rectangle(panel_HWC, (12, top + 24), (12 + filled, top + 38), bar, cv2.FILLED)
        _text(panel_HWC, f"{scores_K[k]:.2f}", 20 + full, top + 37, ink)
    return panel_HWC


def _text(panel_HWC: Image, text: str, x: int, y: int, ink: tuple[int, int, int] = _INK) -> None:
    # OpenCV's font has ASCII only: accents are dropped, other scripts become question marks.
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = plain.encode("ascii", "replace").decode()
    plain = plain if len(plain) <= 26 else plain[:24] + ".."
    cv2.putText(panel_HWC, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)
