"""Accuracy and cost against the share of patches left out, under both masks: benchmarks/masking.sh.

    python -m benchmarks.masking --handwash DATA --folds runs/handwash/default --demo runs/demo/run

Each figure is kept in OUT as soon as it is known. V views, B clips, T frames.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.plots import Curve, save_curves
from benchmarks.timing import Case, interleaved, machine, markdown_table
from videorwkv.cli.demo import DATA as MOTION
from videorwkv.data import load_manifest, make_loader
from videorwkv.data.dataset import make_dataset
from videorwkv.data.folds import folds
from videorwkv.exporting.frames import generated
from videorwkv.inference.recogniser import load_run
from videorwkv.models import LCR, Inputs, create_model
from videorwkv.models.cost import cost
from videorwkv.models.masking import Masks
from videorwkv.run.run import Run
from videorwkv.utils.files import write_atomic

RATIOS = (0.25, 0.5, 0.75, 0.9)
SEEDS = 3
KINDS = ("tube", "motion")
BATCH = 16
FOLDS = r"HandWash_(\d+)_", "001+002,003+004,005+006,007+008"


class Part(NamedTuple):
    """Test clips of one run, and its model: frames [B, V, T, H, W, 3], edges [B, V, T, H, W]."""

    model: LCR
    inputs: Inputs
    labels_B: Tensor


def masks(kind: str, ratio: float) -> Masks:
    ratios: dict[str, float] = {f"{kind}_mask_ratio": ratio}
    return Masks(**ratios)


def part(run: Run, manifest: Any, cache: Path | None) -> Part:
    """All views of all clips, decoded once for all settings."""
    dataset = make_dataset(
        run.recipe.model,
        manifest.with_labels(run.labels),
        run.recipe.sampling,
        views=run.recipe.views,
        cache=cache,
    )
    batches = list(make_loader(dataset, batch_size=8, workers=0))
    bad = [clip.reason for batch in batches for clip in batch.bad]
    if bad:
        raise SystemExit(f"{len(bad)} clips can't be read; the first: {bad[0]}")
    inputs = [batch.inputs for batch in batches if batch.inputs is not None]
    frames, edges = (torch.cat(tensors) for tensors in zip(*inputs, strict=True))
    if frames.ndim == 5:
        frames, edges = frames[:, None], edges[:, None]
    labels_B = torch.cat([batch.labels for batch in batches])
    return Part(run.model().for_inference(), Inputs(frames, edges), labels_B)


def accuracy(parts: Sequence[Part], chosen: Masks, seed: int) -> dict[str, float]:
    """Top-1 and mean cross-entropy over the clips of all parts, as `videorwkv evaluate`; and the
    share of single views that are right, which is what a stream gets: a tube mask is another one
    in each view, so the mean over views sees more of the frame."""
    right, alone, loss, total = 0, 0.0, 0.0, 0
    for model, inputs, labels_B in parts:
        generator = torch.Generator().manual_seed(seed)
        views = inputs.frames_BTHWC.shape[1]
        step = max(1, BATCH // views)
        for at in range(0, len(labels_B), step):
            now = Inputs(*(x[at : at + step].flatten(0, 1) for x in inputs))
            with torch.inference_mode():
                logits = model.scan(now, chosen.start(model, now, generator))[0][:, -1]
            scores_BVK = logits.double().softmax(-1).unflatten(0, (-1, views))
            scores_BK = scores_BVK.mean(1)
            truth_B = labels_B[at : at + step]
            alone += float((scores_BVK.argmax(-1) == truth_B[:, None]).double().mean(1).sum())
            right += int((scores_BK.argmax(-1) == truth_B).sum())
            loss -= float(scores_BK.gather(1, truth_B[:, None]).clamp_min(1e-12).log().sum())
            total += len(truth_B)
    return {
        "right": right,
        "total": total,
        "top1": right / total,
        "one_view": alone / total,
        "loss": loss / total,
    }


def settings() -> Iterator[tuple[str, float, int]]:
    yield "full", 0.0, 0
    for ratio in RATIOS:
        yield "motion", ratio, 0
        for seed in range(SEEDS):
            yield "tube", ratio, seed


def chosen_masks(kind: str, ratio: float) -> Masks:
    return Masks() if kind == "full" else masks(kind, ratio)


def accuracies(parts: Any, out: Path) -> dict[str, dict[str, float]]:
    """All settings' figures; `parts` makes the clips if one is missing."""
    known: dict[str, dict[str, float]] = {}
    if out.exists():
        known = json.loads(out.read_text())
    clips = None
    for kind, ratio, seed in settings():
        name = f"{kind} {ratio} {seed}"
        if name not in known:
            clips = parts() if clips is None else clips
            known[name] = accuracy(clips, chosen_masks(kind, ratio), seed)
            write_atomic(out, (json.dumps(known, indent=1) + "\n").encode())
            print(out.stem, name, known[name], flush=True)
    return known


def stream(model: LCR, chosen: Masks) -> Case:
    """The next frame of one stream, round and round."""
    inputs = generated(model.config, streams=1, num_frames=12)
    state = [chosen.start(model, inputs, torch.Generator().manual_seed(0))]
    numbers = itertools.cycle(range(12))

    def frame() -> None:
        t = next(numbers)
        with torch.inference_mode():
            if state[0] is None:
                state[0] = model.init_state(1)
            _, state[0] = model.step(inputs.at(t, t + 1), state[0])

    return frame


def costs(models: dict[str, LCR], out: Path, seconds: float) -> dict[str, Any]:
    """MACs and milliseconds of a frame of each model under each mask."""
    known: dict[str, Any] = {}
    if out.exists():
        known = json.loads(out.read_text())
    for name, model in models.items():
        if name in known:
            continue
        ways = {"full 0.0": Masks()}
        ways |= {f"{kind} {ratio}": masks(kind, ratio) for ratio in RATIOS for kind in KINDS}
        ready = model.for_inference()
        times = interleaved({way: stream(ready, m) for way, m in ways.items()}, seconds=seconds)
        known[name] = {
            way: {
                "macs": cost(model.config, ways[way]).macs_per_frame,
                **asdict(time),
            }
            for way, time in times.items()
        }
        write_atomic(out, (json.dumps(known, indent=1) + "\n").encode())
        print(name, known[name], flush=True)
    return known


def curves(
    found: dict[str, dict[str, float]], spent: dict[str, Any], what: str = "top1"
) -> dict[str, Curve]:
    """Accuracy over the share of the MACs; the tube's spread over its draws."""
    full = found["full 0.0 0"][what]
    made = {}
    for kind in KINDS:
        x, middle, low, high = [1.0], [full], [full], [full]
        for ratio in RATIOS:
            values = [v[what] for key, v in found.items() if key.startswith(f"{kind} {ratio} ")]
            x.append(spent[f"{kind} {ratio}"]["macs"] / spent["full 0.0"]["macs"])
            middle.append(statistics.mean(values))
            low.append(min(values))
            high.append(max(values))
        made[f"{kind} mask"] = Curve(x, middle, low, high)
    return made


def markdown(found: dict[str, dict[str, dict[str, float]]], spent: dict[str, Any]) -> str:
    """The table: a row for each share; tube / motion where two figures stand."""
    shown = (("motion", "top1"), ("HandWash", "one_view"), ("HandWash", "top1"))
    rows = []
    for ratio in (0.0, *RATIOS):
        row = [f"{ratio:.0%}"]
        for name, figure in shown:
            means = []
            for kind in KINDS:
                start = f"{kind} {ratio} " if ratio else "full"
                values = [v[figure] for key, v in found[name].items() if key.startswith(start)]
                means.append(f"{statistics.mean(values):.3f}")
            row.append(" / ".join(means) if ratio else means[0])
        for name in spent:
            whole = spent[name]["full 0.0"]
            for what in ("macs", "cpu"):
                way = [spent[name][f"{k} {ratio}" if ratio else "full 0.0"][what] for k in KINDS]
                shares = [f"{value / whole[what]:.2f}" for value in way]
                row.append(shares[0] if what == "macs" else " / ".join(shares))
        rows.append(row)
    header = ["left out"]
    header += ["motion", "HandWash, one view", "HandWash, 8 views"]
    header += [f"{name}: {what}" for name in spent for what in ("MACs", "CPU time")]
    return markdown_table(header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("handwash", "folds", "demo"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/masking"))
    parser.add_argument("--seconds", type=float, default=40.0, help="of timing, each model (40)")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)

    def handwash() -> list[Part]:
        each = folds(load_manifest(str(options.handwash)), *FOLDS)
        runs = [load_run(options.folds / f"fold{k}") for k in range(len(each))]
        return [
            part(run, fold.split("test"), options.cache)
            for run, fold in zip(runs, each, strict=True)
        ]

    demo = load_run(options.demo)
    found = {
        "motion": accuracies(
            lambda: [part(demo, load_manifest(MOTION).split("test"), None)], out / "motion.json"
        ),
        "HandWash": accuracies(handwash, out / "handwash.json"),
    }
    models = {
        "motion's model": demo.model(),
        "lcr_nano": load_run(options.folds / "fold0").model(),
        "lcr_tiny": create_model("lcr_tiny").eval(),
    }
    spent = costs(models, out / "costs.json", options.seconds)
    panels = {
        "motion, one view": curves(found["motion"], spent["motion's model"]),
        "HandWash, one view": curves(found["HandWash"], spent["lcr_nano"], "one_view"),
        "HandWash, mean of 8 views": curves(found["HandWash"], spent["lcr_nano"]),
    }
    save_curves(
        out / "masking.png",
        panels,
        x_label="multiply-accumulates of a frame, of the full one's",
        y_label="top-1",
    )
    text = markdown(found, spent)
    write_atomic(out / "masking.md", (text + "\n").encode())
    values = {"accuracy": found, "cost": spent, "machine": machine()}
    write_atomic(out / "masking.json", (json.dumps(values, indent=1) + "\n").encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
