"""The command line as a whole: help, exit codes, pipes, and the commands that only tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, fails

import videorwkv
from videorwkv.cli.main import main, make_parser
from videorwkv.cli.output import grouped_notes


def test_a_command_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    for words, hint in ((["evalute"], "evaluate"), (["data", "chekc"], "check"), (["xyz"], "")):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        end = f". Did you mean '{hint}'?\n" if hint else ")\n"
        assert capsys.readouterr().err.endswith(end)


def test_unknown_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["tran"], ["train", "motion", "--epoch=1x", "--nonsense"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


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


def test_traceback_on_request_changes_no_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--traceback", "train", "none"], ["train", "none", "--traceback"]):
        assert main(arguments) == 2 == main(["train", "none"])
        shown = capsys.readouterr().err
        assert shown.startswith("Traceback (most recent call last)")
        assert "videorwkv: error: " in shown.splitlines()[-1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"videorwkv {videorwkv.__version__}\n"


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        ("stream RUN 0", "--half", "--precision bfloat16"),
        ("study edges", "--jobs 3", "--workers 3"),
        ("bench", "--batch 3", "--batch-size 3"),
    ],
)
def test_old_spellings_work_and_say_the_new_one(
    words: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = make_parser()
    wanted = vars(parser.parse_args(f"{words} {new}".split()))
    assert capsys.readouterr().err == ""
    assert vars(parser.parse_args(f"{words} {old}".split())) == wanted
    # What takes a value is named without one.
    now = new if " " not in old else new.split()[0]
    assert f"note: {old.split()[0]} is now {now};" in capsys.readouterr().err
    assert vars(parser.parse_args(words.split())) != wanted
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args([words.split()[0], "--help"])
    assert old.split()[0] not in capsys.readouterr().out.split()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "fast"])
@pytest.mark.parametrize("words", ["stream RUN 0 --smooth", "evaluate RUN DATA --clip-timeout"])
def test_what_is_no_finite_number(
    words: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(f"{words}={text}".split())
    assert f"got {text!r}; allowed: a finite number" in capsys.readouterr().err


def test_notes_of_one_kind_are_one_line() -> None:
    notes = [f"c{n}.mp4: incomplete: {n} of 9 frames can be decoded" for n in range(3)]
    short = "a: b.mp4: too short for 3 temporal views; some are equal"
    grouped = grouped_notes([notes[0], short, *notes[1:]])
    assert grouped == [f"{notes[0]} (and 2 more clips like it)", short]


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


def test_what_nobody_foresaw_is_one_line() -> None:
    code = (
        "import sys; from videorwkv.cli import info, main; sys.argv = ['videorwkv', 'env'];"
        "info.run_env = lambda options: 1 // 0; sys.exit(main.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("videorwkv: internal error: ZeroDivisionError")
    assert len(done.stderr.splitlines()) == 1


OWN = """
from dataclasses import replace
from videorwkv.models import LCRConfig, model_config, register_model
from videorwkv.preprocess.edges import register_edges
from videorwkv.run.recipes import motion_demo, register_recipe

@register_edges
def inverted(grey_HW, options):
    return 255 - grey_HW

@register_model
def my_model() -> LCRConfig:
    return model_config("lcr_nano", image_size=32, patch_size=8, depth=1, edges="inverted")

@register_recipe
def my_recipe():
    return replace(motion_demo(), model=my_model(), steps=2, batch_size=4, workers=0)
"""


def test_presets_recipes_and_edges_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("x = 1\nx.y\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        # A process of its own: what is registered stays.
        command = [sys.executable, "-m", "videorwkv.cli.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    train = ("train", "motion:train=16,validation=4,test=4,size=32,frames=8", "--out=run")
    done = run("--import", "own.py", *train, "--recipe=my_recipe", "--quiet", "--no-baselines")
    assert "2 of 2 steps" in done.stdout, done.stderr
    assert "my_model" in run("models", "my_*", "--import=own.py").stdout
    data = train[1]
    assert run("evaluate", "run", data, "--import=own.py", "--workers=0").returncode == 0
    done = run("evaluate", "run", data)
    assert "A method of your own is registered first: register_edges" in done.stderr
    done = run("models", "--import=broken.py")
    assert (done.returncode, "broken.py, line 2: AttributeError" in done.stderr) == (2, True)
    done = run("models", "--import=none.py")
    assert (done.returncode, "wanted a Python file" in done.stderr) == (2, True)
