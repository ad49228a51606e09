"""False alarms in videos that show none of the classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data import Manifest
from videorwkv.data.load import load_manifest
from videorwkv.data.nothing import KINDS, NothingOptions, nothing_manifest
from videorwkv.errors import ConfigError, DataError
from videorwkv.inference.alarms import count_alarms
from videorwkv.inference.calibration import Calibration
from videorwkv.inference.recogniser import Recogniser, load_run
from videorwkv.inference.stream import stream
from videorwkv.video import Sampling


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sampling = Sampling(num_frames=3, fps=1.0)
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny", sampling=sampling)


def test_nothing_happens_in_nothing() -> None:
    manifest = load_manifest("nothing:minutes=1,size=32")
    assert [row.path.rpartition("/")[2] for row in manifest.rows] == list(KINDS)
    clips = {row.path.rpartition("/")[2]: manifest.open(row) for row in manifest.rows}
    frames = {kind: video.read([0, 5, 700]).frames_THWC for kind, video in clips.items()}
    assert all(x.shape == (3, 32, 42, 3) for x in frames.values())
    assert not frames["black"].any()
    assert np.array_equal(frames["still"][0], frames["still"][2])
    for kind in ("still_noise", "noise", "coarse_noise", "flicker"):
        assert not np.array_equal(frames[kind][0], frames[kind][1])
    assert len(clips["black"].times()) == 720
    again = manifest.open(manifest.rows[3]).read([5]).frames_THWC
    assert np.array_equal(again[0], frames["noise"][1])
    with pytest.raises(ConfigError, match="minutes"):
        nothing_manifest(NothingOptions(minutes=0))


def test_an_alarm_is_a_class_that_is_named_anew(run: Path) -> None:
    recogniser = Recogniser.open(run, what="test")
    manifest = nothing_manifest(NothingOptions(minutes=1, size=32))
    found = count_alarms(recogniser, manifest, thresholds=(0.0, 0.2, 1.0))
    for row in manifest.rows[3::2]:
        for place, threshold in enumerate((0.0, 0.2, 1.0)):
            with manifest.open(row) as video, stream(run, video, threshold=threshold) as moments:
                named = sum(one.changed and one.label is not None for one in moments)
            assert found.by_video[row.name][place] == named
    assert found.alarms[0.0] >= len(KINDS)
    assert found.alarms[1.0] == 0
    assert found.seconds == pytest.approx(6 * 60, rel=0.02)
    assert found.per_hour(0.0) == pytest.approx(found.alarms[0.0] * 10, rel=0.02)


def test_clips_of_known_classes_are_left_out(run: Path) -> None:
    recogniser = Recogniser.open(run, what="test")
    with pytest.raises(DataError, match="show classes of the run"):
        count_alarms(recogniser, tiny.manifest())


def test_of_several_labels_one_that_is_known_is_enough(run: Path) -> None:
    recogniser = Recogniser.open(run, what="test")
    data = nothing_manifest(NothingOptions(minutes=1, size=32))
    known = recogniser.labels[0]
    rows = (data.rows[0]._replace(label=f"{known}|other"), data.rows[1]._replace(label="other"))
    labels = tuple(sorted({known, "other"}))
    several = replace(data, rows=rows, labels=labels, flips=None, multilabel=True)
    found = count_alarms(recogniser, several, thresholds=(1.0,))
    assert (found.known, list(found.by_video)) == (1, [rows[1].name])


def test_the_decoder_reads_the_unknown_too(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def look(recogniser: Recogniser, manifest: Manifest, **options: object) -> None:
        raise DataError(f"read with {manifest.decoder}")

    monkeypatch.setattr("videorwkv.inference.alarms.count_alarms", look)
    command = ["evaluate", str(run), tiny.MOTION, "--workers=0", f"--out={tmp_path / 'out'}"]
    assert main([*command, "--unknown=nothing:minutes=1,size=32", "--decoder=pyav"]) == 1
    assert "read with pyav" in capsys.readouterr().err


def test_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["evaluate", str(run), tiny.MOTION, "--workers=0", f"--out={out}"]
    assert main([*command, "--unknown=nothing:minutes=1,size=32"]) == 0
    shown = capsys.readouterr().out
    assert "False alarms in 0.10 h of nothing" in shown
    written = json.loads((out / "false_alarms.json").read_text())
    assert set(written["thresholds"]) == {"0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95"}
    # Clips and streams at one temperature, whether it was chosen just now or before.
    both = [*command, "--unknown=nothing:minutes=1,size=32"]
    tables = []
    try:
        for choose in (["--choose-thresholds", "--keep-recall=1"], []):
            assert main([*both, *choose]) == 0
            shown = capsys.readouterr().out
            tables.append(shown[shown.index("False alarms") :].partition("Written")[0])
        kept = Calibration.read(load_run(run))
        assert kept is not None
        assert kept.temperature != 1
        assert tables[0] == tables[1]
    finally:
        Calibration.path(load_run(run)).unlink()
    assert main([*command, "--unknown=nothing:hours=1"]) == 2
    assert main([*command, f"--unknown={tiny.MOTION}"]) == 1
    assert "show classes of the run" in capsys.readouterr().err
