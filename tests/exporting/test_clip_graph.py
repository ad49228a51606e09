from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import videorwkv
from videorwkv.cli.main import main
from videorwkv.errors import CheckpointError, UsageError
from videorwkv.exporting.frames import generated
from videorwkv.inference.exported import ExportedModel
from videorwkv.inference.exported_file import clip_path, step_path
from videorwkv.inference.recogniser import load_run
from videorwkv.models import build_model, create_model

TARGETS = ("onnx", "openvino")
Need = Callable[..., None]


def counted(model: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each call of a runtime takes, from now on."""
    calls: list[int] = []
    assert model.clip is not None
    for file in (model.file, model.clip):
        run = file.engine.run

        def counting(feeds: Any, run: Any = run, frames: int = file.frames) -> Any:
            calls.append(frames)
            return run(feeds)

        monkeypatch.setattr(file.engine, "run", counting)
    return calls


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_whole_pieces_run_at_once_and_the_rest_by_frame(
    need: Need, run: Path, tmp_path: Path, to: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(to)
    exported = videorwkv.export(run, tmp_path / "wave", to=to, precision=precision, clip_frames=3)
    assert exported.clip == clip_path(exported.path, 3)
    assert {exported.path, exported.clip} <= set(exported.files)
    found = [report.source for report in exported.verifications]
    assert found == ["generated"] * 2 + ["generated, 3 frames at a time"] * 2
    opened = videorwkv.open_exported(exported.path)
    inputs = generated(opened.config, streams=2, num_frames=8, seed=7)
    state, frames = opened.init_state(2), []
    for t in range(8):
        logits_BK, state = opened.step(inputs.at(t, t + 1), state)
        frames.append(logits_BK)
    calls = counted(opened, monkeypatch)
    found_BTK, after = opened.scan(inputs)
    assert calls == [3, 3, 1, 1]
    near = 1e-5 if precision == "float32" or to == "onnx" else 0.02
    torch.testing.assert_close(found_BTK, torch.stack(frames, 1), rtol=0, atol=near)
    for name, array in state.arrays.items():
        assert after.arrays[name].dtype == array.dtype
        np.testing.assert_allclose(after.arrays[name], array, rtol=0, atol=10 * near)


@pytest.mark.parametrize("to", TARGETS)
def test_cut_anywhere_under_a_tube_mask(need: Need, tmp_path: Path, to: str) -> None:
    need(to)
    torch.manual_seed(0)
    model = create_model("lcr_nano", depth=1, num_classes=4, image_size=32).eval()
    path = videorwkv.export(
        model, tmp_path, to=to, batch_size=2, tube_mask_ratio=0.5, clip_frames=2
    ).path
    opened = videorwkv.open_exported(path)
    mask = torch.Generator().manual_seed(3)
    start = opened.init_state(2, generator=mask)
    keep_BK = torch.from_numpy(start.arrays["keep"])
    inputs = generated(opened.config, streams=2, num_frames=5)
    with torch.inference_mode():
        expected_BTK, _ = model.scan(inputs, model.init_state(2, keep_BK=keep_BK))
    for cut in (1, 2, 3):
        first_BTK, state = opened.scan(inputs.at(0, cut), start)
        rest_BTK, _ = opened.scan(inputs.at(cut, 5), state)
        found_BTK = torch.cat([first_BTK, rest_BTK], 1)
        torch.testing.assert_close(found_BTK, expected_BTK, rtol=0, atol=1e-5)


def test_predict_and_evaluate_use_it(
    need: Need, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("onnx")
    out = tmp_path / "wave.onnx"
    assert main(["export", str(run), "--to", "onnx", "--out", str(out), "--frames", "3"]) == 0
    beside = tmp_path / "wave-frames3.onnx"
    printed = capsys.readouterr().out
    assert f"Written to {out} and {beside} (" in printed
    assert printed.count("3 frames at a time") == 2
    about = json.loads((tmp_path / "wave.onnx.json").read_text())
    assert about["clip"] == {"file": "wave-frames3.onnx", "frames": 3}
    assert about["frames"] == 1
    of_clip = json.loads((tmp_path / "wave-frames3.onnx.json").read_text())
    assert (of_clip["frames"], of_clip["clip"]) == (3, None)
    size = of_clip["frame"]["height"]
    ports = {port["name"]: port["shape"] for port in of_clip["inputs"] + of_clip["outputs"]}
    assert ports["frame"] == ["streams", 3, size, size, 3]
    assert ports["logits"] == ["streams", 3, len(of_clip["labels"])]
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (expected,), (found,) = (videorwkv.predict(clip, model=x) for x in (run, out))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    data = tiny.manifest().split("test")
    theirs = videorwkv.evaluate(out, data, batch_size=3)
    assert theirs.loss == pytest.approx(videorwkv.evaluate(run, data).loss, abs=1e-5)
    # It is no step, and says whose it is.
    with pytest.raises(UsageError, match=r"3 frames at a time.*give wave\.onnx"):
        videorwkv.open_exported(beside)
    # The step alone gives the same, later.
    beside.unlink()
    opened = videorwkv.open_exported(out)
    assert opened.clip is None
    (alone,) = videorwkv.predict(clip, model=opened)
    np.testing.assert_allclose(alone.scores, found.scores, atol=1e-5)


def test_another_models_is_refused(need: Need, run: Path, tmp_path: Path) -> None:
    need("onnx")
    config = (
        load_run(run).config if hasattr(load_run(run), "config") else load_run(run).recipe.model
    )
    torch.manual_seed(1)
    other = build_model(config).eval()
    paths = []
    for name, source in (("a", run), ("b", other)):
        paths.append(videorwkv.export(source, tmp_path / f"{name}.onnx", clip_frames=2).path)
    shutil.copy(clip_path(paths[1], 2), clip_path(paths[0], 2))
    opened = videorwkv.open_exported(paths[0])
    inputs = generated(opened.config, streams=1, num_frames=2)
    opened.step(inputs.at(0, 1), opened.init_state(1))
    with pytest.raises(CheckpointError, match=r"a-frames2.onnx does not belong.*weights_sha256"):
        opened.scan(inputs)


def test_names_of_files() -> None:
    path = clip_path(Path("out/wave.1.xml"), 16)
    assert path == Path("out/wave.1-frames16.xml")
    assert step_path(path) == Path("out/wave.1.xml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_frames": 1}, r"\(--frames\) is 1; allowed: 2 to 16"),
        ({"clip_frames": 17}, r"is 17; allowed: 2 to 16"),
        ({"clip_frames": 4, "precision": "int8", "calibrate": None}, "int8 has no graph of"),
    ],
)
def test_wrong_options(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        videorwkv.export(run, **options)


def test_pages_take_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "web", "--frames", "4"]) == 2
    assert "--frames has no effect on a page" in capsys.readouterr().err
