"""LCR beside its peers on one frozen stem: accuracy over folds and seeds, milliseconds, parameters.

    export PYTHONPATH=.
    python experiments/pareto.py DATA [--elsewhere DATA2] [--seeds 0 1 2] [--variants lcr gru]

Hand-washing, 4 folds by session, `lcr_lite` (EfficientNet-Lite0 of ImageNet, frozen; needs
`videorwkv[pretrained]`), the recipe that `train` chooses. All variants learn from the same batches
in one process, so that the stem's features, most of the work, are computed once; each has its own
weights, optimiser and average, and nothing else but what stands in its line differs. `--elsewhere`
are the same clips in another place (another_place.py), tested on and never learnt from. One thread,
about ten minutes a fold. What is done is not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peers import GRULayer, ShiftLayer
from torch import Tensor, nn

import videorwkv.models.lcr
from benchmarks.frame import make_inputs, stream
from benchmarks.timing import Case, interleaved, machine
from videorwkv.data import Manifest, load_manifest
from videorwkv.data.folds import folds
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.plots import COLOURS, figure, save
from videorwkv.models import LCR, build_model, model_config
from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.pretrained_stem import PretrainedStem, load_stem_weights
from videorwkv.run.choose import choose
from videorwkv.run.recipes import Recipe
from videorwkv.training.learner import Learner
from videorwkv.training.optim import learning_rate
from videorwkv.training.setup import for_data, training_loader
from videorwkv.utils.interval import interval

HERE = Path(__file__).parent
FRAMES = 16  # of a clip that is timed
SESSIONS = r"HandWash_(\d+)_", "001+002,003+004,005+006,007+008"
CPU = torch.device("cpu")
FORGETS = {"memory_clock": "frames"}


class Variant(NamedTuple):
    """Whose layers, with which options of the configuration."""

    words: str
    options: dict[str, Any] = {}  # noqa: RUF012  never changed
    layer: type[nn.Module] = CrossRWKVLayer


VARIANTS = {
    "lcr": Variant("LCR, as chosen"),
    "below": Variant("LCR, queries ask the layer below", {"past": "below"}),
    "edges": Variant("LCR with edges", {"edges": "canny", "key_value_source": "edges+frame"}),
    "softmax": Variant("LCR, softmax attention for the scan", {"mixer": "softmax"}),
    "rglru": Variant("RG-LRU for the cell", {"cell": "rglru", **FORGETS}),
    "no-memory": Variant(
        "no memory: mean of logits", {"cell": "none", "readout": "mean", **FORGETS}
    ),
    "gru": Variant("GRU for each token", FORGETS, GRULayer),
    "tsm": Variant("temporal shift (TSM, on-line)", FORGETS, ShiftLayer),
}


def build(name: str, recipe: Recipe) -> LCR:
    """A variant with random weights, but for the stem's network."""
    variant = VARIANTS[name]
    setattr(videorwkv.models.lcr, "CrossRWKVLayer", variant.layer)  # noqa: B010
    torch.manual_seed(recipe.seed)
    model = build_model(replace(recipe.model, **variant.options))
    load_stem_weights(model)
    return model


@contextmanager
def shared_stem() -> Iterator[dict[Any, Tensor]]:
    """The features of frames that one of the models has seen are remembered for the others."""
    known: dict[Any, Tensor] = {}
    own = PretrainedStem.features

    def features(stem: PretrainedStem, frames_FHWC: Tensor) -> Tensor:
        key = frames_FHWC.shape, hash(frames_FHWC.contiguous().numpy().tobytes())
        if key not in known:
            known[key] = own(stem, frames_FHWC)
        return known[key]

    PretrainedStem.features = features  # type: ignore
    try:
        yield known
    finally:
        PretrainedStem.features = own  # type: ignore[method-assign]


class Fold(NamedTuple):
    """What one fold and seed gave: for each variant whether each test clip was named right."""

    here: dict[str, list[bool]]
    elsewhere: dict[str, list[bool]]


def train_fold(
    names: Sequence[str], manifest: Manifest, others: Manifest | None, seed: int, cache: Path
) -> Fold:
    """These variants on one fold, side by side."""
    chosen = choose(manifest, "lcr_lite").recipe
    # Edge maps come with the batches if one of the variants reads them.
    plain = for_data(replace(chosen, seed=seed, workers=1), manifest)
    recipe = plain
    if "edges" in names:
        recipe = replace(plain, model=replace(plain.model, **VARIANTS["edges"].options))
    learners = {}
    for name in names:
        model = build(name, plain)
        learners[name] = Learner(model, replace(plain, model=model.config), CPU)
    assert recipe.steps is not None
    loader = training_loader(recipe, manifest, cache, CPU, {})
    batches, start = iter(loader.at(0, 0)), time.monotonic()
    with shared_stem() as known:
        for step in range(recipe.steps):
            batch = next(batches)
            known.clear()
            lr = learning_rate(
                step, total_steps=recipe.steps, peak=recipe.lr, warmup=recipe.warmup,
                min_lr=recipe.min_lr,
            )  # fmt: skip
            for learner in learners.values():
                learner.step([batch], [[len(batch.indices)]], step, lr)
            if step % 50 == 0:
                print(f"  step {step}, {time.monotonic() - start:.0f} s", flush=True)
        loader.close()
        found = []
        for test in (manifest, others):
            known.clear()
            hits: dict[str, list[bool]] = {}
            for name, learner in learners.items() if test else ():
                assert test is not None
                # The batches of every variant are alike, and with them their frames.
                scored = evaluate(
                    learner.best_model, test.split("test"), recipe.sampling,
                    labels=manifest.labels, views=recipe.views, batch_size=recipe.batch_size,
                    device="cpu", cache=cache,
                )  # fmt: skip
                hits[name] = [
                    x.scores_K is not None and scored.labels[x.scores_K.argmax()] == x.label
                    for x in scored.clips
                ]
            found.append(hits)
    return Fold(*found)


def clip(model: LCR) -> Case:
    """A clip of `FRAMES` frames."""
    inputs = make_inputs(model, 1, FRAMES)

    def whole() -> None:
        with torch.inference_mode():
            model(inputs)

    return whole


def measured(names: Sequence[str], seconds: float) -> dict[str, dict[str, float]]:
    """CPU milliseconds of a new frame and of a clip, in turns, each model as it is trained; and
    millions of parameters beside the stem's network."""
    recipe = Recipe(model=model_config("lcr_lite"), steps=1)
    models = {name: build(name, recipe).eval() for name in names}
    frames = interleaved({name: stream(models[name], 1) for name in names}, seconds=seconds)
    clips = interleaved({name: clip(models[name]) for name in names}, seconds=seconds)
    return {
        name: {
            "frame_ms": frames[name].cpu_min,
            "clip_ms": clips[name].cpu_min,
            "parameters": sum(x.numel() for x in model.parameters() if x.requires_grad) / 1e6,
        }
        for name, model in models.items()
    }


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Accuracy, with its interval, against the time of a frame."""
    made = figure(8, 4.2)
    axes = made.subplots()
    for number, row in enumerate(rows):
        low, high = row["interval"]
        axes.errorbar(
            row["frame_ms"],
            row["accuracy"],
            yerr=[[row["accuracy"] - low], [high - row["accuracy"]]],
            fmt="osD^v<>p"[number % 8],
            color=COLOURS[number % len(COLOURS)],
            capsize=3,
            label=row["words"],
        )
    axes.set(xlabel="CPU milliseconds a frame, one thread", ylabel="accuracy, 95 % interval")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(made, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="the folder of hand-washing clips (docs/results.md)")
    parser.add_argument("--elsewhere", help="the same clips as another_place.py changes them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, nargs="+", choices=range(4), default=range(4))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/pareto"))
    parser.add_argument("--seconds", type=float, default=30, help="of each timing (30)")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    places = []
    for place in (options.data, options.elsewhere):
        made = place and load_manifest(place, flips=HERE / "handwash_flips.csv")
        places.append(folds(made, *SESSIONS) if made else None)
    here, elsewhere = places
    assert here is not None
    results: dict[int, list[Fold]] = {}
    for seed in options.seeds:
        for number in options.folds:
            manifest = here[number]
            kept = options.out / f"seed{seed}-fold{number}.json"
            fold = Fold({}, {})
            if kept.is_file():
                fold = Fold(**json.loads(kept.read_text(encoding="utf-8")))
            if missing := [name for name in options.variants if name not in fold.here]:
                others = elsewhere[number] if elsewhere else None
                new = train_fold(missing, manifest, others, seed, options.out / "cache")
                fold = Fold(fold.here | new.here, fold.elsewhere | new.elsewhere)
                kept.write_text(json.dumps(fold._asdict()), encoding="utf-8")
            results.setdefault(seed, []).append(fold)
            told = (f"{name} {sum(hits)}/{len(hits)}" for name, hits in fold.here.items())
            print(f"seed {seed}, fold {number}: {', '.join(told)}", flush=True)
    times = measured(options.variants, options.seconds)
    rows = []
    for name in options.variants:
        row: dict[str, Any] = {"name": name, "words": VARIANTS[name].words, **times[name]}
        for place in Fold._fields:
            hits = [
                [hit for fold in of_seed for hit in getattr(fold, place).get(name, ())]
                for of_seed in results.values()
            ]
            row[f"{place}_seeds"] = [f"{sum(x)}/{len(x)}" for x in hits]
            # None: that place was not asked for when the variant was trained.
            row[f"{place}_mean"] = (
                statistics.mean(map(statistics.mean, hits)) if all(hits) else None
            )
        # Seeds answer the same clips: their mean has the interval of one set of clips.
        total = len([hit for fold in results[options.seeds[0]] for hit in fold.here[name]])
        row["accuracy"] = row["here_mean"]
        row["interval"] = interval(round(row["accuracy"] * total), total)
        rows.append(row)
    (options.out / "pareto.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.picture:
        draw(options.picture, rows)
    print("\n".join(f"{key:22} {value}" for key, value in machine().items()))
    print("\n| | accuracy (95 %) | of each seed | elsewhere | ms a frame | ms a clip | learnt, M |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["interval"]
        other = row["elsewhere_mean"]
        print(
            f"| {row['words']} | {row['accuracy']:.3f} ({low:.2f} to {high:.2f}) | "
            f"{' '.join(row['here_seeds'])} | {'not asked' if other is None else f'{other:.3f}'} | "
            f"{row['frame_ms']:.2f} | {row['clip_ms']:.1f} | {row['parameters']:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
