from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from videorwkv.cli.main import main
from videorwkv.data.load import load_manifest
from videorwkv.inference.recogniser import load_run
from videorwkv.run.choose import choose
from videorwkv.run.recipes import apply_overrides, default
from videorwkv.training.setup import for_data

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["train", tiny.MOTION, *tiny.OPTIONS, "--steps=2", "--quiet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def own_videos(tmp_path: Path) -> Path:
    root = tmp_path / "my videos"
    for label, level in (("wave, left", 0), ("stand still", 60)):
        for n in range(4):
            tiny.write_clip(root / label / f"clip {n}.mp4", level=level)
    return root


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    code = main([str(a) for a in arguments])
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    lines = shown.splitlines()
    assert len(lines) == 1, shown
    assert lines[0].startswith("videorwkv: error: ")
    return code, lines[0]


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
    assert (code, "trained with steps=2; now epochs=3. Give --set steps=2" in line) == (
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
        wanted, why = choose(manifest, model) if "default" not in name else (default(), "")
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


def test_evaluations_do_not_overwrite_each_other(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    evaluate = [tiny.MOTION, "--workers=0", "--json"]
    for model, options, name in (
        (folder, [], ""),
        (folder / "best", ["--views=1x1"], ""),
        (folder / "last", [], "-last"),
        (folder, ["--views=2x1", "--tube-mask=0.5"], "-views-2x1-tube-mask-0.5"),
        (folder, ["--motion-mask=0.5"], "-motion-mask-0.5"),
    ):
        out = folder / f"evaluation-validation{name}"
        shutil.rmtree(out, ignore_errors=True)
        assert main(["evaluate", str(model), *evaluate, *options]) == 0
        assert (out / "evaluation.json").is_file()
    (folder / "best.safetensors").unlink()
    assert load_run(folder / "last").results("test").name == "evaluation-test"


# What a new user gets wrong: each ends in one line and a code, 2 for wrong use, 1 otherwise.


def test_a_command_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    for words, hint in ((["evalute"], "evaluate"), (["data", "chekc"], "check"), (["xyz"], "")):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        end = f". Did you mean '{hint}'?\n" if hint else ")\n"
        assert capsys.readouterr().err.endswith(end)


def test_missing_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "predict", run, "wvae.mp4")
    assert code == 1
    assert "wvae.mp4" in line
    assert "no such file" in line


def test_text_file_called_mp4(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("hello\n")
    code, line = fails(capsys, "predict", run, tmp_path / "text.mp4")
    assert code == 1
    assert "text.mp4" in line


def test_annotated_video_that_can_not_be_written(
    run: Path, own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clip = own_videos / "wave, left" / "clip 0.mp4"
    out = tmp_path / "out.mp4"
    assert main(["predict", str(run), str(clip), "--save", str(out)]) == 0
    assert f"Written to {out}" in capsys.readouterr().out.replace("\n", "")

    def full(*arguments: object) -> None:
        raise OSError(28, "No room")

    monkeypatch.setattr("videorwkv.inference.annotate.write_video", full)
    monkeypatch.setenv("COLUMNS", "300")  # the path on one line, however long it is
    code = main(["predict", str(run), str(clip), "--save", str(out)])
    shown = capsys.readouterr()
    assert (code, "Written to" in shown.out, "wave, left" in shown.out) == (1, False, True)
    assert shown.err.startswith(f"videorwkv: error: The annotated video {out} was not written: ")


def test_one_bad_file_among_good_ones(
    run: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_videos / "broken.mp4").write_text("hello\n")
    code = main(["predict", str(run), str(own_videos), "--json"])
    shown = capsys.readouterr()
    assert code == 1
    assert len(shown.out.splitlines()) == 9
    assert shown.err.count("videorwkv: error:") == 1


@pytest.mark.parametrize("command", ["train", "predict"])
def test_empty_folder(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["predict", run, empty] if command == "predict" else ["train", empty]
    code, line = fails(capsys, *arguments)
    assert code == (2 if command == "predict" else 1)
    assert str(empty) in line


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
    code, line = fails(capsys, "train", tmp_path / "videos", "--out", tmp_path / "run", "--quiet")
    assert (code, "at least two classes" in line) == (1, True)


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


def test_unknown_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["tran"], ["train", "motion", "--epoch=1x", "--nonsense"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_unknown_label(run: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "evaluate", run, own_videos)
    assert code == 1
    assert "unknown label 'stand still'" in line


@pytest.mark.parametrize("arguments", [["--split=tset"], ["--views=2"], ["--views=0x1"]])
def test_wrong_evaluation_options(
    arguments: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = fails(capsys, "evaluate", run, tiny.MOTION, *arguments)
    assert code == 2
    assert arguments[0].partition("=")[2] in line


def test_crops_of_a_stretched_frame_are_refused_before_any_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["model"]["frame_fit"] = "stretch"
    (folder / "config.json").write_text(json.dumps(config))
    code, line = fails(
        capsys, "evaluate", folder, tiny.MOTION, "--views=2x3", f"--out={tmp_path / 'out'}"
    )
    assert code == 2
    assert "--views: views 2x3" in line
    assert "as in 2x1" in line
    assert not (tmp_path / "out").exists()


def test_a_place_for_results_that_is_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        sys.modules["videorwkv.inference.evaluate"], "score", None
    )  # it is not asked
    code, line = fails(capsys, "evaluate", run, tiny.MOTION, f"--out={tmp_path / 'file'}")
    assert (code, "the folder can't be made (File exists)" in line) == (2, True)


def test_no_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "predict", run.parent / "tinyy", "x.mp4")
    assert (code, "Did you mean 'tiny'" in line) == (2, True)
    code, line = fails(capsys, "evaluate", tmp_path, tiny.MOTION)
    assert (code, "config.json" in line) == (1, True)


def test_checkpoint_of_another_shape(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    weights = load_file(other / "best.safetensors")
    weights["head.bias"] = np.zeros(5, np.float32)
    save_file(weights, other / "best.safetensors")
    code, line = fails(capsys, "predict", other, tiny.write_clip(tmp_path / "clip.mp4"))
    assert code == 1
    assert "'head.bias' has shape [5], the model needs [8]" in line
    (other / "best.safetensors").write_bytes(b"cut off")
    code, line = fails(capsys, "predict", other, tmp_path / "clip.mp4")
    assert (code, "best.safetensors" in line) == (1, True)


def test_a_folder_that_can_not_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, line = fails(capsys, *TRAIN, "--out", tmp_path / "file" / "run")
    assert (code, "the folder can't be made" in line) == (2, True)
    assert str(tmp_path / "file") in line


def test_commands_beside_the_package_say_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("videorwkv.cli.beside.ROOT", tmp_path)
    for words in (["study", "--list"], ["bench"], ["data", "bench", "x", "--train", "--frames=3"]):
        assert main(words) == 2
        assert "In a clone, `pip install -e .`" in capsys.readouterr().err
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0
        assert "repository of videorwkv beside the package" in capsys.readouterr().out


def test_traceback_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--traceback", "train", "none"], ["train", "none", "--traceback"]):
        with pytest.raises(Exception, match="no such file"):
            main(arguments)


def test_ctrl_c_ends_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from videorwkv.training import loop

    real = loop.train

    def interrupted(*arguments: object, **options: object) -> object:
        def on_step(step: int) -> None:
            raise KeyboardInterrupt

        return real(*arguments, **options, on_step=on_step)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train", interrupted)
    command = [*TRAIN, "--out", str(tmp_path / "run")]
    assert main(command) == 130
    hint = capfd.readouterr().err.splitlines()[-1]
    monkeypatch.undo()
    words = shlex.split(hint.partition("Resume with: ")[2])
    assert words[0] == "videorwkv"
    assert main(words[1:]) == 0
    assert "2 of 2 steps" in capfd.readouterr().out


def test_ctrl_c_while_pytorch_is_imported() -> None:
    code = (
        "import sys\n"
        "from videorwkv.cli.main import main\n"
        "class Torch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Torch())\n"
        "sys.exit(main(['predict', 'runs/none', 'clip.mp4']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (130, "videorwkv: interrupted\n")
    assert 'videorwkv = "videorwkv.cli.main:main"' in (ROOT / "pyproject.toml").read_text()


HELP = """
import contextlib, io, sys
from videorwkv.cli.main import main
for command in ([], *map(str.split, sys.argv[1:])):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
        main([*command, "--help"])
    assert said.getvalue().startswith("usage: videorwkv"), command
print(sorted({"torch", "numpy", "cv2", "av", "rich", "matplotlib"} & set(sys.modules)))
"""


def test_help_of_every_command_loads_no_torch() -> None:
    commands = ("demo", "train", "evaluate", "predict", "stream", "export", "bench", "study",
                "data", "data prepare", "data check", "data bench", "models", "env")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", HELP, *commands], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_env_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {"videorwkv", "python", "torch", "av", "opencv", "numpy", "cpu", "gpu", "scan"} <= set(
        values
    )
    assert main(["models", "lcr_nano", "--classes=27", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["classes"] == 27
    assert row["flops_per_clip"] == 2 * row["macs_per_clip"]
    code, line = fails(capsys, "models", "lcr_nanno")
    assert (code, "Did you mean 'lcr_nano'" in line) == (2, True)


@pytest.mark.parametrize("command", ["demo", "train", "evaluate", "predict", "models", "env"])
def test_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"examples:\n  videorwkv {command}" in capsys.readouterr().out


def test_help_draws_and_logs_nothing() -> None:
    code = (
        "import sys; from videorwkv.cli.main import make_parser; make_parser().format_help();"
        "print([m for m in ('matplotlib', 'rich', 'tensorboard') if m in sys.modules])"
    )
    # An own interpreter: here they may be loaded already.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def closed_pipe() -> int:
    """The end to write into of a pipe whose reader has gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_closed_pipe_is_no_error() -> None:
    with open(closed_pipe(), "w") as stdout:
        command = [sys.executable, "-m", "videorwkv.cli.main", "env"]
        done = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_is_no_error_of_a_table(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Closed by Python at its end, which would complain.
    with open(closed_pipe(), "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert main(["models", "lcr_nano"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_no_utf8_is_shown(
    run: Path,
    tmp_path: Path,
    encoding: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = os.fsdecode(b"\xff\xc3\xa9.mp4")
    clip = tiny.write_clip(tmp_path / "clip.mp4").rename(tmp_path / name)
    monkeypatch.setenv("COLUMNS", "200")

    def shown(*more: str) -> bytes:
        # As Python opens it with PYTHONIOENCODING=ascii:strict, say.
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            assert main(["predict", str(run), str(clip), *more]) == 0
        return stdout.buffer.getvalue()

    assert b"\\udcff" in shown()
    assert json.loads(shown("--json").decode())["path"] == str(clip)
    assert capfd.readouterr().err == ""


def test_what_nobody_foresaw_is_one_line() -> None:
    code = (
        "import sys; from videorwkv.cli import info, main; sys.argv = ['videorwkv', 'env'];"
        "info.run_env = lambda options: 1 // 0; sys.exit(main.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("videorwkv: internal error: ZeroDivisionError")
    assert len(done.stderr.splitlines()) == 1
