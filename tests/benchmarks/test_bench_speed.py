from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.models.cli import run_bench
from benchmarks.models.lengths import joint_memory, measure_stream
from benchmarks.models.report import (
    HEADER,
    LENGTH_HEADER,
    cells,
    length_cells,
    markdown,
    save_report,
    sentences,
    tables,
)
from benchmarks.models.results import SpeedReport
from benchmarks.models.runner import SpeedOptions, bench
from benchmarks.models.ways import WAYS, find_ways, lcr_program, missing, peer_program, prepared
from videorwkv.cli.main import main, make_parser
from videorwkv.errors import ConfigError, UsageError
from videorwkv.exporting import export
from videorwkv.models import build_model, model_config
from videorwkv.models.presets import _PRESETS

SMALL = {"image_size": 32, "width": 32, "depth": 1, "head_width": 16, "num_classes": 5}


@pytest.fixture(autouse=True)
def _small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config("lcr_nano", **SMALL)
    monkeypatch.setitem(_PRESETS, "bench_small", lambda: config)
    _hasty(monkeypatch)


def _hasty(patch: pytest.MonkeyPatch) -> None:
    """What is timed is called a few times only: no test asks how long it takes."""
    for name in ("runner", "lengths"):
        patch.setattr(f"benchmarks.models.{name}.TURN", 0.0)
    patch.setattr("benchmarks.models.runner.GEMM", 64)
    patch.setattr("benchmarks.timing.gemm_peak", lambda: 1.0)


def options(**changed: object) -> SpeedOptions:
    return SpeedOptions(
        **{"models": ("bench_small",), "num_frames": 3, "seconds": 0.01, **changed}  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def report() -> SpeedReport:
    """One run for all that only look."""
    config = model_config("lcr_nano", **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_PRESETS, "bench_shown", lambda: config)
        _hasty(patch)
        return bench(
            options(
                models=("bench_shown",),
                against=("softmax", "movinet_a0"),
                tube_mask_ratio=0.5,
                batch_size=2,
            )
        )


def test_every_model_way_and_unit_has_a_row(report: SpeedReport) -> None:
    found = [(row.model, row.way, row.unit) for row in report.rows]
    own = [
        (f"bench_shown{kind}", way, unit)
        for kind in ("", ", 50% masked", ", softmax")
        for way in ("eager", "inference")
        for unit in ("frame", "clip")
    ]
    peer = [("MoViNet-A0 stream", "eager", unit) for unit in ("frame", "clip")]
    assert found == own + peer
    assert {row.model for row in report.rows if row.peer} == {
        "bench_shown, softmax",
        "MoViNet-A0 stream",
    }
    assert all(row.times.rounds >= 3 for row in report.rows)


def test_costs_are_counted(report: SpeedReport) -> None:
    rows = {(row.model, row.unit): row for row in report.rows if row.way == "eager"}
    whole, masked = rows["bench_shown", "frame"], rows["bench_shown, 50% masked", "frame"]
    model = build_model(model_config("lcr_nano", **SMALL))
    assert whole.parameters == sum(x.numel() for x in model.parameters())
    assert whole.macs is not None
    assert masked.macs is not None
    assert masked.macs < whole.macs
    clip = rows["bench_shown", "clip"]
    assert clip.macs == 3 * whole.macs
    share = report.share(whole)
    assert share == pytest.approx(
        2 * whole.macs / (whole.times.cpu * 1e-3) / (report.peaks["float32"] * 1e9)
    )
    assert report.per_second(clip) == pytest.approx(2e3 / clip.times.wall)
    if sys.platform == "linux":
        assert all((row.memory is not None) == (row.way == "eager") for row in report.rows)


def test_tables_have_all_columns(report: SpeedReport) -> None:
    text = markdown(report)
    for name in HEADER:
        assert name in text
    for unit in report.units():
        assert {len(row) for row in cells(report, unit)} == {len(HEADER)}
    assert "A new frame of 2 streams" in text
    assert "2 clips of 3 frames" in text
    assert [table.row_count for table in tables(report)] == [7, 7]


def test_sentences_compare(report: SpeedReport) -> None:
    text = "\n".join(sentences(report))
    assert "bench_shown beside bench_shown, softmax, a frame: " in text
    assert "bench_shown beside MoViNet-A0 stream, a clip: " in text
    assert "bench_shown, 50% masked, of the whole frame's time: eager " in text
    assert "its 3 frames one by one: eager " in text


def test_a_report_is_saved_and_read(report: SpeedReport, tmp_path: Path) -> None:
    save_report(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bench.json",
        "bench.md",
        "bench.png",
    ]
    assert SpeedReport.load(tmp_path / "bench.json") == report
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.models.runner.machine", dict)
    before, seen = torch.get_num_threads(), []

    def stop(text: str) -> None:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(options(threads=before + 1), on_note=stop)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_length_costs(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra `bench`")
    report = bench(options(ways=("eager",), lengths=(2, 4, 80), memory_limit=1.0, time_limit=1.0))
    names = list(dict.fromkeys(row.model for row in report.lengths))
    assert names == [
        "bench_small",
        "VideoMAE-Ti, scores in memory",
        "VideoMAE-Ti, fused attention",
    ]
    rows = {(row.model, row.length): row for row in report.lengths}
    assert len(rows) == 9
    assert rows[names[0], 80].frame is not None
    too_large, too_slow = rows[names[1], 80], rows[names[2], 80]
    assert too_large.frame is None
    assert too_large.estimated
    assert too_large.why.startswith("needs ")
    assert too_slow.why.startswith(("takes about ", "needs "))
    assert all(len(row) == len(LENGTH_HEADER) for row in length_cells(report))
    save_report(report, tmp_path)
    assert (tmp_path / "lengths.png").is_file()


def test_scores_in_memory_grow_with_the_square() -> None:
    assert joint_memory("eager", 4096) / joint_memory("eager", 2048) == pytest.approx(4, rel=0.02)
    assert joint_memory("sdpa", 4096) / joint_memory("sdpa", 2048) == pytest.approx(2)


def test_lengths_of_a_stream_alone_need_no_library() -> None:
    model = build_model(model_config("lcr_nano", **SMALL)).eval()
    rows = measure_stream("small", model.for_inference(), (2, 5), seconds=0.0)
    assert [row.length for row in rows] == [2, 5]
    assert all(row.frame is not None for row in rows)


def test_an_exported_way() -> None:
    for name in WAYS["openvino-bfloat16"].needs:
        pytest.importorskip(name, reason="needs the extra `openvino`")
    report = bench(options(num_frames=1, ways=("openvino-bfloat16",)))
    assert [(row.way, row.precision) for row in report.of("frame")] == [
        ("eager", "float32"),
        ("openvino-bfloat16", "bfloat16"),
    ]


def test_an_exported_file_with_a_tube_mask(tmp_path: Path) -> None:
    for name in WAYS["onnx"].needs:
        pytest.importorskip(name, reason="needs the extra `onnx`")
    model = build_model(model_config("lcr_nano", **SMALL)).eval()
    file = export(model, tmp_path / "half.onnx", tube_mask_ratio=0.5).path
    report = bench(options(models=(str(file),), num_frames=1, ways=("eager",)))
    (row,) = report.of("frame")
    assert (row.way, row.tube_mask_ratio) == ("exported", 0.5)


def test_joint_attention_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config("lcr_nano", **SMALL, mixer="joint", cell="none")
    monkeypatch.setitem(_PRESETS, "bench_joint", lambda: config)
    report = bench(options(models=("bench_joint",), num_frames=2, ways=("inference", "bfloat16")))
    assert {row.way for row in report.rows} == {"eager"}


def test_clips_too_short_for_a_peer() -> None:
    with pytest.raises(UsageError, match=r"num_frames \(1\) is too few for videomae_tiny.*needs 2"):
        bench(options(num_frames=1, against=("x3d_m", "videomae_tiny")))


@pytest.mark.parametrize(
    ("way", "tolerance"),
    [("eager", 1e-5), ("bfloat16", 0.02), ("openvino", 1e-4), ("openvino-bfloat16", 0.02)],
)
@pytest.mark.parametrize("convolutions", [False, True])
def test_a_peer_gives_the_same_numbers_in_every_way(
    way: str, tolerance: float, convolutions: bool
) -> None:
    if missing(WAYS[way]) is not None:
        pytest.skip("needs the extra `openvino`")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    pixels = torch.randn(2, 3, 8, 8)
    program = peer_program(network, way, (pixels,), convolutions)
    found = program(*prepared((pixels,), way, convolutions))
    if way.startswith("openvino"):
        found = torch.from_numpy(found[0])
    with torch.no_grad():
        torch.testing.assert_close(found.float(), network(pixels), rtol=0, atol=tolerance)


def test_files_are_exported_with_a_graph_for_clips(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def look(*_: object, **given: object) -> None:
        raise UsageError(f"precision {given['precision']}, clip_frames {given['clip_frames']}")

    monkeypatch.setattr("benchmarks.models.ways.export", look)
    model = build_model(model_config("bench_small"))
    for way, said in (("onnx", "float32, clip_frames 4"), ("onnx-int8", "int8, clip_frames None")):
        with pytest.raises(UsageError, match=f"precision {said}"):
            lcr_program(model, way, tmp_path, 0.0, 4)
    monkeypatch.setattr("benchmarks.models.runner.bench", lambda options, **_: look(
        precision="", clip_frames=options.clip_frames))  # fmt: skip
    with pytest.raises(UsageError, match="clip_frames 4"):
        run_bench(make_parser().parse_args(["bench", "bench_small", "--clip-frames", "4"]))


def test_ways_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_ways(["bfloat16"]) == ("eager", "bfloat16")
    assert set(find_ways(["all"])) <= set(WAYS)
    assert find_ways(["all", "eager"]) == find_ways(["all"])
    with pytest.raises(UsageError, match="Did you mean 'openvino'"):
        find_ways(["openvin"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"videorwkv\[onnx\]"):
        find_ways(["openvino"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        find_ways(["compiled"])
    assert find_ways(["all"]) == ("eager", "inference", "bfloat16")


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_frames": 0},
        {"seconds": 0},
        {"models": ()},
        {"lengths": (1,)},
        {"lengths": (4, 2)},
    ],
)
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"bench: .*{next(iter(wrong))[:5]}"):
        options(**wrong)
    with pytest.raises(UsageError, match=r"tube_mask_ratio is 1\.0"):
        options(tube_mask_ratio=1.0)


def test_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'lcr_big' is no model, run or exported file"):
        bench(options(models=("lcr_big",)))


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ["bench", "bench_small", "--frames", "2", "--seconds", "0.01", "--ways", "eager"]
    assert main([*common, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "A new frame of one stream" in shown
    assert "bench_small" in shown
    assert (tmp_path / "out" / "bench.md").is_file()
    assert main([*common, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in values["rows"]] == ["frame", "clip"]
    assert main([*common, "--lengths", "a"]) == 2
    assert main(["bench", "bench_small", "--against", "nothing"]) == 2
    assert "Unknown peer" in capsys.readouterr().err
