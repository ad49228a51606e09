"""`run.toml` and `train --config`."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from commands import TRAIN, fails
from safetensors.numpy import load_file

from videorwkv.cli.main import main, make_parser
from videorwkv.cli.options import DATA_OPTIONS
from videorwkv.cli.run_file import RUN_FILE, apply_run_file, write_run_file
from videorwkv.run import recipes
from videorwkv.run.run import read_run


def test_each_run_writes_the_file_that_repeats_it(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tiny.trained(tmp_path / "old", steps=1)
    begun, again = tmp_path / "begun", tmp_path / "again"
    train = [
        "train", str(own_videos), "--init", str(old), "--recipe=handwash", "--steps=2",
        "--validation-share=0.5", "--set=model.image_size=32", "--set=sampling.num_frames=3",
        "--freeze=stem", "--set=batch_size=4", "--set=views=1x1", "--quiet", "--no-baselines",
    ]  # fmt: skip
    assert main([*train, "--out", str(begun)]) == 0
    config = ["train", "--config", str(begun / "run.toml"), "--quiet", "--no-baselines"]
    assert main([*config, "--out", str(again)]) == 0
    one, other = (load_file(folder / "last.safetensors") for folder in (begun, again))
    assert all((one[name] == other[name]).all() for name in one)
    assert read_run(begun).recipe == read_run(again).recipe
    assert read_run(again).init["source"] == str(old)  # type: ignore[index]

    # What stands beside it counts more.
    changed = tmp_path / "changed"
    assert main([*config, "--out", str(changed), "--lr=0.5", "--steps=1"]) == 0
    assert (read_run(changed).recipe.lr, read_run(changed).recipe.steps) == (0.5, 1)
    # A finished run is as it was; another recipe than that of the file is refused.
    assert main([*config, "--out", str(again), "--resume"]) == 0
    capsys.readouterr()
    code, line = fails(capsys, *config, "--out", again, "--resume", "--lr=0.5")
    assert (code, "another lr" in line) == (2, True)


def test_every_option_of_the_data_is_read_again(tmp_path: Path) -> None:
    given = {
        **dict.fromkeys(DATA_OPTIONS, "x"),
        **{"fold": 0, "validation_share": 0.5, "frame_rate": 25.0, "group_by": "none"},
        **{"data": "clips.csv", "decoder": "pyav"},
    }
    command = [word for name, value in given.items() if name != "data"
               for word in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip
    options = make_parser().parse_args(["train", str(given["data"]), *command])
    write_run_file(options, recipes.default(), tmp_path)
    read = make_parser().parse_args(["train", "--config", str(tmp_path / RUN_FILE)])
    assert apply_run_file(read) == recipes.default()
    assert {name: getattr(read, name) for name in given} == given
    # `auto` counts more than the file, too.
    read = make_parser().parse_args(
        ["train", "--config", str(tmp_path / RUN_FILE), "--group-by=auto", "--decoder=auto"]
    )
    apply_run_file(read)
    assert (read.group_by, read.decoder) == ("auto", "auto")


def test_the_file_of_an_attempt_that_came_to_no_checkpoint_is_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_run_file(make_parser().parse_args(["train", "other"]), recipes.default(), run)
    assert main([*TRAIN, "--out", str(run), "--quiet", "--no-baselines"]) == 0
    read = make_parser().parse_args(["train", "--config", str(run / RUN_FILE)])
    noted = apply_run_file(read)
    assert read.data == tiny.MOTION
    assert noted is not None
    assert noted.steps == read_run(run).recipe.steps


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("dta = 'x'\n", "Did you mean 'data'"),
        ("data = 3\n", "data is 3; text is wanted"),
        ("data = 'motion'\nfold = true\n", "a whole number is wanted"),
        ("fold = 1\n", "names no data"),
        ("data = 'motion'\nrecipe = 'handwash'\n", "a table [recipe] is wanted"),
        ("data = 'motion'\n[recipe]\nsteps = 'x'\n", "recipe.steps: got 'x'"),
        ("data = 'motion'\n[recipe]\nstep = 3\n", "Did you mean 'steps'"),
        ("data = \n", "is no TOML"),
    ],
)
def test_a_wrong_file_is_named(
    text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    code, line = fails(capsys, "train", "--config", path, "--out", tmp_path / "run")
    assert (code, part in line) == (2, True), line
    assert not (tmp_path / "run").exists()


def test_data_come_from_somewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "train", "--out", tmp_path / "run")
    assert (code, "which data?" in line) == (2, True)
    code, line = fails(capsys, *TRAIN, "--config", tmp_path / "x.toml", "--out", tmp_path / "run")
    assert (code, "exclude each other" in line) == (2, True)
