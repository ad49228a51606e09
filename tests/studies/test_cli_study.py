from __future__ import annotations

import re
from pathlib import Path

import pytest
import small

from studies import STUDIES, load_study
from videorwkv.cli.main import main

DOCS = Path(__file__).resolve().parents[2] / "docs" / "study" / "README.md"
OPTIONS = [f"--set={change}" for change in small.CHANGES]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)
    assert all(line.endswith("?") for line in lines)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_how_to_read_it(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert study.question.endswith("?")
    assert len(study.reading) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which one"),
        (["ablatoin"], "Did you mean 'ablation'"),
        (["ablation", "--only", "no edge"], "Did you mean 'no edges'"),
        (["all", "--only", "x"], "one study"),
        (["ablation", "--seeds", "0"], "at least 1"),
        (["ablation", "--fold", "0"], "every fold"),
        (["ablation", "--folds", "1,2"], "belong together"),
        (["ablation", "--recipe", "handwsh"], "Did you mean 'handwash'"),
        (["ablation", "--set", "model.egdes=none"], "Did you mean 'edges'"),
        (["ablation", "no/such/folder"], "no/such/folder"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["study", *arguments, f"--runs={tmp_path}", f"--out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_study_of_the_documentation_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DOCS.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (source,) = (block for block in blocks if "STUDY = " in block)
    assert len(source.splitlines()) <= 30
    path = tmp_path / "my_study.py"
    path.write_text(source)
    arguments = ["study", str(path), small.DATA, *OPTIONS, "--seeds=1", "--device=cpu"]
    where = [f"--runs={tmp_path / 'runs'}", f"--out={tmp_path / 'pages'}"]
    assert main([*arguments, "--workers=1", *where]) == 0
    out = capsys.readouterr().out
    assert "Sobel edges" in out
    page = (tmp_path / "pages" / "my_study.md").read_text()
    assert "accuracy, blur 2" in page
    assert "Not thinned." in page


def test_commands_of_the_documentation_parse() -> None:
    import shlex

    from videorwkv.cli.main import make_parser

    lines = re.findall(r"^videorwkv study .*$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        options = make_parser().parse_args(shlex.split(line)[1:])
        assert options.list or options.name == "all" or load_is_possible(options.name)


def load_is_possible(name: str) -> bool:
    return name in STUDIES or name.endswith(".py")


OLD = """
from videorwkv.study import Accuracy, Study, Variant
from videorwkv.study.changes import Blur
from videorwkv.study.page import Section
from videorwkv.study.studies.maps import Maps

assert Section("a", []).title == "a"
STUDY = Study(
    "old",
    question="?",
    variants=(Variant("default"),),
    measures=(Accuracy(), Accuracy(change=Blur(2.0)), Maps(clips=1)),
)
"""
NOTE = r"videorwkv\.study.* is now studies"


def test_a_study_that_imports_the_names_of_before(tmp_path: Path) -> None:
    path = small.study_file(tmp_path, OLD, "old.py")
    with pytest.warns(DeprecationWarning, match=NOTE) as notes:
        study = load_study(path)
    said = {str(note.message) for note in notes}
    assert "videorwkv.study is now studies; the old name goes with version 0.3." in said
    assert any(text.startswith("videorwkv.study.changes is now studies.corrupt") for text in said)
    names = [measure.name for measure in study.measures]
    assert names == ["accuracy", "accuracy, blur 2", "clips drawn"]


def test_the_command_takes_a_study_that_imports_the_names_of_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.study_file(tmp_path, OLD.replace(", Maps(clips=1)", ""), "old.py")
    arguments = ["study", path, small.DATA, *OPTIONS, "--seeds=1", "--workers=1", "--device=cpu"]
    where = [f"--runs={tmp_path / 'runs'}", f"--out={tmp_path / 'pages'}"]
    with pytest.warns(DeprecationWarning, match=NOTE):
        assert main([*arguments, *where]) == 0
    assert (tmp_path / "pages" / "old.md").is_file()
