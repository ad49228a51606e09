"""Segments that a run finds, beside those of a sliding window of the same model, and their cost.

    python experiments/timeline.py RUN DATA [--picture FILE.png] [--hour]

The picture in docs/timeline.md is of the first film of the test split, whatever it shows.
Scores the test split of DATA. `--picture` draws its first film with what is true and what was
found; `--hour` writes a generated film of an hour and shows that memory does not grow.
timeline.sh trains such a run and calls this; joined.py makes DATA of clips.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from videorwkv.data import load_manifest
from videorwkv.data.motion.clips import FPS
from videorwkv.data.motion.film import FilmVideo
from videorwkv.inference.pacing import paced
from videorwkv.inference.plots import COLOURS, figure, save
from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.stream import StreamOptions
from videorwkv.inference.timeline.evaluate import evaluate_timeline
from videorwkv.inference.timeline.find import FrameScores, frame_scores
from videorwkv.inference.timeline.results import TimelineEvaluation
from videorwkv.inference.timeline.segments import TimelineOptions
from videorwkv.preprocess.inputs import Inputs
from videorwkv.video import Video, open_video
from videorwkv.video.writer import write_video

HOUR = 3600


def sliding(recogniser: Recogniser, video: Video, options: StreamOptions) -> Iterator[FrameScores]:
    """After each frame, the model's answer to the last `num_frames` frames, from a fresh state: how
    a model of clips is used on a stream."""
    length = recogniser.sampling.num_frames
    recent: deque[Inputs] = deque(maxlen=length)
    for due in paced(video, options.rate(recogniser.sampling), options.gap):
        recent.append(recogniser.network.preprocess(due.frame))
        window = Inputs(*(torch.cat(parts, 1) for parts in zip(*recent, strict=True)))
        logits_BTK, _ = recogniser.advance(window, recogniser.init_state(), video.name)
        yield FrameScores(due.frame.time, logits_BTK[0, -1].softmax(-1).numpy(), False)


def draw(path: Path, film: Video, found: dict[str, TimelineEvaluation], seconds: float) -> None:
    """The first `seconds` of a film, with what is true and what was found."""
    made = figure(11, 2.6)
    strip, axes = made.subplots(2, 1, height_ratios=(1, 1.4), sharex=True)
    count = 12  # about as wide as they are high
    starts = [n * seconds / count for n in range(count)]
    shown = film.read([int(sum(film.times() <= start)) - 1 for start in starts])
    for start, image_HWC in zip(starts, shown.frames_THWC, strict=True):
        strip.imshow(image_HWC, extent=(start, start + seconds / count, 0, 1), aspect="auto")
    strip.set_axis_off()
    rows = {"true": next(iter(found.values())).videos[0].truth}
    rows |= {name: one.videos[0].found for name, one in found.items()}
    labels = sorted({s.label for segments in rows.values() for s in segments})
    colours = (*COLOURS, "#b5507a", "#9aa53a")
    for place, segments in enumerate(rows.values()):
        for s in segments:
            if s.start >= seconds:
                continue
            end = min(s.end, seconds)
            colour = colours[labels.index(s.label) % len(colours)]
            axes.barh(-place, end - s.start, left=s.start, height=0.8, color=colour)
            if end - s.start > 0.008 * seconds * len(s.label):  # else the name does not fit
                middle = (s.start + end) / 2
                axes.text(middle, -place, s.label, ha="center", va="center", color="white", size=7)
    axes.set_yticks([-k for k in range(len(rows))], list(rows))
    axes.set_xlim(0, seconds)
    strip.set_xlim(0, seconds)
    axes.set_xlabel("seconds")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    made.get_layout_engine().set(hspace=0.0, h_pad=0.02)
    save(made, path)


def watch_an_hour(recogniser: Recogniser, folder: Path) -> None:
    """How much memory a film of an hour takes, ten minutes by ten minutes."""
    path = folder / "hour.mp4"
    if not path.exists():
        film = FilmVideo("hour", seed=2, split="test", index=0, size=64, frames=round(HOUR * FPS))
        write_video(path, (frame.image_HWC for frame in film), FPS)
    began, due = time.perf_counter(), 60.0
    with open_video(path) as video, recogniser.evaluating():
        for one in frame_scores(recogniser, video, StreamOptions()):
            if one.time >= due:
                megabytes = _resident() / 1e6
                print(f"after {one.time / 60:.0f} minutes: {megabytes:.0f} MB", flush=True)
                due = 600.0 * (int(one.time / 600) + 1)
    print(f"an hour: {_resident() / 1e6:.0f} MB, {time.perf_counter() - began:.0f} s")


def _resident() -> int:
    """Bytes of memory in use now, on Linux; elsewhere the most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--hour", action="store_true")
    for name in ("lag", "threshold"):
        text = "default: what evaluate --timeline --choose-thresholds has chosen, if it has"
        parser.add_argument(f"--{name}", type=float, help=text)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recogniser = Recogniser.open(options.run, what="timeline", device="cpu", fastest=True)
    test = load_manifest(options.data).split("test")
    given = {name: getattr(options, name) for name in ("lag", "threshold")}
    rules = replace(
        recogniser.chosen_timeline() or TimelineOptions(),
        **{name: value for name, value in given.items() if value is not None},
    )
    found: dict[str, TimelineEvaluation] = {}
    for name, scorer in (("stream", frame_scores), ("sliding window", sliding)):
        began = time.process_time()
        found[name] = evaluate_timeline(recogniser, test, options=rules, scorer=scorer)
        seconds = time.process_time() - began
        print(f"{name}: {seconds / found[name].minutes:.2f} CPU seconds a minute of film")
        print(found[name].summary(), flush=True)
    values = {name: one.to_dict() for name, one in found.items()}
    folder = options.run if options.run.is_dir() else options.run.parent
    (folder / "timeline.json").write_text(json.dumps(values, indent=2) + "\n")
    if options.picture is not None:
        with test.open(test.rows[0]._replace(segment=None)) as video:
            draw(options.picture, video, found, 40.0)
    if options.hour:
        watch_an_hour(recogniser, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
