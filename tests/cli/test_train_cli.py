"""`videorwkv train`, and what follows it on a user's own videos."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import tiny
from commands import TRAIN, fails

from videorwkv.cli.main import main, make_parser
from videorwkv.data.load import load_manifest
from videorwkv.inference.recogniser import load_run
from videorwkv.run.choose import choose
from videorwkv.run.recipes import apply_overrides, default
from videorwkv.training.setup import for_data


def test_train_evaluate_predict_on_own_videos(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    train = ["train", str(own_videos), "--out", out, *tiny.OPTIONS, "--epochs=2", "--quiet"]
    assert main(train) == 0
    assert "of 2 steps, best validation top-1" in capsys.readouterr().out
    assert main(["evaluate", out, str(own_videos), "--workers=0"]) == 0
    shown = capsys.readouterr().out
    assert "clips read 2/2" in shown
    assert "wave, left" in shown
    assert (tmp_path / "run/evaluation-validation/evaluation.json").is_file()
    assert main(["evaluate", out, str(own_videos), "--split=all", "--views=2x1", "--json",
                 "--workers=0"]) == 0  # fmt: skip
    values = json.loads(capsys.readouterr().out)
    assert (values["n_total"], values["views"]) == (8, [2, 1])
    assert (tmp_path / "run/evaluation-all-views-2x1/evaluation.json").is_file()
    assert main(["predict", f"{out}/last", str(own_videos), "--json", "--top=1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8
    assert {line["labels"][0] for line in lines} <= {"wave, left", "stand still"}


def test_csv_with_commas_and_blanks(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["path,label,split"]
    for label in ("wave, left", "stand still"):
        lines += [f'"{label}/clip {n}.mp4","{label}",train' for n in range(4)]
    (own_videos / "list.csv").write_text("\n".join(lines))
    out = tmp_path / "run"
    assert main(["train", str(own_videos / "list.csv"), "--out", str(out), *tiny.OPTIONS,
                 "--steps=1", "--quiet"]) == 0  # fmt: skip
    assert json.loads((out / "config.json").read_text())["labels"] == ["stand still", "wave, left"]


def test_resume_takes_the_runs_own_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main([*TRAIN, *out]) == 0
    code, line = fails(capsys, *TRAIN, *out)
    assert code == 2
    assert "--resume" in line
    assert main(["train", tiny.MOTION, *out, "--resume", "--quiet"]) == 0
    assert "2 of 2 steps" in capsys.readouterr().out
    code, line = fails(capsys, "train", tiny.MOTION, *out, "--resume", "--quiet", "--lr=0.5")
    assert (code, "another lr" in line) == (2, True)
    code, line = fails(capsys, *TRAIN[:-2], *out, "--resume", "--quiet", "--epochs=3")
    assert (code, "trained with steps=2; now epochs=3. Resume it with --steps 2" in line) == (
        2, True,
    )  # fmt: skip


# What makes a step of the chosen recipe cheap.
CHEAP = ["steps=1", "batch_size=4", "workers=0", "model.image_size=32", "model.readout_cells=2"]


def test_a_recipe_is_chosen_and_said(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    manifest = load_manifest(str(own_videos))
    train = ["train", str(own_videos), *(f"--set={change}" for change in CHEAP)]
    for name, options, said in (
        ("my videos", [], True),
        ("my videos-lcr_nano", ["--model=lcr_nano"], True),
        ("my videos-default", ["--recipe=default"], False),
        ("quiet", ["--quiet", "--out=runs/quiet"], False),
    ):
        assert main([*train, "--no-baselines", *options]) == 0
        shown = capsys.readouterr()
        model = "lcr_nano" if "nano" in name else None
        wanted, why, _ = choose(manifest, model) if "default" not in name else (default(), "", None)
        assert "recipe" not in shown.out
        lines = [line for line in shown.err.splitlines() if line.startswith("recipe")]
        assert lines == ([why] if said else [])
        wanted = for_data(apply_overrides(wanted, CHEAP), manifest)
        assert load_run(f"runs/{name}").recipe == wanted
    assert "6 clips of 1.0 to 1.0 s, mostly of 64x48" in choose(manifest)[1]


def test_a_folder_that_holds_a_run_is_refused_before_a_recipe_is_chosen(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", tmp_path / "file"
    run.mkdir()
    (run / "last.safetensors").touch()
    file.touch()
    for out, said in ((run, "holds a run already (last.safetensors)"), (file, "is a file")):
        assert main(["train", str(own_videos), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()  # no line that says a recipe
        assert said in line


def test_a_resumed_run_chooses_nothing(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = ["--out", str(tmp_path / "run"), "--no-baselines"]
    changes = [f"--set={change}" for change in CHEAP]
    assert main(["train", str(own_videos), *out, "--model=lcr_nano", *changes]) == 0
    assert load_run(tmp_path / "run").recipe.model.frame_fit == "stretch"
    capsys.readouterr()
    monkeypatch.setattr("videorwkv.run.choose.choose", None)  # it is not asked
    for options in ([], ["--model=lcr_nano", *changes]):
        assert main(["train", str(own_videos), *out, *options, "--resume"]) == 0
        shown = capsys.readouterr()
        assert "1 of 1 steps" in shown.out
        assert "recipe" not in shown.err
    code, line = fails(capsys, "train", own_videos, *out, "--model=lcr_tiny", *changes, "--resume")
    assert (code, "another model" in line) == (2, True)


def test_folds_choose_the_test_split(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    folds = ["--fold-by", r"clip (\d)", "--folds", "0+1,2+3", "--fold", "1"]
    train = ["train", str(own_videos), "--out", str(out), *tiny.OPTIONS, "--steps=1", "--quiet"]
    assert main([*train, *folds]) == 0
    splits = json.loads((out / "config.json").read_text())["data"]["splits"]
    assert splits == {"train": 4, "test": 4}
    other = tmp_path / "other"
    shutil.copytree(own_videos, other)
    tiny.write_clip(other / "wave, left" / "clip 9.mp4")
    for data, options, said in (
        (own_videos, folds, False),
        (own_videos, [*folds[:-1], "0"], True),
        (other, ["--split=validation"], False),  # later options win
    ):
        capsys.readouterr()
        split = ["--split=test", "--workers=0", *options]
        assert main(["evaluate", str(out), str(data), *split]) == 0
        assert ("split in another way" in capsys.readouterr().err) == said
    code, line = fails(capsys, *train, "--fold=1")
    assert (code, "belong together" in line) == (2, True)
    code, line = fails(capsys, *train, *folds[:-1], "2")
    assert (code, "0 to 1" in line) == (2, True)


def test_missing_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "train", tmp_path / "none")
    assert (code, "no such file or folder" in line) == (2, True)


def test_a_class_with_one_clip_trains_and_is_noted(
    own_videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny.write_clip(own_videos / "jump" / "only.mp4")
    train = ["train", str(own_videos), "--out", str(tmp_path / "run"), *tiny.OPTIONS, "--steps=1"]
    assert main(train) == 0
    assert "class 'jump' has one clip" in capfd.readouterr().err


def test_a_single_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_clip(tmp_path / "videos" / "jump" / "only.mp4")
    (tmp_path / "videos" / "wave").mkdir()
    (tmp_path / "videos" / "wave" / "clip.txt").write_text("no video")
    code, line = fails(capsys, "train", tmp_path / "videos", "--out", tmp_path / "run", "--quiet")
    assert (code, "at least two classes" in line) == (1, True)
    assert "wave: 1 skipped, neither a video" in line


def test_bad_csv_row_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.mp4,wave\nb.mp4,wave,left\n")
    code, line = fails(capsys, "train", path)
    assert code == 1
    assert f"{path}:3:" in line


def test_a_file_that_is_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    code, line = fails(capsys, "train", tmp_path / "notes.txt")
    assert (code, "notes.txt:1: 'hello' is not a row of a list" in line) == (1, True)
    (tmp_path / "notes.md").write_text("hello")
    code, line = fails(capsys, "train", tmp_path / "notes.md")
    assert (code, "folder per class" in line) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--model=lcr_tinny"], "Did you mean 'lcr_tiny'"),
        (["--recipe=handwsh"], "Did you mean 'handwash'"),
        (["--set=model.edgs=sobel"], "Did you mean 'edges'"),
        (["--set=model.edges=sobl"], "Did you mean 'sobel'"),
        (["--set=model.width=wide"], "a whole number"),
        (["--set=model.width"], "key=value"),
        (["--set=model.image_size=100"], "patch_size"),
        (["--lr=fast"], "a number"),
        (["--lr=nan"], "lr: got nan; allowed: a finite number"),
        (["--set=weight_decay=inf"], "weight_decay: got inf; allowed: a finite number"),
        (["--epochs=0"], "at least 1"),
        (["--precision=half"], "bfloat16"),
        (["--device=tpu9"], "tpu9"),
        (["--device=cuda:99"], "cuda:99"),
        (["--set=model.cell=papr"], "Did you mean 'paper'"),
    ],
)
def test_wrong_options(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ["--quiet"] if "--device" in arguments[0] else []  # found once a recipe is chosen
    code, line = fails(capsys, "train", tiny.MOTION, "--out", tmp_path / "run", *arguments, *quiet)
    assert code == 2
    assert part in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_can_not_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, line = fails(capsys, *TRAIN, "--out", tmp_path / "file" / "run")
    assert (code, "the folder can't be made" in line) == (2, True)
    assert str(tmp_path / "file") in line


def test_ctrl_c_ends_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from videorwkv.training import loop

    real = loop.train

    def interrupted(*arguments: object, **options: object) -> object:
        def on_step(step: int) -> None:
            raise KeyboardInterrupt

        return real(*arguments, **{**options, "on_step": on_step})  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train", interrupted)
    command = [*TRAIN, "--out", str(tmp_path / "run")]
    assert main(command) == 130
    hint = capfd.readouterr().err.splitlines()[-1]
    monkeypatch.undo()
    words = shlex.split(hint.partition("Resume with: ")[2])
    assert words[0] == "videorwkv"
    assert main(words[1:]) == 0
    assert "2 of 2 steps" in capfd.readouterr().out


def test_what_to_do_next_is_said_and_works(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my run"
    folds = ["--fold-by", r"clip (\d)", "--folds", "0+1,2+3", "--fold", "1"]
    train = ["train", str(own_videos), "--out", str(run), *tiny.OPTIONS, "--steps=1", *folds]
    assert main(train) == 0
    lines = capsys.readouterr().err.splitlines()
    said = [shlex.split(line, comments=True) for line in lines[lines.index("Next:") + 1 :]]
    assert [words[:3] for words in said] == [
        ["videorwkv", command, str(run)] for command in ("evaluate", "predict", "stream", "export")
    ]
    for words in said:
        make_parser().parse_args(words[1:])
    assert main([*said[0][1:], "--workers=0"]) == 0  # on the test split: there is no validation
    assert "clips read 4/4" in capsys.readouterr().out
    assert main([*train, "--quiet", "--out", str(tmp_path / "quiet")]) == 0
    assert capsys.readouterr().err == ""
