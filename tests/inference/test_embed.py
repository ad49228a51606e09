from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from videorwkv.cli.main import main
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Row, make_manifest
from videorwkv.errors import DataError, UsageError
from videorwkv.exporting import export
from videorwkv.inference.embed import embed
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.few_shots import few_shots
from videorwkv.run.run import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("embed") / "run", model={"tube_mask_ratio": 0.0})


@pytest.mark.parametrize("views", [(1, 1), (2, 1)])
def test_the_classifier_of_a_vector_gives_the_scores_of_the_clip(
    run: Path, views: tuple[int, int]
) -> None:
    manifest = tiny.manifest().split("test")
    found = embed(run, manifest, views=views, batch_size=3)
    assert found.paths == tuple(row.path for row in manifest.rows)
    assert found.labels == tuple(row.label for row in manifest.rows)
    head = read_run(run).model().head
    logits_NK = head(torch.from_numpy(found.vectors_NE))
    if views == (1, 1):
        scores_NK = np.stack([c.scores_K for c in evaluate(run, manifest, views=views).clips])
        np.testing.assert_allclose(
            logits_NK.softmax(-1).detach().numpy(), scores_NK, atol=1e-5
        )  # the same numbers, in batches of another size
    else:
        single = embed(run, manifest, views=(1, 1))
        assert not np.allclose(single.vectors_NE, found.vectors_NE, atol=1e-3)


def test_pieces_of_a_clip_end_in_the_vector_of_its_whole(run: Path, tmp_path: Path) -> None:
    path = tiny.write_clip(tmp_path / "clip.mp4", frames=24)  # 3 s
    manifest = make_manifest("clips", [Row(str(path), None)], root=tmp_path)
    pieces = embed(run, manifest, every=1.0)
    assert pieces.seconds_N.tolist() == [0.0, 1.0, 2.0]
    assert pieces.paths == (str(path),) * 3
    whole = embed(run, manifest, every=100.0)
    np.testing.assert_array_equal(whole.vectors_NE[0], pieces.vectors_NE[-1])
    assert not np.allclose(pieces.vectors_NE[0], pieces.vectors_NE[1], atol=1e-4)


def test_segments_have_vectors_of_their_own(run: Path, tmp_path: Path) -> None:
    path = tiny.write_clip(tmp_path / "clip.mp4", frames=24)
    (tmp_path / "clips.csv").write_text("path,label,start,end\nclip.mp4,a,0,1\nclip.mp4,b,1.5,3\n")
    found = embed(run, load_manifest(str(tmp_path / "clips.csv"), validation_share=0))
    assert len(set(found.paths)) == 2
    assert all(name.startswith(f"{path}#") for name in found.paths)
    assert not np.allclose(found.vectors_NE[0], found.vectors_NE[1], atol=1e-4)


def test_a_clip_that_cant_be_read_is_named_and_has_no_vector(run: Path, tmp_path: Path) -> None:
    good = tiny.write_clip(tmp_path / "good.mp4")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    rows = [Row(str(bad), None), Row(str(good), "of no class of the run")]
    manifest = make_manifest("clips", rows, root=tmp_path)
    for every in (None, 1.0):
        found = embed(run, manifest, every=every)
        assert found.paths == (str(good),)
        assert list(found.bad) == [str(bad)]
    with pytest.raises(DataError, match="no clip could be read"):
        embed(run, replace(manifest, rows=manifest.rows[:1]))


def test_what_gives_no_vectors_is_refused(run: Path, tmp_path: Path) -> None:
    manifest = tiny.manifest().split("test")
    with pytest.raises(UsageError, match="above 0"):
        embed(run, manifest, every=0.0)
    with pytest.raises(UsageError, match="without views"):
        embed(run, manifest, every=1.0, views=(2, 1))
    file = tmp_path / "tiny.onnx"
    export(run, to="onnx", out=file)
    with pytest.raises(UsageError, match="scores and no vectors"):
        embed(file, manifest)


def test_files_are_read_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "vectors.npz"
    assert main(["embed", str(run), tiny.MOTION, "--workers=0", f"--out={out}"]) == 0
    assert "36 vectors" in capsys.readouterr().out
    with np.load(out) as file:  # without pickle
        assert file["vectors"].shape == (36, file["vectors"].shape[1])
        assert set(file["splits"]) == {"train", "validation", "test"}
        assert len(file["paths"]) == len(file["labels"]) == len(file["seconds"]) == 36
    assert main(["embed", str(run), tiny.MOTION, f"--out={tmp_path / 'x.csv'}"]) == 2
    assert "npz" in capsys.readouterr().err


def test_parquet(run: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    found = embed(run, tiny.manifest().split("test"))
    rows = parquet.read_table(found.save(tmp_path / "vectors.parquet")).to_pylist()
    assert [row["paths"] for row in rows] == list(found.paths)
    np.testing.assert_array_equal(np.float32([row["vectors"] for row in rows]), found.vectors_NE)


def test_one_video_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=16)
    out = tmp_path / "vectors.npz"
    assert main(["embed", str(run), str(clip), "--every=1", f"--out={out}"]) == 0
    assert "2 vectors" in capsys.readouterr().out


def clusters(spread: float, seed: int) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = [name for name in "abcd" for _ in range(12)]
    middle_NE = np.repeat(np.eye(4), 12, axis=0)
    return (middle_NE + spread * rng.normal(size=(48, 4))).astype(np.float32), labels


def test_options_of_data_sets_are_refused_for_one_video(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = tiny.write_clip(tmp_path / "clip.mp4"), tmp_path / "one.npz"
    command = ["embed", str(run), str(clip), f"--out={out}", "--workers=0"]
    for option in ("--label-by=(x)", "--group-by=none", "--frame-rate=5"):
        assert main([*command, option]) == 2
        name = option.partition("=")[0]
        assert f"{name} is for data sets" in capsys.readouterr().err
    assert main([*command, "--decoder=nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert not out.exists()


def test_few_examples_name_clusters_and_not_noise() -> None:
    (known, labels), (asked, asked_labels) = clusters(0.02, 0), clusters(0.02, 1)
    for result in few_shots(known, labels, asked, asked_labels, [1, 10]):
        assert result.accuracy == 1.0
    (known, labels), (asked, asked_labels) = clusters(100.0, 0), clusters(100.0, 1)
    (result,) = few_shots(known, labels, asked, asked_labels, [5], draws=40)
    assert 0.1 < result.accuracy < 0.4  # chance is 0.25; 40 draws of 48 clips
    assert result.lowest < result.accuracy < result.highest


def test_more_examples_are_better() -> None:
    (known, labels), (asked, asked_labels) = clusters(0.5, 0), clusters(0.5, 1)
    one, many = few_shots(known, labels, asked, asked_labels, [1, 10])
    assert many.accuracy > one.accuracy + 0.05


def test_examples_that_are_missing_are_named() -> None:
    (known, labels), (asked, asked_labels) = clusters(0.1, 0), clusters(0.1, 1)
    with pytest.raises(DataError, match="12 examples, 13 are wanted"):
        few_shots(known, labels, asked, asked_labels, [13])
    with pytest.raises(DataError, match="No example of 'e'"):
        few_shots(known, labels, asked, [*asked_labels[:-1], "e"], [1])
    with pytest.raises(UsageError, match="1 or more"):
        few_shots(known, labels, asked, asked_labels, [0])


def test_shots_on_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["embed", str(run), tiny.MOTION, "--workers=0"]
    assert main([*command, "--shots=1,2", "--draws=3", "--baselines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("1 example ", "2 examples ")) for line in lines) == 2
    assert sum(line.startswith("baseline motion pieces, ") for line in lines) == 2
    for wrong, said in (
        (["--shots=0"], "1 or more"),
        (["--shots=1", "--split=train"], "from the train split"),
        (["--shots=1", "--every=1"], "whole clips"),
        (["--draws=3", "--out=x.npz"], "needs --shots"),
        (["--every=1", "--out=x.npz"], "--workers does not go with --every"),
        ([], "nothing to do"),
    ):
        assert main([*command, *wrong]) == 2
        assert said in capsys.readouterr().err
