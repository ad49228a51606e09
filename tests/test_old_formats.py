"""A run, an exported file and a cache that version 0.1.0 wrote are read, and mean the same.

`tests/fixtures/make_v0_1.py` made them with the code of that version, and wrote down what it said.
T frames, K classes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import videorwkv
from videorwkv.cli.main import main
from videorwkv.data.cache import FrameCache
from videorwkv.models.lcr import LCR

WRITTEN = Path(__file__).parent / "fixtures" / "v0_1"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))
RUNS = ["runs/gated", "runs/gated/last", "runs/published"]
EXPORTED = ["exported/step-float32.onnx", "exported/step-float32.xml"]
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
# Of logits and probabilities: processors sum in another order.
ATOL = 1e-6


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, with the file that is compressed here unpacked."""
    folder = tmp_path_factory.mktemp("written") / "v0_1"
    shutil.copytree(WRITTEN, folder)
    packed = folder / "exported" / "step-float32.xml.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(params=[*RUNS, *EXPORTED])
def name(request: pytest.FixtureRequest) -> str:
    """A run, or an exported file whose runtime is installed."""
    runtime = RUNTIMES.get(Path(request.param).suffix)
    if runtime is not None:
        pytest.importorskip(runtime, reason=f"{runtime} is absent")
    return str(request.param)


@cache
def manifest() -> videorwkv.Manifest:
    return videorwkv.load_manifest(EXPECTED["data"])


def frames_THWC(old: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Those that the logits belong to: read here without any of the package's code."""
    index = json.loads((old / "caches" / "raw" / "entry.json").read_text())
    return np.fromfile(old / "caches" / "raw" / index["file"], np.uint8).reshape(index["shape"])


def by_label(labels: list[str], scores: list[float]) -> list[float]:
    """Scores in the order of the names: two that are nearly equal may change places."""
    return [score for _, score in sorted(zip(labels, scores, strict=True))]


def test_logits(old: Path, name: str) -> None:
    expected = EXPECTED["said"][name]
    run = videorwkv.load_run(old / name)
    assert list(run.labels) == expected["labels"]
    assert dict(run.flips or {}) == expected["flips"]
    assert run.data["digest"] == EXPECTED["digest"] == manifest().digest
    assert run.versions["videorwkv"] == "0.1.0"
    network = run.model()
    with torch.inference_mode():
        logits_TK = network.scan(network.preprocess(frames_THWC(old)))[0][0]
    np.testing.assert_allclose(logits_TK, expected["logits_TK"], rtol=0, atol=ATOL)


def test_predict(old: Path, name: str) -> None:
    expected = EXPECTED["said"][name]["predict"]
    (prediction,) = videorwkv.predict(old / "clip.mp4", model=old / name, top=8)
    assert prediction.label == expected["labels"][0]
    assert list(prediction.times) == expected["times"]
    np.testing.assert_allclose(
        by_label(list(prediction.labels), list(prediction.scores)),
        by_label(expected["labels"], expected["scores"]),
        rtol=0,
        atol=ATOL,
    )


def test_stream(old: Path, name: str) -> None:
    expected = EXPECTED["said"][name]["stream"]
    moments = list(videorwkv.stream(old / name, old / "clip.mp4", top=8))
    assert len(moments) == len(expected) == 8
    for moment, then in zip(moments, expected, strict=True):
        assert (moment.time, moment.number, moment.reset) == (
            then["time"],
            then["number"],
            then["reset"],
        )
        np.testing.assert_allclose(
            by_label(list(moment.labels), list(moment.scores)),
            by_label(then["labels"], then["scores"]),
            rtol=0,
            atol=ATOL,
        )


def test_evaluate(old: Path, name: str) -> None:
    expected = EXPECTED["said"][name]["evaluate"]
    evaluation = videorwkv.evaluate(old / name, manifest().split("test"))
    assert list(evaluation.views) == expected["views"]
    assert (evaluation.top1, evaluation.top5) == (expected["top1"], expected["top5"])
    assert evaluation.loss == pytest.approx(expected["loss"], rel=0, abs=ATOL)
    assert evaluation.per_class == expected["per_class"]
    assert evaluation.confusion_KK.tolist() == expected["confusion_KK"]


def test_published_options_are_those_of_the_run(old: Path) -> None:
    model = videorwkv.load_run(old / "runs" / "published").model()
    assert isinstance(model, LCR)
    config = model.config
    assert (config.cell, config.stem, config.readout) == ("paper", "patch", "cls")


def test_an_interrupted_run_goes_on_to_the_same_weights(old: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(old / "runs" / "gated", tmp_path / "run")
    assert main(["train", EXPECTED["data"], "--out", str(folder), "--resume", "--quiet"]) == 0
    ended = load_file(folder / "last.safetensors")
    then = load_file(old / "final.safetensors")
    assert list(ended) == list(then)
    for key, tensor in then.items():
        # The steps that are left change them by 0.15 at most. Adam divides by what is nearly zero,
        # so that other processors are farther apart than in a logit.
        torch.testing.assert_close(ended[key], tensor, rtol=0, atol=1e-5, msg=key)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    begun = (old / "runs" / "gated" / "log.jsonl").read_text()
    assert (folder / "log.jsonl").read_text().startswith(begun)
    steps = [line["step"] for line in lines if line["kind"] == "step"]
    assert steps == [1, 2, 3, 4] == list(range(1, EXPECTED["resumed"]["step"] + 1))
    best = max(line["top1"] for line in lines if line["kind"] == "validation")
    assert best == EXPECTED["resumed"]["best_top1"]


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_cached_frames_are_read_without_decoding(old: Path, tmp_path: Path, store: str) -> None:
    expected = EXPECTED["caches"][store]
    clip = tmp_path / "clip.mp4"
    shutil.copy(old / "clip.mp4", clip)
    changed = EXPECTED["changed_ns"]
    os.utime(clip, ns=(changed, changed))
    # Version 0.1.0 named an entry so; the fixture's can't know where the clip lies here.
    stats = [(clip.name, clip.stat().st_size, changed)]
    key = repr((str(clip), stats, EXPECTED["short_side"]))
    folder = shutil.copytree(old / "caches" / store, tmp_path / "cache")
    entry = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    (folder / "entry.json").rename(entry)

    def decode() -> NoReturn:
        raise AssertionError("the clip was decoded")

    frames = FrameCache(str(folder), EXPECTED["short_side"])
    assert frames.settings() == (store, 90)
    found = frames.open(str(clip), decode).read_all()
    assert list(found.frames_THWC.shape) == expected["shape"]
    assert found.times.tolist() == expected["times"]
    assert hashlib.sha256(found.frames_THWC.tobytes()).hexdigest() == expected["sha256"]
