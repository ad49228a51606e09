from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import tiny
import torch

import videorwkv
from videorwkv.cli.main import main
from videorwkv.data import load_manifest
from videorwkv.errors import CheckpointError, UsageError
from videorwkv.exporting import graph
from videorwkv.exporting.frames import generated
from videorwkv.exporting.step import RecurrentStep
from videorwkv.exporting.verify import TOLERANCES
from videorwkv.inference.recogniser import load_run
from videorwkv.models import build_model, create_model, model_config
from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import fit_image

TARGETS = ("onnx", "openvino")
Need = Callable[..., None]


def logits(model: Any, *, streams: int = 3, num_frames: int = 6, **start: Any) -> torch.Tensor:
    inputs = generated(model.config, streams=streams, num_frames=num_frames, seed=7)
    with torch.inference_mode():
        return model.scan(inputs, model.init_state(streams, **start))[0]


def test_gives_the_logits_of_the_run(run: Path, file: Path) -> None:
    model, exported = load_run(run).model(), videorwkv.open_exported(file)
    assert file.parent == run
    assert file.stem == "step-float32"
    # Any number of streams, one file.
    for streams in (1, 3):
        torch.testing.assert_close(
            logits(exported, streams=streams), logits(model, streams=streams), rtol=0, atol=1e-5
        )


def test_file_says_what_it_takes_to_run_it(run: Path, file: Path) -> None:
    trained, exported = load_run(run), videorwkv.open_exported(file)
    assert exported.labels == trained.labels
    assert exported.sampling == trained.recipe.sampling
    assert exported.config == trained.recipe.model
    about = exported.metadata
    assert about["versions"]["videorwkv"] == videorwkv.__version__
    assert len(about["weights_sha256"]) == 64
    reports = about["verification"]
    # A runtime may take another way for one stream than for two.
    assert [report["streams"] for report in reports] == [1, 2]
    for report in reports:
        assert report["frames"] == 64
        assert 0 < report["logits"] <= TOLERANCES["float32"].logits


def test_takes_the_place_of_a_run(run: Path, file: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (expected,) = videorwkv.predict(clip, model=run)
    (found,) = videorwkv.predict(clip, model=file, save=tmp_path / "out.gif")
    assert found.labels == expected.labels
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    data = tiny.manifest().split("test")
    ours, theirs = videorwkv.evaluate(run, data), videorwkv.evaluate(file, data, batch_size=3)
    assert theirs.top1 == ours.top1
    assert theirs.loss == pytest.approx(ours.loss, abs=1e-5)


def test_an_open_file_keeps_its_labels_and_sampling(file: Path, tmp_path: Path) -> None:
    opened = videorwkv.open_exported(file)
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    assert videorwkv.predict(clip, model=opened) == videorwkv.predict(clip, model=file)
    # Data with a part of the file's classes.
    data, few = tiny.manifest().split("test"), opened.labels[3:5]
    part = replace(
        data, labels=few, flips=None, rows=tuple(row for row in data.rows if row.label in few)
    )
    by_path, by_model = videorwkv.evaluate(file, part), videorwkv.evaluate(opened, part)
    assert by_model.labels == by_path.labels == opened.labels
    assert by_model.loss == pytest.approx(by_path.loss, abs=1e-6)
    names = [f"class {k}" for k in range(len(opened.labels))]
    assert videorwkv.predict(clip, model=opened, labels=names)[0].label.startswith("class")


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_reduced_precision(need: Need, run: Path, tmp_path: Path, to: str, precision: str) -> None:
    need(to, "onnx")
    calibrate = tiny.manifest() if precision == "int8" else None
    exported = videorwkv.export(
        run, tmp_path / "out", to=to, precision=precision, calibrate=calibrate
    )
    sources = [report.source for report in exported.verifications]
    assert sources == ["generated"] * 2 + ["first calibration clip"] * (precision == "int8")
    for report in exported.verifications:
        assert not report.faults(TOLERANCES[precision])
        # It does reduce something.
        assert report.logits > 1e-6
    opened = videorwkv.open_exported(exported.path)
    assert opened.precision == precision
    assert opened.init_state(1).arrays["state.memory.0"].dtype == np.float32
    if precision == "int8":
        assert "motion" in exported.notes[0]


def test_weights_take_less_room(need: Need, tmp_path: Path) -> None:
    need("onnx")
    torch.manual_seed(0)
    # As few other things as can be, which PyTorch takes seconds to write down.
    model = create_model(
        "lcr_nano",
        depth=1,
        image_size=32,
        stem="patch",
        edges="none",
        key_value_source="frame",
        mixer="none",
        cell="none",
    ).eval()
    sizes = {
        precision: videorwkv.export(
            model,
            tmp_path,
            precision=precision,
            calibrate=tiny.manifest() if precision == "int8" else None,
            sampling=videorwkv.Sampling(num_frames=2),
        ).size
        for precision in ("float32", "bfloat16", "int8")
    }
    assert sizes["bfloat16"] < 0.65 * sizes["float32"]
    assert sizes["int8"] < 0.45 * sizes["float32"]


@pytest.mark.parametrize("to", TARGETS)
def test_fixed_streams_another_size_and_a_tube_mask(need: Need, tmp_path: Path, to: str) -> None:
    need(to)
    torch.manual_seed(0)
    model = create_model("lcr_nano", depth=1, num_classes=4, image_size=32).eval()
    exported = videorwkv.export(
        model, tmp_path, to=to, batch_size=2, image_size=64, tube_mask_ratio=0.5
    )
    opened = videorwkv.open_exported(exported.path)
    assert opened.labels == ("0", "1", "2", "3")
    state = opened.init_state(2, generator=torch.Generator().manual_seed(3))
    assert state.arrays["keep"].shape == (2, 8)
    wide = create_model("lcr_nano", depth=1, num_classes=4, image_size=64).eval()
    wide.load_state_dict(model.state_dict())
    start = wide.init_state(2, tube_mask_ratio=0.5, generator=torch.Generator().manual_seed(3))
    inputs = generated(opened.config, streams=2, num_frames=3)
    with torch.inference_mode():
        expected_BTK, _ = wide.scan(inputs, start)
    torch.testing.assert_close(opened.scan(inputs, state)[0], expected_BTK, rtol=0, atol=1e-5)
    # Without a state the mask is fixed, so that two evaluations agree.
    torch.testing.assert_close(opened(inputs), opened(inputs), rtol=0, atol=0)
    for wrong in ({"batch_size": 3}, {"image_size": 32}, {"tube_mask_ratio": 0.25}):
        with pytest.raises(UsageError, match="was exported for"):
            opened.init_state(**{"batch_size": 2, **wrong})
    with pytest.raises(UsageError, match="64x64"):
        opened.step(generated(model.config, streams=2, num_frames=1), state)
    with pytest.raises(UsageError, match="takes one frame"):
        opened.step(inputs, state)


@pytest.mark.parametrize("to", TARGETS)
def test_a_model_on_a_pretrained_stem(need: Need, tmp_path: Path, to: str) -> None:
    need(to)
    torch.manual_seed(0)
    config = model_config("lcr_lite", depth=1, num_classes=4, image_size=32, readout_cells=2)
    model = build_model(config).eval()
    opened = videorwkv.open_exported(videorwkv.export(model, tmp_path, to=to).path)
    arrays = opened.init_state(1).arrays
    assert arrays["state.features"].shape == (1, 4, 112)
    assert "state.pixels" in arrays  # the memory's clock compares them
    inputs = generated(config, streams=2, num_frames=4)
    with torch.inference_mode():
        expected_BTK = model.scan(inputs)[0]
    assert (expected_BTK[:, 1:] - expected_BTK[:, :1]).abs().max() > 1e-3
    torch.testing.assert_close(opened.scan(inputs)[0], expected_BTK, rtol=0, atol=1e-4)


@pytest.mark.parametrize("to", TARGETS)
def test_a_model_of_stretched_frames(need: Need, tmp_path: Path, to: str) -> None:
    need(to)
    torch.manual_seed(0)
    model = create_model(
        "lcr_nano", depth=1, num_classes=4, image_size=32, frame_fit="stretch"
    ).eval()
    opened = videorwkv.open_exported(videorwkv.export(model, tmp_path, to=to).path)
    assert opened.config.frame_fit == "stretch"
    # Wide frames, whose sides differ from their middle.
    frames_THWC = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    frames_THWC[:, :, 8:-8] //= 8
    cropped = model.preprocess(frames_THWC[:, :, 8:-8])
    wanted, inputs = model.preprocess(frames_THWC), opened.preprocess(frames_THWC)
    assert all(torch.equal(a, b) for a, b in zip(wanted, inputs, strict=True))
    with torch.inference_mode():
        expected_BTK = model.scan(wanted)[0]
        assert not torch.allclose(model.scan(cropped)[0], expected_BTK, rtol=0, atol=1e-3)
    torch.testing.assert_close(opened.scan(inputs)[0], expected_BTK, rtol=0, atol=1e-5)


def _break(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the exported first logit is 1 too large."""
    sound = graph.to_onnx

    def wrong(step: RecurrentStep) -> Any:
        proto = sound(step)
        (bias,) = (x for x in proto.graph.initializer if x.name == "head.bias")
        values_K = np.frombuffer(bias.raw_data, np.float32).copy()
        values_K[0] += 1
        bias.raw_data = values_K.tobytes()
        return proto

    monkeypatch.setattr(graph, "to_onnx", wrong)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("to", TARGETS)
def test_a_file_that_differs_is_not_written(
    need: Need, run: Path, tmp_path: Path, to: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(to, "onnx")
    _break(monkeypatch)
    calibrate = tiny.manifest() if precision == "int8" else None
    with pytest.raises(CheckpointError, match=r"differs from the model.*Nothing was written"):
        videorwkv.export(run, tmp_path, to=to, precision=precision, calibrate=calibrate)
    assert not list(tmp_path.iterdir())


def test_an_old_file_survives_a_failure(
    need: Need, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("onnx")
    target = tmp_path / "step.onnx"
    target.write_text("old")
    _break(monkeypatch)
    with pytest.raises(CheckpointError, match="differs"):
        videorwkv.export(run, target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_suffix_in_capitals(need: Need, run: Path, tmp_path: Path) -> None:
    need("openvino")
    exported = videorwkv.export(run, tmp_path / "wave.XML", to="openvino")
    assert exported.size > exported.path.with_suffix(".bin").stat().st_size
    assert videorwkv.open_exported(exported.path).labels == load_run(run).labels


def test_a_full_disk_of_openvino(
    need: Need, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    import openvino

    def full(*arguments: object, **options: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", full)
    with pytest.raises(
        CheckpointError, match=r"Can't write .*wave\.xml: OpenVINO says .*Make room"
    ):
        videorwkv.export(run, tmp_path / "wave.xml", to="openvino")


def test_command_line(
    need: Need, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("onnx")
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    out = tmp_path / "wave.onnx"
    assert main(["export", str(run), "--to", "onnx", "--out", str(out), "--clip", str(clip)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("verified against PyTorch: 64 frames") == 3
    assert f"Written to {out} (" in printed
    assert main(["predict", str(out), str(clip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]
    assert main(["evaluate", str(out), tiny.MOTION, "--workers", "0"]) == 0
    # Beside the file and not over the run's own evaluation.
    assert (tmp_path / "wave-evaluation-validation" / "evaluation.json").is_file()
    assert main(["export", str(out), "--to", "onnx"]) == 2
    assert "an exported file already" in capsys.readouterr().err
    for alone in ("--cache=frames", "--fold=0", "--validation-share=0.2"):
        assert main(["export", str(run), "--to", "onnx", alone]) == 2
        assert f"{alone.split('=')[0]} needs --calibrate DATA" in capsys.readouterr().err


def test_command_line_names_both_files_of_openvino(
    need: Need, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("openvino")
    out = tmp_path / "wave.xml"
    assert main(["export", str(run), "--to", "openvino", "--out", str(out)]) == 0
    assert f"Written to {out} and {out.with_suffix('.bin')} (" in capsys.readouterr().out
    beside = [out.with_suffix(".bin"), out.with_name("wave.xml.json")]
    assert sorted(tmp_path.iterdir()) == sorted([out, *beside])


def follow_documentation(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Run the example on a clip and compare its answer with ours; the names that it defines."""
    documentation = sys.modules["videorwkv.exporting"].__doc__ or ""
    example = textwrap.dedent("    import json\n" + documentation.split("    import json\n")[1])
    assert "videorwkv." not in example
    # Wide, so that the square must be cut out.
    clip = tiny.write_clip(tmp_path / "wave.mp4")
    code = example.replace("step-float32.onnx", str(file)).replace("wave.mp4", str(clip))
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)
    model = videorwkv.open_exported(file)
    state = model.init_state(1)
    for frame in videorwkv.open_video(clip):
        logits_BK, state = model.step(model.preprocess(frame), state)
    assert capsys.readouterr().out.strip() == model.labels[int(logits_BK.argmax())]
    # OpenCV and PyAV may decode to colours that differ by a level.
    np.testing.assert_allclose(names["logits_BK"], logits_BK, atol=0.02)
    return names


def test_onnxruntime_alone_as_documented_without_edges(
    need: Need, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("onnx")
    model = {"edges": "none", "key_value_source": "frame"}
    run = tiny.trained(tmp_path / "run", steps=1, model=model)
    file = videorwkv.export(run, to="onnx").path
    names = follow_documentation(file, tmp_path, capsys)
    assert names["logits_BK"].shape == (1, 8)
    assert np.isfinite(names["logits_BK"]).all()


def test_onnxruntime_alone_as_documented(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = follow_documentation(onnx_file, tmp_path, capsys)
    size = videorwkv.open_exported(onnx_file).height
    rng = np.random.default_rng(0)
    images = [
        np.zeros((40, 60, 3), np.uint8),
        cv2.GaussianBlur(rng.integers(0, 256, (70, 50, 3), dtype=np.uint8), (9, 9), 0),
        rng.integers(0, 256, (9, 20, 3), dtype=np.uint8),
    ]
    for changed in ({}, {"norm": "l1", "blur_size": 1}, {"high": 80.0, "blur_sigma": 0.7}):
        edge_options = replace(EdgeOptions(), **changed)
        names["options"].update(asdict(edge_options))
        for image_HWC in images:
            for frame_fit in ("stretch", "crop"):
                names["model"]["frame_fit"] = frame_fit
                square_HWC = fit_image(image_HWC, size, frame_fit)
                np.testing.assert_array_equal(names["fit"](image_HWC), square_HWC)
            np.testing.assert_array_equal(
                names["canny"](square_HWC), edge_map(square_HWC, options=edge_options)
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tflite"}, "Unknown target 'tflite'. Available: onnx, openvino, executorch"),
        ({"precision": "bfloat8"}, "Did you mean 'bfloat16'"),
        ({"batch_size": 0}, "batch_size"),
        ({"tube_mask_ratio": 1.0}, "tube_mask_ratio"),
        ({"calibrate": load_manifest(tiny.MOTION)}, "for precision int8, not for float32"),
        ({"precision": "int8"}, "--calibrate DATA"),
        ({"to": "executorch", "precision": "float16"}, "ExecuTorch's file is float32"),
        ({"to": "executorch", "clip_frames": 4}, "one frame at a time"),
    ],
)
def test_wrong_options(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        videorwkv.export(run, **options)


def test_wrong_places(need: Need, run: Path, tmp_path: Path) -> None:
    need("onnx")
    with pytest.raises(UsageError, match=r"writes \.onnx"):
        videorwkv.export(run, tmp_path / "step.xml", to="onnx")
    model = load_run(run).model()
    with pytest.raises(UsageError, match="needs `out`"):
        videorwkv.export(model)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CheckpointError, match="Can't write"):
        videorwkv.export(run, tmp_path / "taken" / "step.onnx")


@pytest.mark.parametrize(
    ("missing", "to", "extra"),
    [
        ("onnx", "onnx", "onnx"),
        ("onnxscript", "onnx", "onnx"),
        ("onnxruntime", "onnx", "onnx"),
        ("onnx", "openvino", "onnx"),
        ("openvino", "openvino", "openvino"),
        ("executorch", "executorch", "executorch"),
    ],
)
def test_missing_library_is_named_with_its_extra(
    run: Path, missing: str, to: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch"):
        # The others are there, even where they are not.
        monkeypatch.setitem(sys.modules, name, None if name == missing else ModuleType(name))
    pattern = rf"needs {missing},.*pip install 'videorwkv\[{extra}\]'"
    with pytest.raises(UsageError, match=pattern):
        videorwkv.export(run, to=to)


def test_executorch(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("executorch.exir", reason="pip install 'videorwkv[executorch]'")
    found = videorwkv.export(run, tmp_path, to="executorch", batch_size=2)
    assert found.files == (tmp_path / "step-float32.pte",)
    assert [one.streams for one in found.verifications] == [2]
    exported, model = videorwkv.open_exported(found.path), load_run(run).model()
    assert exported.batch_size == 2
    inputs = generated(model.config, streams=2, num_frames=5, seed=3)
    with torch.inference_mode():
        wanted_BTK, _ = model.scan(inputs)
        found_BTK, state = exported.scan(inputs)
        torch.testing.assert_close(found_BTK, wanted_BTK, rtol=0, atol=1e-5)
        # A state that somebody holds is not written over.
        kept = {name: array.copy() for name, array in state.arrays.items()}
        exported.step(inputs.at(0, 1), state)
    for name, array in kept.items():
        np.testing.assert_array_equal(state.arrays[name], array)
    # It is read with the JSON that was written with it, and with no other.
    for text, words in (("{}", "sha256"), (None, "No such file")):
        path = found.description
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(CheckpointError, match=words):
            videorwkv.open_exported(found.path)


def test_joint_attention_is_refused(need: Need, tmp_path: Path) -> None:
    need("onnx")
    model = create_model("lcr_nano", depth=1, image_size=32, mixer="joint", cell="none")
    with pytest.raises(UsageError, match="its state grows"):
        videorwkv.export(model, tmp_path)


def test_a_copy_for_inference_is_refused(need: Need, tmp_path: Path) -> None:
    need("onnx")
    model = create_model("lcr_nano", depth=1, image_size=32).for_inference()
    with pytest.raises(UsageError, match="the model itself"):
        videorwkv.export(model, tmp_path)
