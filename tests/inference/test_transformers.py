"""The model in transformers: the same numbers as `videorwkv.LCR`, and checkpoints that are runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_models
import torch
from torch.utils.data import Dataset

import videorwkv
from videorwkv.data import Manifest
from videorwkv.errors import ConfigError, UsageError
from videorwkv.inference.predict import predict
from videorwkv.models import LCR, Inputs
from videorwkv.run.run import read_run

transformers = pytest.importorskip(
    "transformers",
    minversion="5.23",
    reason="transformers 5.23 is absent: the extra `transformers`",
)
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the library are not ours

# Of logits, against the model without transformers; the operations are the same.
ATOL = 1e-6


@pytest.fixture(scope="module")
def hf() -> Any:
    import videorwkv.inference.transformers as module

    return module


@pytest.fixture(scope="module")
def shared(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `videorwkv push` writes."""
    return LCR.from_pretrained(tiny_run).save_pretrained(tmp_path_factory.mktemp("hub") / "tiny")


def call(model: Any, inputs: Inputs, **more: Any) -> Any:
    pixel_values = inputs.frames_BTHWC.permute(0, 1, 4, 2, 3)
    with torch.inference_mode():
        return model(pixel_values, inputs.edges_BTHW, **more)


def logits_of(model: LCR, inputs: Inputs) -> torch.Tensor:
    with torch.inference_mode():
        return model(inputs)


LOAD = """
import json, sys
sys.path.insert(0, {tests!r})
import tiny_models, torch, videorwkv.inference.transformers
from transformers import AutoConfig, AutoModelForVideoClassification, pipeline
model = AutoModelForVideoClassification.from_pretrained({source!r})
inputs = tiny_models.make_inputs(size=model.config.lcr.image_size)
with torch.inference_mode():
    logits = model(inputs.frames_BTHWC.permute(0, 1, 4, 2, 3), inputs.edges_BTHW).logits
named = pipeline("video-classification", model={source!r})({clip!r}, top_k=3)
print(json.dumps([logits.tolist(), named, type(model).__name__]))
"""


def fresh(source: Path, clip: Path, **env: str) -> Any:
    tests = str(Path(__file__).parents[1])
    code = LOAD.format(tests=tests, source=str(source), clip=str(clip))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_auto_class_and_pipeline_in_a_fresh_process(shared: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    own = LCR.from_pretrained(shared)
    logits, named, kind = fresh(shared, clip)
    wanted = logits_of(own, tiny_models.make_inputs(size=own.config.image_size))
    torch.testing.assert_close(torch.tensor(logits), wanted, rtol=0, atol=ATOL)
    assert kind == "LCRForVideoClassification"
    (best,) = predict(clip, model=shared, top=3)
    assert [one["label"] for one in named] == list(best.labels)
    scores = [one["score"] for one in named]
    np.testing.assert_allclose(scores, best.scores, rtol=0, atol=ATOL)


def test_saved_and_loaded_again(shared: Path, hf: Any, tmp_path: Path) -> None:
    auto = transformers.AutoModelForVideoClassification
    model = auto.from_pretrained(shared)
    model.save_pretrained(tmp_path / "again")
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    # The processor's file comes along with a processor; without it the pipeline has none.
    hf.LCRVideoProcessor.from_pretrained(shared).save_pretrained(tmp_path / "again")
    assert fresh(tmp_path / "again", clip) == fresh(shared, clip)
    # And it is a run.
    run, before = read_run(tmp_path / "again"), read_run(shared)
    assert (run.labels, run.flips, run.recipe) == (before.labels, before.flips, before.recipe)
    assert predict(clip, model=tmp_path / "again") == predict(clip, model=shared)
    assert before.data["digest"]
    assert run.data["digest"] == ""  # transformers does not say whether weights have changed
    own = LCR.from_pretrained(tmp_path / "again").state_dict()
    torch.testing.assert_close(own, LCR.from_pretrained(shared).state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", tiny_models.VARIANTS)
def test_every_kind_of_model(hf: Any, tmp_path: Path, name: str) -> None:
    # Constants are in no file, and are empty where a model is built on the meta device.
    own = tiny_models.make_model(tiny_models.VARIANTS[name])
    folder = own.save_pretrained(tmp_path)
    model, report = hf.LCRForVideoClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    inputs = tiny_models.make_inputs()
    torch.testing.assert_close(
        call(model, inputs).logits, logits_of(own, inputs), rtol=0, atol=ATOL
    )
    mine = dict(model.lcr.named_buffers())
    for key, value in own.named_buffers():
        assert torch.equal(mine[key], value), key


def test_state_is_a_value(shared: Path, hf: Any) -> None:
    model = hf.LCRForVideoClassification.from_pretrained(shared)
    inputs = tiny_models.make_inputs(size=32, frames=5)
    whole = call(model, inputs)
    assert whole.state is None
    for cut in (1, 2, 4):
        first = call(model, inputs.at(0, cut), use_cache=True)
        second = call(model, inputs.at(cut, 5), state=first.state)
        torch.testing.assert_close(second.logits, whole.logits, rtol=0, atol=ATOL)


def test_from_a_runs_folder(tiny_run: Path, hf: Any) -> None:
    model = hf.LCRForVideoClassification.from_run(tiny_run)
    inputs = tiny_models.make_inputs(size=32)
    wanted = logits_of(read_run(tiny_run).model(), inputs)
    torch.testing.assert_close(call(model, inputs).logits, wanted, rtol=0, atol=ATOL)
    assert model.config.id2label[0] == read_run(tiny_run).labels[0]


def test_a_new_model_starts_as_the_package_has_it(hf: Any) -> None:
    config = hf.VideoRWKVConfig.of(tiny_models.SMALL, "abcde")
    torch.manual_seed(3)
    model = hf.LCRForVideoClassification(config)
    torch.manual_seed(3)
    own = videorwkv.build_model(tiny_models.SMALL)
    torch.testing.assert_close(model.lcr.state_dict(), own.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        dict(model.lcr.named_buffers()), dict(own.named_buffers()), rtol=0, atol=0
    )


def test_other_labels(shared: Path, hf: Any) -> None:
    torch.manual_seed(0)
    model = hf.LCRForVideoClassification.from_pretrained(
        shared, num_labels=3, ignore_mismatched_sizes=True
    )
    own = LCR.from_pretrained(shared)
    assert model.config.to_dict()["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert model.lcr.head.weight.shape[0] == 3
    assert torch.isfinite(model.lcr.head.weight).all()
    assert 0 < float(model.lcr.head.weight.std()) < 1
    assert torch.equal(model.lcr.layers[0].output.weight, own.layers[0].output.weight)
    named = hf.LCRForVideoClassification.from_pretrained(
        shared, id2label={0: "x", 1: "y"}, label2id={"x": 0, "y": 1}, ignore_mismatched_sizes=True
    )
    assert named.config.to_dict()["labels"] == ["x", "y"]
    assert call(named, tiny_models.make_inputs(size=32)).logits.shape == (2, 2)


def test_processor(shared: Path, hf: Any, tmp_path: Path) -> None:
    processor = hf.LCRVideoProcessor.from_pretrained(shared)
    run = read_run(shared)
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    with videorwkv.open_video(clip) as video:
        sampled = video.sample(3)
        every = video.read_all().frames_THWC
    wanted = run.model().preprocess(sampled)
    frames_THWC = sampled.frames_THWC
    for given in (
        clip, str(clip), clip.read_bytes(), [clip], frames_THWC, [frames_THWC], list(frames_THWC),
        frames_THWC.transpose(0, 3, 1, 2), torch.from_numpy(frames_THWC), frames_THWC[None],
    ):  # fmt: skip
        found = processor(given, return_tensors="pt")
        assert torch.equal(found["pixel_values"].permute(0, 1, 3, 4, 2), wanted.frames_BTHWC)
        assert torch.equal(found["edge_values"], wanted.edges_BTHW)
    two = processor([clip, every], do_sample_frames=True, num_frames=4, return_tensors="np")
    assert two["pixel_values"].shape == (2, 4, 3, 32, 32)
    assert processor(every)["edge_values"].shape == (1, 8, 32, 32)


def test_what_can_not_be_processed(shared: Path, hf: Any) -> None:
    processor = hf.LCRVideoProcessor.from_pretrained(shared)
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    for wrong, message in (
        (frames.astype(np.float32), "float32; wanted a path"),
        (frames[..., :2], "wanted a path"),
        (frames[:0], "wanted a path"),
        ([], "empty list"),
        ([frames, frames[:2]], r"videos of \[2, 4\] frames"),
    ):
        with pytest.raises(UsageError, match=message):
            processor(wrong)
    with pytest.raises(ConfigError, match="num_frames"):
        hf.LCRVideoProcessor(num_frames=0)


def test_wrong_inputs_and_configurations(shared: Path, hf: Any, tmp_path: Path) -> None:
    model = hf.LCRForVideoClassification.from_pretrained(shared)
    inputs = tiny_models.make_inputs(size=32)
    with pytest.raises(UsageError, match=r"wanted \[B, T, 3, H, W\]"):
        model(inputs.frames_BTHWC, inputs.edges_BTHW)
    with pytest.raises(UsageError, match="edge_values are missing"):
        model(inputs.frames_BTHWC.permute(0, 1, 4, 2, 3))
    values = json.loads((shared / "config.json").read_text(encoding="utf-8"))
    for key, value, message in (("width", 7, "head_width"), ("image_size", 8192, "at most")):
        model_values = {**values["recipe"]["model"], key: value}
        changed = {**values, "recipe": {**values["recipe"], "model": model_values}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=message):
            hf.VideoRWKVConfig.from_pretrained(tmp_path)


class Clips(Dataset):
    """A split of a data set for Trainer."""

    def __init__(self, data: Manifest, processor: Any) -> None:
        self.data, self.processor = data, processor

    def __len__(self) -> int:
        return len(self.data.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.data.rows[index]
        with self.data.open(row) as video:
            clip = video.sample(self.processor.num_frames, fps=self.processor.fps)
        inputs = self.processor(clip.frames_THWC, return_tensors="pt")
        label = self.data.labels.index(row.label or "")
        return {**{name: value[0] for name, value in inputs.items()}, "labels": label}


def test_trainer_trains_and_its_checkpoint_is_a_run(hf: Any, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is absent: the extra `transformers`")
    data = tiny.manifest()
    recipe = tiny.recipe(model={"drop_path": 0.0, "tube_mask_ratio": 0.0})
    config = hf.VideoRWKVConfig.of(recipe.model, data.labels, sampling=recipe.sampling)
    torch.manual_seed(0)
    model = hf.LCRForVideoClassification(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own = recipe.model
    processor = hf.LCRVideoProcessor(
        num_frames=3, image_size=own.image_size, edges=own.edges, frame_fit=own.frame_fit
    )

    def trainer(steps: int) -> Any:
        options = transformers.TrainingArguments(
            str(tmp_path / "out"), max_steps=steps, per_device_train_batch_size=4, save_steps=3,
            learning_rate=1e-2, report_to=[], use_cpu=True, logging_steps=1, disable_tqdm=True,
        )  # fmt: skip
        return transformers.Trainer(
            model=model,
            args=options,
            train_dataset=Clips(data.split("train"), processor),
            eval_dataset=Clips(data.split("validation"), processor),
            processing_class=processor,
        )

    first = trainer(3)
    result = first.train()
    assert result.global_step == 3
    assert np.isfinite(result.training_loss)
    moved = [n for n, x in model.state_dict().items() if not torch.equal(x, before[n])]
    assert "lcr.head.weight" in moved
    assert "lcr.layers.0.shift" in moved
    assert np.isfinite(first.evaluate()["eval_loss"])

    checkpoint = tmp_path / "out" / "checkpoint-3"
    assert read_run(checkpoint).labels == data.labels
    inputs = tiny_models.make_inputs(size=32)
    trained = call(model.eval(), inputs).logits
    torch.testing.assert_close(
        logits_of(LCR.from_pretrained(checkpoint), inputs), trained, rtol=0, atol=ATOL
    )
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (found,) = predict(clip, model=checkpoint)
    (named,) = [fresh(checkpoint, clip)[1]]
    assert [one["label"] for one in named] == list(found.labels[:3])

    # Trainer goes on from it: had no name fitted, the weights would be those of a new model.
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    again = trainer(4)
    assert again.train(resume_from_checkpoint=str(checkpoint)).global_step == 4
    assert float(model.lcr.layers[0].output.weight.detach().abs().sum()) > 0
