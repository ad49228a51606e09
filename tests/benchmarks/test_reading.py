from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.reading import baseline as bench_baseline
from benchmarks.reading.rates import BenchOptions, bench, unlabelled
from benchmarks.reading.report import BenchReport, Timing
from videorwkv.cli.main import main
from videorwkv.data.cache import FrameCache
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ConfigError, DataError, UsageError
from videorwkv.video import open_video

QUICK = BenchOptions(num_frames=4, size=32, rounds=1, workers=(0,), clips=3)
STEPS = ["decode", "resize", "edges", "collate"]


def steps(report: BenchReport) -> list[tuple[str, int]]:
    return [(timing.step, timing.workers) for timing in report.timings]


def test_every_step_is_timed_in_every_round(class_folder: Path) -> None:
    shares: list[float] = []
    options = replace(QUICK, workers=(0, 1), rounds=2)
    report = bench(load_manifest(class_folder), options, on_share=shares.append)
    loops = ["PyAV", "PyAV, seeking"]
    wanted = [(step, workers) for workers in (0, 1) for step in [*loops, *STEPS]]
    assert steps(report) == [*wanted, ("edges alone", 0)]
    for timing in report.timings:
        assert len(timing.seconds) == len(timing.cpu) == 2
        assert min(timing.seconds) > 0
    assert report.clips == 3
    # Three clips are too few for one worker, so that it reads them twice.
    assert report.timing("edges", 0).clips == 3
    assert report.timing("edges", 1).clips == 6
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert (report.differing, report.unreadable) == (0, ())
    assert cv2.getNumThreads() != 0


@pytest.mark.parametrize("train", [False, True])
def test_the_loops_give_the_frames_that_we_read(
    class_folder: Path, monkeypatch: pytest.MonkeyPatch, train: bool
) -> None:
    manifest = load_manifest(class_folder)
    assert bench(manifest, replace(QUICK, train=train)).differing == 0
    loop = bench_baseline.pyav_from_start
    monkeypatch.setattr("benchmarks.reading.rates.pyav_from_start", lambda task: 255 - loop(task))
    assert bench(manifest, replace(QUICK, train=train)).differing == 3


def test_loops_go_to_key_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"g": "10", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(60):
            image_HWC = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    report = bench(Manifest(name="m", rows=(Row(str(path), None),), labels=()), QUICK)
    assert report.baselines == ("PyAV", "PyAV, seeking")
    assert report.differing == 0

    sought: list[int] = []

    class Spy:
        def __init__(self, path: str) -> None:
            self._container = av_open(path)

        def __enter__(self) -> Spy:
            return self

        def __exit__(self, *_: object) -> None:
            self._container.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def seek(self, pts: int, **options: Any) -> None:
            sought.append(pts)
            self._container.seek(pts, **options)

    av_open = av.open
    monkeypatch.setattr("av.open", Spy)
    pts = tuple(range(0, 60 * 1024, 1024))
    task = bench_baseline.Task(
        path=str(path),
        indices=(12, 15, 47),
        box=bench_baseline.Box(0, 0, 48, 48),
        size=48,
        pts=(pts[12], pts[15], pts[47]),
        key_pts=pts[::10],
    )
    images_THWC = bench_baseline.pyav_key_frames(task)
    assert sought == [pts[10], pts[40]]
    np.testing.assert_array_equal(images_THWC, bench_baseline.pyav_from_start(task))


def test_folders_of_frames(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for clip in ("1", "2"):
            folder = tmp_path / label / clip
            folder.mkdir(parents=True)
            for number in range(5):
                image_HWC = np.full((40, 60, 3), 40 * number, np.uint8)
                cv2.imwrite(str(folder / f"{number:05d}.jpg"), image_HWC)
    report = bench(load_manifest(tmp_path), QUICK)
    assert report.baselines == ("OpenCV",)
    assert report.differing == 0
    assert "of bare OpenCV" in report.summary()


def test_generated_clips_have_no_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    report = bench(load_manifest("motion:train=4,validation=0,test=0,size=32"), QUICK)
    assert report.baselines == ()
    assert report.baseline(0) is None
    assert report.ratios("collate", 0) == []
    assert "bare" not in report.summary()
    assert "cache" not in report.advice()


def test_unreadable_clips_are_left_out_and_named(class_folder: Path, tmp_path: Path) -> None:
    good = load_manifest(class_folder).rows[0].path
    (tmp_path / "text.mp4").write_text("no video")
    rows = (Row(str(tmp_path / "text.mp4"), None), Row(good, None))
    report = bench(Manifest(name="m", rows=rows, labels=()), QUICK)
    assert report.clips == 1
    (line,) = (text for text in report.summary().splitlines() if text.startswith("left out"))
    assert line.startswith(f"left out, unreadable: {tmp_path / 'text.mp4'}: this is not a video")
    assert line.count("text.mp4") == 1
    assert ", 1 round, files in memory" in report.summary()
    with pytest.raises(DataError, match="none of the 1 clips"):
        bench(Manifest(name="m", rows=rows[:1], labels=()), QUICK)


def test_from_a_cache(class_folder: Path, tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 40)
    report = bench(load_manifest(class_folder), QUICK, cache=cache)
    assert report.cached
    assert "from the cache" in report.summary()
    assert list((tmp_path / "cache").iterdir())


def made(seconds: dict[str, float], workers: int = 0) -> BenchReport:
    timings = [Timing(step, workers, 10, [s, 2 * s, s], [s, s, s]) for step, s in seconds.items()]
    loops = tuple(step for step in seconds if step.startswith("PyAV"))
    return BenchReport(
        options=replace(QUICK, workers=(workers,)),
        clips=10,
        cached=False,
        generated=False,
        decoder="auto",
        differing=0,
        unreadable=(),
        timings=(*timings, Timing("edges alone", 0, 10, [1.0], [1.0])),
        baselines=loops,
    )


def test_rates_and_ratios() -> None:
    times = {"decode": 7.0, "resize": 8.0, "edges": 9.0, "collate": 10.0}
    report = made({"PyAV": 15.0, "PyAV, seeking": 12.0, **times})
    loop = report.baseline(0)
    assert loop is not None
    assert loop.step == "PyAV, seeking"
    assert report.ratios("collate", 0) == pytest.approx([1.2, 1.2, 1.2])
    assert report.cpu_ratio("collate", 0) == pytest.approx(1.2)
    assert report.edges_added == pytest.approx(1 / 8)
    known = report.to_dict()["timings"][2]
    assert known["step"] == "decode"
    assert known["clips_per_second"] == pytest.approx(10 / 7)
    assert known["frames_per_second"] == pytest.approx(40 / 7)
    assert "Decoding bounds reading: 78%" in report.advice()
    assert "--cache" in report.advice()


def test_advice_follows_the_times() -> None:
    times = {"decode": 0.5, "resize": 0.9, "edges": 1.9, "collate": 2.0}
    assert made(times).advice().startswith("Edges bound reading: 53%")
    times = {"decode": 1.5, "resize": 2.9, "edges": 3.9, "collate": 4.0}
    assert made(times).advice().startswith("No step bounds reading: decoding takes 38%")


def test_videos_in_a_folder_need_no_layout(class_folder: Path, tmp_path: Path) -> None:
    for number, row in enumerate(load_manifest(class_folder).rows[:2]):
        shutil.copy(row.path, tmp_path / f"{number}.mp4")
    (tmp_path / "notes.txt").write_text("no video")
    manifest = unlabelled(tmp_path)
    assert manifest is not None
    assert [Path(row.path).name for row in manifest.rows] == ["0.mp4", "1.mp4"]
    assert unlabelled(class_folder) is None
    assert unlabelled("motion") is None


def test_names_with_a_colon(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(load_manifest(class_folder).rows[0].path, tmp_path / "2024T12:30.mp4")
    monkeypatch.chdir(tmp_path)
    manifest = unlabelled(".")
    assert manifest is not None
    assert bench(manifest, QUICK).clips == 1


def test_command(class_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "bench", str(class_folder), "--frames", "2", "--size", "32"]
    command += ["--clips", "2", "--rounds", "1", "--workers", "0"]
    assert main([*command, "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["clips"] == 2
    assert known["options"]["workers"] == [0]
    assert main([*command, "--edges", "sobel", "--train"]) == 0
    printed = capsys.readouterr().out
    for words in ("PyAV", "+ collate", "clips/s", "frames/s", "edges sobel, training", "edges add"):
        assert words in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "0,x"], "wanted numbers"),
        (["--workers", "1,1"], "different numbers"),
        (["--edges", "cany"], "Did you mean 'canny'"),
        (["--rounds", "0"], "rounds (0) must be at least 1"),
        (["--decoder", "pyva"], "Did you mean 'pyav'"),
    ],
)
def test_wrong_use(
    class_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["data", "bench", str(class_folder), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="clips"):
        BenchOptions(clips=0)
    with pytest.raises(UsageError, match="canny"):
        BenchOptions(edges="no")


def test_the_clip_is_read_as_open_video_reads_it(class_folder: Path) -> None:
    """The loop's frames against the one door to frames, not against our data set alone."""
    path = load_manifest(class_folder).rows[0].path
    box = bench_baseline.Box(0, 0, 48, 48)
    task = bench_baseline.Task(path=path, indices=(2, 5, 5), box=box, size=48)
    wanted = open_video(path).read([2, 5, 5]).frames_THWC
    np.testing.assert_array_equal(bench_baseline.pyav_from_start(task), wanted)
