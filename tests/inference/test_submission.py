from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import DataError, UsageError
from videorwkv.inference.evaluate import Scores, score
from videorwkv.inference.metrics import Scored
from videorwkv.inference.recogniser import Recogniser, load_run
from videorwkv.inference.submission import predict_split, write_submission
from videorwkv.training.loop import train

LABELS = ("a", "b, c", "d", "e", "f", "g")


def scores(*best: str | None) -> Scores:
    """A clip each, whose classes are ranked as the letters say; None can't be read."""
    clips = []
    for number, letters in enumerate(best):
        scores_K = np.full(len(LABELS), 0.01)
        for place, letter in enumerate(letters or ""):
            scores_K[[label[0] for label in LABELS].index(letter)] = 0.5 / 2**place
        reason = "" if letters else f"{number}: not a video"
        clips.append(Scored(str(number), "", None if reason else scores_K, reason))
    return Scores(LABELS, tuple(clips), (1, 1))


def manifest(name: str, *paths: str, missing: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        name=name,
        rows=tuple(Row(f"/data/{path}", None, "test") for path in paths),
        labels=LABELS,
        root="/data",
        missing=tuple(Row(f"/data/{path}", None, "test") for path in missing),
        official={label: 100 + k for k, label in enumerate(LABELS)},
    )


def test_jester(tmp_path: Path) -> None:
    rows = manifest("jester", "20bn/34870", "20bn/7.mp4", "20bn/8", missing=("20bn/9", "20bn/10"))
    done = write_submission(tmp_path / "out.csv", rows, scores("ba", None, "g"))
    assert (tmp_path / "out.csv").read_text() == "34870;b, c\n8;g\n"
    assert not done.is_complete
    assert done.summary() == (
        f"{tmp_path / 'out.csv'}: 2/5 clips; skipped: 1 unreadable, 2 listed and not on disk"
    )
    assert [clip.reason for clip in done.unreadable] == ["1: not a video"]
    assert done.missing == ("/data/20bn/9", "/data/20bn/10")


def test_ssv2_takes_official_numbers(tmp_path: Path) -> None:
    done = write_submission(tmp_path / "o", manifest("ssv2", "x/1420.webm"), scores("gfedb"))
    assert (tmp_path / "o").read_text() == "1420;105;104;103;102;101\n"
    assert done.is_complete
    assert done.summary() == f"{tmp_path / 'o'}: 1/1 clip"


def test_kinetics(tmp_path: Path) -> None:
    rows = manifest("kinetics400", "test/--6bJUbfpnQ_000017_000027.mp4")
    write_submission(tmp_path / "o.json", rows, scores("dbaef"))
    values = json.loads((tmp_path / "o.json").read_text())
    assert set(values) == {"version", "results", "external_data"}
    (answers,) = values["results"].values()
    assert set(values["results"]) == {"--6bJUbfpnQ"}
    assert [answer["label"] for answer in answers] == ["d", "b, c", "a", "e", "f"]
    assert [answer["score"] for answer in answers] == [0.5, 0.25, 0.125, 0.0625, 0.03125]
    twice = manifest("kinetics400", "a/xxxxxxxxxxx_000001_000002.mp4", "b/xxxxxxxxxxx.mp4")
    with pytest.raises(DataError, match=r"a second clip of xxxxxxxxxxx"):
        write_submission(tmp_path / "twice.json", twice, scores("a", "b"))
    assert not (tmp_path / "twice.json").exists()


def test_own_data(tmp_path: Path) -> None:
    rows = manifest("csv", "my, clips/1.mp4", "2.mp4")
    write_submission(tmp_path / "o.csv", rows, scores("bdaef", "a"))
    with (tmp_path / "o.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["path"], first["label"], first["score"]) == (
        "my, clips/1.mp4",
        "b, c",
        "0.500000",
    )
    assert [first[f"label{k}"] for k in range(2, 6)] == ["d", "a", "e", "f"]
    assert (second["path"], second["label"]) == ("2.mp4", "a")


def test_a_background_that_was_added_is_never_named(tmp_path: Path) -> None:
    rows = manifest("jester", "20bn/7.mp4")
    scored = Scores((*LABELS, "background"), (Scored("0", "", np.arange(7.0) / 21),), (1, 1))
    write_submission(tmp_path / "out.csv", rows, scored)
    assert (tmp_path / "out.csv").read_text() == "7;g\n"
    # Where the data have such a class, it may be the answer.
    rows = replace(rows, labels=("a", "background"))
    write_submission(tmp_path / "own.csv", rows, scored)
    assert (tmp_path / "own.csv").read_text() == "7;background\n"


def test_a_run_with_a_background_answers_data_without(tmp_path: Path) -> None:
    recipe = tiny.recipe(steps=1, eval_every=1, augmentation=Augmentation(negatives=0.5))
    train(recipe, tiny.manifest(), tmp_path / "run", quiet=True)
    recogniser = Recogniser.open(tmp_path / "run", what="test")
    assert "background" in recogniser.labels
    rows = replace(tiny.manifest().split("validation"), name="jester")
    assert predict_split(recogniser, rows, tmp_path / "out.csv").is_complete
    assert "background" not in (tmp_path / "out.csv").read_text()


def test_nothing_readable_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 1 clips could be read.*0: not a video"):
        write_submission(tmp_path / "o", manifest("jester", "1"), scores(None))
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


def test_a_run_of_other_classes_is_refused_before_the_work(run: Path, tmp_path: Path) -> None:
    opened = Recogniser.open(run, what="test")
    with pytest.raises(DataError, match=r"knows classes that this data set lacks.*'approach'"):
        predict_split(opened, manifest("jester", "1"), tmp_path / "o")
    with pytest.raises(UsageError, match=r"is a folder; --submission wants a file"):
        predict_split(opened, tiny.manifest().split("test"), tmp_path)


def test_answers_are_those_of_the_scores(run: Path, tmp_path: Path) -> None:
    test = tiny.manifest().split("test")
    recogniser = Recogniser.open(run, what="test", views=(2, 1))
    done = predict_split(recogniser, test, tmp_path / "new" / "o.csv", batch_size=3)
    with done.path.open(newline="") as file:
        answers = [row["label"] for row in csv.DictReader(file)]
    expected = score(recogniser, test)
    labels = load_run(run).labels
    assert answers == [
        labels[int(clip.scores_K.argmax())] for clip in expected.clips if clip.scores_K is not None
    ]


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_clip(tmp_path / "my, clips" / "1.mp4")
    (tmp_path / "2.mp4").write_text("not a video")
    data = tmp_path / "data.csv"
    data.write_text('path,label,split\n"my, clips/1.mp4",,test\n2.mp4,,test\n')
    out = tmp_path / "out.csv"
    command = ["predict", str(run), str(data), "--submission", str(out), "--workers=0"]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{out}: 1/2 clips; skipped: 1 unreadable\n"
    assert shown.err.startswith("videorwkv: skipped: ")
    assert "2.mp4" in shown.err
    assert len(out.read_text().splitlines()) == 2
    data.write_text('path,label,split\n"my, clips/1.mp4",,test\n')
    assert main([*command, "--views=2x2", "--split", "test"]) == 0
    assert capsys.readouterr().err == ""


def test_many_clips_that_are_not_on_disk_are_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_clip(tmp_path / "1.mp4")
    data = tmp_path / "list.txt"
    data.write_text("1.mp4 up\n" + "".join(f"gone {n}.mp4 down\n" for n in range(7)))
    out = tmp_path / "out.csv"
    command = ["predict", str(run), str(data), "--split=all", "--submission", str(out)]
    assert main([*command, "--workers=0", "--validation-share=0"]) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{out}: 1/8 clips; skipped: 7 listed and not on disk\n"
    assert shown.err.count("gone") == 5
    assert "2 more that are not on disk" in shown.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["x.mp4", "--split=test"], "--split needs --submission FILE"),
        (["x.mp4", "--fold=0"], "--fold needs --submission FILE"),
        (["x.mp4", "--workers=0"], "--workers needs --submission FILE"),
        (["x.mp4", "--validation-share=0.2"], "--validation-share needs --submission FILE"),
        (["x.mp4", "--layout=20bn"], "--layout needs --submission FILE"),
        (["x.mp4", "--views=1x3"], "crops are for --submission alone"),
        (["x.mp4", "--views=two"], "wanted temporal x spatial views"),
        ([tiny.MOTION, "more", "--submission=o"], "one data set is wanted, got 2"),
        ([tiny.MOTION, "--submission=o", "--top=3"], "--top does not go with --submission"),
        ([tiny.MOTION, "--submission=o", "--top=0"], "--top does not go with --submission"),
        ([tiny.MOTION, "--submission=o", "--json"], "--json does not go with --submission"),
        ([tiny.MOTION, "--submission=o", "--split=tset"], "no split 'tset'"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], part: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), *arguments]) == 2
    assert part in capsys.readouterr().err
