"""A model that is shared gives the same numbers in another environment.

    python scripts/round_trip.py write FOLDER    # trains a few steps, shares, exports, notes logits
    python scripts/round_trip.py read FOLDER     # in an environment that has the wheel alone

`read` loads what `write` left by the package's own class, by transformers' Auto class and pipeline
and from the exported file, and compares. Needs videorwkv[transformers,onnx] in both.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import videorwkv
from videorwkv.models import model_config
from videorwkv.run.recipes import motion_demo
from videorwkv.video.writer import write_video

DATA = "motion:train=40,validation=8,test=8,size=48,frames=8"
# Of logits of one file of weights: float32 and the same operations, on another processor perhaps;
# an exported file is compared by its scores, after other kernels.
SAME, EXPORTED = 1e-5, 1e-4


def inputs_of(model: Any, clip: Path) -> Any:
    sampling = model.origin.recipe.sampling
    with videorwkv.open_video(clip) as video:
        return model.preprocess(video.sample(sampling.num_frames, fps=sampling.fps))


def write(folder: Path) -> None:
    """A run, a shared folder, an exported file, a clip, and what the model says of it."""
    folder.mkdir(parents=True)
    data = videorwkv.load_manifest(DATA)
    small = model_config("lcr_nano", image_size=32, patch_size=8, depth=1)
    recipe = replace(
        motion_demo(), model=small, steps=6, batch_size=4, eval_every=6, workers=0, views=(1, 1)
    )
    videorwkv.train(recipe, data, folder / "run", quiet=True, log=())
    videorwkv.export(folder / "run", folder / "model.onnx", to="onnx")
    test = data.split("test")
    with test.open(test.rows[0]) as video:
        write_video(folder / "clip.mp4", video.read_all().frames_THWC, 8)
    model = videorwkv.LCR.from_pretrained(folder / "run")
    model.save_pretrained(folder / "shared", licence="apache-2.0")
    with torch.inference_mode():
        logits = model(inputs_of(model, folder / "clip.mp4"))
    best = videorwkv.predict(folder / "clip.mp4", model=folder / "run", top=8)[0]
    said = {"logits": logits.tolist(), "scores": dict(zip(best.labels, best.scores, strict=True))}
    (folder / "said.json").write_text(json.dumps(said))


def read(folder: Path) -> None:
    """Compare; the exit code is 1 where something differs."""
    import transformers

    import videorwkv.inference.transformers  # registers the model

    said = json.loads((folder / "said.json").read_text())
    wanted = torch.tensor(said["logits"])
    clip, shared = folder / "clip.mp4", str(folder / "shared")
    own = videorwkv.LCR.from_pretrained(shared)
    inputs = inputs_of(own, clip)
    auto = transformers.AutoModelForVideoClassification.from_pretrained(shared)
    pixels = inputs.frames_BTHWC.permute(0, 1, 4, 2, 3)
    with torch.inference_mode():
        found = {"own class": own(inputs), "Auto class": auto(pixels, inputs.edges_BTHW).logits}
    differs = {name: (logits - wanted).abs().max().item() for name, logits in found.items()}
    named = transformers.pipeline("video-classification", model=shared)(str(clip), top_k=8)
    scores = {"pipeline": {one["label"]: one["score"] for one in named}}
    for name, model in (("predict", shared), ("exported file", folder / "model.onnx")):
        best = videorwkv.predict(clip, model=model, top=8)[0]
        scores[name] = dict(zip(best.labels, best.scores, strict=True))
    for name, one in scores.items():
        assert one.keys() == said["scores"].keys(), (name, one)
        differs[name] = max(abs(one[label] - score) for label, score in said["scores"].items())
    print(f"videorwkv from {Path(videorwkv.__file__).parent}, torch {torch.__version__}")
    for name, worst in differs.items():
        print(f"{name:14} differs by {worst:.1e} at most")
    if any(d > (EXPORTED if name == "exported file" else SAME) for name, d in differs.items()):
        sys.exit("the numbers are not those that were written")


if __name__ == "__main__":
    if sys.argv[1:2] not in (["write"], ["read"]) or len(sys.argv) != 3:
        sys.exit(str(__doc__))
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
