"""The demo's report: one HTML page that needs nothing beside it.

T frames, K classes, H height, W width, N clips.
"""

from __future__ import annotations

import base64
import html
import math
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest
    from videorwkv.inference.metrics import Evaluation
    from videorwkv.inference.predict import Prediction
    from videorwkv.inference.recogniser import Recogniser
    from videorwkv.run.run import Run

Image = NDArray[np.uint8]

# Pixels of a scene in the film, of the strip below it, and between tiles.
SIDE, STRIP, GAP = 240, 74, 12
COLUMNS = 4
# Frames that the last answers stay on screen.
HOLD = 12
_RIGHT, _WRONG, _NOT_YET = (47, 143, 87), (196, 72, 40), (214, 219, 226)
_INK, _PAPER = (35, 39, 47), (255, 255, 255)


class Scene(NamedTuple):
    """A clip of the film.

    Args:
        truth: its class.
        frames_THWC: RGB.
        answer_T: index of the best class after each frame; -1 before the model has seen any.
        score_T: its probability.
        fps: frames a second.
    """

    truth: str
    frames_THWC: Image
    answer_T: NDArray[np.int64]
    score_T: NDArray[np.float32]
    fps: float


def scenes(recogniser: Recogniser, test: Manifest) -> list[Scene]:
    """The first clip of each class, with what the model says after each of its frames."""
    import torch

    chosen: dict[str, Scene] = {}
    with recogniser.evaluating():
        for row in test.rows:
            if row.label is None or row.label in chosen:
                continue
            with test.open(row) as video:
                whole = video.read_all()
                seen = video.read(recogniser.sampling.indices(whole.times).tolist())
                inputs = recogniser.network.preprocess(seen)
                logits_BTK = recogniser.scan(inputs, video.name, torch.Generator().manual_seed(0))
            scores_TK = logits_BTK[0].float().softmax(-1).cpu().numpy()
            # What a frame says holds until the model looks again.
            at = np.searchsorted(seen.times, whole.times + 5e-4, side="right") - 1
            answer_T = np.where(at < 0, -1, scores_TK.argmax(-1)[at])
            fps = (len(whole) - 1) / whole.times[-1] if len(whole) > 1 else 8.0
            chosen[row.label] = Scene(
                row.label, whole.frames_THWC, answer_T, scores_TK.max(-1)[at], float(fps)
            )
    return [chosen[label] for label in sorted(chosen)]


def film(clips: Sequence[Scene], labels: Sequence[str]) -> Iterator[Image]:
    """The clips side by side, frame by frame: the scene, its class, the answer, the answers so far
    on a line of time."""
    longest = max(len(clip.frames_THWC) for clip in clips)
    columns = min(COLUMNS, len(clips))
    rows = math.ceil(len(clips) / columns)
    height, width = (n * size + (n + 1) * GAP
                     for n, size in ((rows, SIDE + STRIP), (columns, SIDE)))  # fmt: skip
    for t in range(longest + HOLD):
        sheet_HWC = np.full((height + height % 2, width + width % 2, 3), _PAPER, np.uint8)
        for number, clip in enumerate(clips):
            row, column = divmod(number, columns)
            top, left = GAP + row * (SIDE + STRIP + GAP), GAP + column * (SIDE + GAP)
            tile_HWC = _tile(clip, labels, min(t, len(clip.frames_THWC) - 1))
            sheet_HWC[top : top + SIDE + STRIP, left : left + SIDE] = tile_HWC
        yield sheet_HWC


def _tile(clip: Scene, labels: Sequence[str], t: int) -> Image:
    tile_HWC = np.full((SIDE + STRIP, SIDE, 3), _PAPER, np.uint8)
    tile_HWC[:SIDE] = cv2.resize(clip.frames_THWC[t], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    _text(tile_HWC, f"true: {clip.truth}", SIDE + 20, _INK)
    k = int(clip.answer_T[t])
    if k >= 0:
        colour = _RIGHT if labels[k] == clip.truth else _WRONG
        _text(tile_HWC, f"model: {labels[k]} {clip.score_T[t]:.2f}", SIDE + 44, colour)
    # The line of time: a cell for each frame, in the colour of its answer.
    edges = np.linspace(0, SIDE, len(clip.answer_T) + 1).round().astype(int)
    for frame, (begin, end) in enumerate(pairwise(edges.tolist())):
        answer = int(clip.answer_T[frame])
        colour = _NOT_YET
        if frame <= t and answer >= 0:
            colour = _RIGHT if labels[answer] == clip.truth else _WRONG
        tile_HWC[SIDE + 56 : SIDE + 68, begin : max(begin + 1, end - 1)] = colour
    return tile_HWC


def _text(tile_HWC: Image, text: str, y: int, colour: tuple[int, int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()[:26]
    cv2.putText(tile_HWC, plain, (1, y), cv2.FONT_HERSHEY_DUPLEX, 0.52, colour, 1, cv2.LINE_AA)


def least_loss(num_classes: int, smoothing: float) -> float:
    """The lowest cross-entropy, in nats, that label smoothing allows (Szegedy et al., 2016)."""
    if not smoothing or num_classes < 2:
        return 0.0
    rest = smoothing / num_classes
    true = 1 - smoothing + rest
    return -(true * math.log(true) + (num_classes - 1) * rest * math.log(rest))


def page(
    folder: Path,
    *,
    run: Run,
    evaluation: Evaluation,
    steps: int,
    minutes: float,
    own: Prediction | None,
) -> str:
    """The report as HTML; its pictures and films, which lie in `folder`, become part of it."""
    recipe, labels = run.recipe, run.labels
    floor = least_loss(len(labels), recipe.label_smoothing)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{value:.1%}</td></tr>"
        for name, value in evaluation.per_class.items()
    )
    smoothing = (
        f"Label smoothing of {recipe.label_smoothing:g} asks for "
        f"{1 - recipe.label_smoothing * (1 - 1 / len(labels)):.1%} of certainty and no more, so "
        f"the training loss can't fall below <b>{floor:.2f}</b> (dotted) even when every clip is "
        "named right. The validation loss is measured without smoothing. "
        if floor
        else ""
    )
    # The demo's own recipe reaches 99 %.
    short = "" if evaluation.top1 > 0.9 else "; more <code>--steps</code> raise it"
    again = shlex.join(["videorwkv", "predict", str(run.folder), "CLIP.mp4"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>videorwkv: demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #23272f; background: #f4f6f8; margin: 0 }}
main {{ max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px }}
section {{ background: #fff; border-radius: 10px; padding: 20px 24px; margin: 16px 0 }}
h1 {{ font-size: 28px; margin: 8px 0 }} h2 {{ font-size: 20px; margin: 0 0 8px }}
.big {{ font-size: 44px; font-weight: 700; color: #2f8f57; line-height: 1.1 }}
.facts {{ display: flex; gap: 40px; flex-wrap: wrap; align-items: end }}
video, img {{ max-width: 100%; height: auto; display: block; margin: 8px 0 }}
table {{ border-collapse: collapse }} td {{ padding: 2px 24px 2px 0 }}
code {{ background: #eef1f4; padding: 1px 5px; border-radius: 4px }}
.right {{ color: #2f8f57; font-weight: 600 }} .wrong {{ color: #c44828; font-weight: 600 }}
.pair {{ display: flex; gap: 32px; flex-wrap: wrap; align-items: flex-start }}
</style></head><body><main>
<h1>A model that tells {len(labels)} movements apart, trained on this machine</h1>
<section class="facts">
<div><div class="big">{evaluation.top1:.1%}</div>of {evaluation.n_total} clips that it never saw are
named right<br>(guessing: {1 / len(labels):.1%}){short}</div>
<div><div class="big">{minutes:.1f} min</div>of training:<br>{steps} steps of {recipe.batch_size}
clips</div>
<div><div class="big">{_count(run)}</div>parameters: {recipe.model.depth} layers,
width {recipe.model.width}</div>
</section>
<section>
<h2>One unseen clip of each class</h2>
<p>The scenes are generated: textures, places, speeds and light are drawn at random, and only the
movement tells the classes apart. The strip under each scene is its line of time:
<span class="right">green</span> while the model's answer is right, <span class="wrong">red</span>
while it is wrong. The model answers after every frame that it sees, so first answers are
guesses.</p>
{_video(folder / "film.mp4")}
</section>
<section>
<h2>What the model reads</h2>
<p>One of these clips as the model gets it: the frame, its edge map, and its probabilities as they
grow.</p>
{_image(folder / "prediction.gif", "frame, edge map and scores")}
</section>
<section>
<h2>How it learnt</h2>
{_image(folder / "learning_curve.png", "loss and accuracy over the steps of training")}
<p>{smoothing}Training clips are flipped at random (and their labels with them), and each point is
a few batches, so the blue curve is rougher than the orange one.</p>
</section>
<section>
<h2>Where it errs</h2>
<div class="pair"><div>{_image(folder / "confusion.png", "confusion matrix")}</div>
<table>{rows}</table></div>
</section>
{_own(folder, own, len(labels))}<section>
<h2>Go on</h2>
<p>Your own classes, one folder of clips for each: <code>videorwkv train FOLDER --out
runs/mine</code>. This model on a file: <code>{html.escape(again)}</code>. Every number of this
page: <code>evaluation.json</code>, <code>predictions.csv</code> and <code>confusion.csv</code>
beside it. On generated scenes a small model does well; how well on your clips, only they can
tell.</p>
</section>
</main></body></html>
"""


def _own(folder: Path, own: Prediction | None, num_classes: int) -> str:
    if own is None:
        return ""
    said = html.escape(words(own))
    film = "" if own.error or own.save_error else _video(folder / "your_video.mp4")
    return (
        f"<section><h2>Your video</h2>\n<p><code>{html.escape(own.path)}</code>: {said}. The model "
        f"knows the {num_classes} generated movements alone, whatever your video shows.</p>\n{film}"
        "</section>\n"
    )


def words(prediction: Prediction) -> str:
    """The three best classes with their scores, or why there are none."""
    if prediction.error:
        return f"not readable ({prediction.error})"
    pairs = zip(prediction.labels[:3], prediction.scores[:3], strict=True)
    return ", ".join(f"{label} {score:.2f}" for label, score in pairs)


def _count(run: Run) -> str:
    from videorwkv.models.cost import cost

    parameters = cost(run.recipe.model).parameters
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _image(path: Path, text: str) -> str:
    kind = path.suffix[1:]
    return f'<img alt="{text}" src="data:image/{kind};base64,{_data(path)}">'


def _video(path: Path) -> str:
    source = f"data:video/mp4;base64,{_data(path)}"
    return f'<video autoplay loop muted playsinline controls src="{source}"></video>'
