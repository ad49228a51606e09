"""Models that are shared: folders and repositories, round trips in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hub_server
import pytest
import tiny
import tiny_models
import torch
from safetensors import safe_open

from videorwkv.errors import CheckpointError, ConfigError, UsageError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import Recogniser, is_exported
from videorwkv.models import LCR, build_model
from videorwkv.run.pretrained import read_pretrained
from videorwkv.run.run import load_weights, read_run
from videorwkv.video.base import Sampling

FILES = {"README.md", "config.json", "model.safetensors", "video_preprocessor_config.json"}
# In a fresh process: the logits of a model on fixed inputs, and what the package says of it.
LOAD = """
import json, sys
sys.path.insert(0, {tests!r})
import tiny_models, torch, videorwkv
model = videorwkv.LCR.from_pretrained({source!r}{options})
size = model.config.image_size
with torch.inference_mode():
    logits = model(tiny_models.make_inputs(size=size))
print(json.dumps([logits.tolist(), list(model.origin.labels), model.training]))
"""


def fresh(source: str, options: str = "", **env: str) -> Any:
    code = LOAD.format(tests=str(Path(__file__).parents[1]), source=source, options=options)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def logits(model: LCR) -> list[list[float]]:
    with torch.inference_mode():
        found: list[list[float]] = model(
            tiny_models.make_inputs(size=model.config.image_size)
        ).tolist()
    return found


def test_a_run_becomes_a_repository_and_the_same_model(tiny_run: Path, tmp_path: Path) -> None:
    model = LCR.from_pretrained(tiny_run)
    folder = model.save_pretrained(tmp_path / "shared", licence="mit", repo="me/motion")
    assert {file.name for file in folder.iterdir()} == FILES
    run, again = read_run(tiny_run), read_run(folder)
    assert (again.recipe, again.labels, again.flips, again.versions) == (
        run.recipe, run.labels, run.flips, run.versions,
    )  # fmt: skip
    # What tells single clips or their folder stays here.
    assert again.data.items() < run.data.items()
    assert again.data.keys() == {"name", "digest", "clips", "splits"}
    assert again.which == "model"
    found, labels, training = fresh(str(folder))
    assert found == logits(run.model())
    assert (tuple(labels), training) == (run.labels, False)
    # What its weights' file says of itself is what config.json says.
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        said = json.loads(file.metadata()["videorwkv"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("crc32")
    assert said == config
    assert config["id2label"]["0"] == run.labels[0]
    assert 'license: "mit"' in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", tiny_models.VARIANTS)
def test_every_kind_of_model_is_saved(tmp_path: Path, name: str) -> None:
    # `shift` and others were views of longer tensors, which the usual way of saving refuses.
    model = tiny_models.make_model(tiny_models.VARIANTS[name])
    again = LCR.from_pretrained(model.save_pretrained(tmp_path))
    assert logits(again) == logits(model)
    assert again.origin.labels == tuple("01234")


def test_what_is_made_of_a_run_of_the_hub_is_not_put_into_its_cache(tiny_run: Path) -> None:
    from videorwkv.web.site import default_folder

    run = read_run(tiny_run)
    assert run.outputs == tiny_run
    assert default_folder(run) == tiny_run / "web"
    pulled = replace(run, which="model", source="hf:me/waving@v1")
    place = Path("runs/me--waving@v1")
    assert pulled.outputs == place
    assert pulled.results("test") == place / "evaluation-test"
    assert default_folder(pulled) == place / "web"


def test_no_weight_is_a_view_of_a_longer_tensor() -> None:
    for name, config in tiny_models.VARIANTS.items():
        for key, value in build_model(config).state_dict().items():
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size(), (
                name, key,
            )  # fmt: skip


def test_the_verbs_use_labels_and_sampling_of_the_run(tiny_run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    model = LCR.from_pretrained(tiny_run)
    assert predict(clip, model=model) == predict(clip, model=tiny_run)
    opened = Recogniser.open(model, what="test")
    assert opened.sampling == read_run(tiny_run).recipe.sampling
    test = tiny.manifest().split("test")
    scores = [[one.scores_K.tolist() for one in evaluate(m, test).clips] for m in (model, tiny_run)]
    assert scores[0] == scores[1]


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    model = tiny_models.make_model()
    sampling = Sampling(num_frames=9, fps=12.0)
    flips = {"l": "r", "r": "l"}
    folder = model.save_pretrained(
        tmp_path, labels=["l", "r", "x", "y", "z"], sampling=sampling, flips=flips
    )
    run = read_run(folder)
    assert (run.labels, run.recipe.sampling, run.flips) == (tuple("lrxyz"), sampling, flips)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Not measured" in text
    assert "at 12 frames a second" in text


def test_weights_that_have_changed_are_not_those_of_the_run(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    model = LCR.from_pretrained(tiny_run)
    assert "validation" in (model.save_pretrained(tmp_path / "a") / "README.md").read_text()
    with torch.no_grad():
        model.head.bias += 1
    folder = model.save_pretrained(tmp_path / "b")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Not measured, or not recorded for these weights" in text
    digest = read_run(tiny_run).data["digest"]
    assert digest not in text
    again = read_run(folder)
    assert again.labels == read_run(tiny_run).labels
    assert again.init is not None
    # Of the place of the run only its name goes out.
    assert str(tiny_run.parent.parent) not in text + (folder / "config.json").read_text()
    assert logits(LCR.from_pretrained(folder)) == logits(model)


def test_no_run_is_overwritten(tiny_run: Path, tmp_path: Path) -> None:
    model = LCR.from_pretrained(tiny_run)
    with pytest.raises(UsageError, match=r"holds a run of its own \(state\.pt\)"):
        model.save_pretrained(tiny_run)
    # One that was saved so is replaced, and a run that has gone is not needed.
    folder = LCR.from_pretrained(model.save_pretrained(tmp_path / "a")).save_pretrained(
        tmp_path / "a", licence="mit"
    )
    moved = LCR.from_pretrained(folder)
    folder.rename(tmp_path / "b")
    again = moved.save_pretrained(tmp_path / "c")
    assert logits(LCR.from_pretrained(again)) == logits(model)
    assert read_run(again).data["digest"] == ""


def test_a_file_of_weights_out_of_its_folder(tiny_run: Path, tmp_path: Path) -> None:
    folder = LCR.from_pretrained(tiny_run).save_pretrained(tmp_path / "shared")
    bare = (folder / "model.safetensors").rename(tmp_path / "bare.safetensors")
    run = read_run(tiny_run)
    found = read_pretrained(bare)
    assert (found.labels, found.config) == (run.labels, run.recipe.model)
    with pytest.raises(CheckpointError, match=r"last\.safetensors is missing"):
        read_run(folder).model()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": ["a", "b"]}, UsageError, r"2 labels .* model of 5 classes"),
        ({"labels": ["a"] * 5}, UsageError, r"5 labels \(1 different"),
        ({"licence": "Own Terms"}, ConfigError, "short names"),
        ({"license": "mit"}, ConfigError, "Did you mean 'licence'"),
        ({"licence": 3}, ConfigError, "allowed: text"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_models.make_model().save_pretrained(tmp_path / "x", **change)
    assert not (tmp_path / "x").exists()


def test_wrong_models_and_places(tmp_path: Path) -> None:
    model = tiny_models.make_model()
    with pytest.raises(UsageError, match="for_inference"):
        model.for_inference().save_pretrained(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be made"):
        model.save_pretrained(tmp_path / "file")
    with pytest.raises(UsageError, match="No run at"):
        LCR.from_pretrained(tmp_path / "none")
    with pytest.raises(UsageError, match="no revision"):
        LCR.from_pretrained(tmp_path, revision="v1")
    with pytest.raises(UsageError, match="given twice"):
        LCR.from_pretrained("hf:me/waving@v1", revision="v1")
    with pytest.raises(UsageError, match="hf:owner/name is wanted"):
        model.push_to_hub("waving")
    assert not is_exported("hf:me/step.onnx")


def test_config_of_another_library(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(CheckpointError, match=r"not that of a run.*of a model of type 'vit'"):
        read_run(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is absent: the extra `hub`")
    with hub_server.serving() as hub:
        # For the processes that are started: huggingface_hub reads them when it is imported.
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


PUSH = """
import sys, videorwkv
model = videorwkv.LCR.from_pretrained(sys.argv[1])
print(model.push_to_hub("me/motion", private=True, licence="mit"))
print(model.push_to_hub("me/motion", branch="v1", commit_message="Again"))
"""


def test_a_push_comes_back(tiny_run: Path, hub: hub_server.Hub) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(tiny_run)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first.startswith(f"{hub.endpoint}/me/motion/commit/")
    assert second != first
    assert hub.private["me/motion"]
    assert hub.files("me/motion").keys() == {*FILES, ".gitattributes"}
    assert b"hf:me/motion" in hub.files("me/motion")["README.md"]
    wanted = logits(read_run(tiny_run).model())
    labels = list(read_run(tiny_run).labels)
    assert fresh("me/motion") == [wanted, labels, False]
    assert fresh("hf:me/motion@v1") == [wanted, labels, False]
    asked = len(hub.asked)
    assert fresh("me/motion", ', revision="v1"', HF_HUB_OFFLINE="1") == [wanted, labels, False]
    assert len(hub.asked) == asked
    assert fresh("me/motion", ", local_files_only=True")[0] == wanted


FAIL = """
import sys, videorwkv
for source in sys.argv[1:]:
    try:
        videorwkv.LCR.from_pretrained(source)
        print("read")
    except videorwkv.VideoRWKVError as error:
        print(type(error).__name__, error)
"""


def test_what_is_no_run_is_not_downloaded(tiny_run: Path, hub: hub_server.Hub) -> None:
    config = (tiny_run / "config.json").read_bytes()
    hub.make("me/vit")
    hub.put("me/vit", {"config.json": b'{"model_type": "vit"}', "model.safetensors": b"large"})
    hub.make("me/empty")
    hub.make("me/bare")
    hub.put("me/bare", {"config.json": config})
    # A run's folder that was uploaded as it is: nothing that can hold code is asked for.
    hub.make("me/folder")
    weights = {"best.safetensors": (tiny_run / "best.safetensors").read_bytes()}
    hub.put("me/folder", {"config.json": config, "state.pt": b"\x80", "model.py": b"", **weights})
    hub.make("me/secret", private=True)
    names = ("vit", "empty", "bare", "none", "folder", "folder@v2", "secret")
    done = subprocess.run(
        [sys.executable, "-c", FAIL, *(f"me/{name}" for name in names)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_TOKEN": "wrong"},
    )
    said = done.stdout.splitlines()
    for line, part in zip(
        said,
        (
            "CheckpointError .*of a model of type 'vit'",
            "CheckpointError .*no config.json",
            "CheckpointError .*last.safetensors is missing",
            "UsageError .*knows no such model.*no folder 'me/none' here",
            "^read$",
            "UsageError .*no branch, tag or commit 'v2'",
            "UsageError .*hf auth login",
        ),
        strict=True,
    ):
        assert re.search(part, line), line
    fetched = [path for path in hub.asked if path.startswith("GET")]
    assert not [path for path in fetched if "vit" in path and "safetensors" in path]
    assert not [path for path in fetched if path.endswith((".pt", ".py"))]


def test_old_runs_are_shared_too(tmp_path: Path) -> None:
    written = Path(__file__).parents[1] / "fixtures/v0_1/runs/gated"
    model = LCR.from_pretrained(written)
    folder = model.save_pretrained(tmp_path)
    assert "| machine | not recorded |" in (folder / "README.md").read_text(encoding="utf-8")
    again = build_model(replace(model.config))
    load_weights(again, folder / "model.safetensors")
    assert logits(again.eval()) == logits(model)
