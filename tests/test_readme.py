"""README and pages can be believed: commands parse, code runs, paths and numbers are true."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from markdown_it import MarkdownIt
from markdown_it.token import Token

import videorwkv
from videorwkv import LCRConfig, list_models, load_run, model_config
from videorwkv.cli.info import describe_models
from videorwkv.cli.main import make_parser
from videorwkv.inference.metrics import Evaluation
from videorwkv.models.shipped import SHIPPED
from videorwkv.run.choose import CLOSE_SECONDS, SMALL, WHOLE_SECONDS, choose
from videorwkv.run.recipes import Recipe, apply_overrides, default, recipe

ROOT = Path(__file__).resolve().parents[1]
FILES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "videorwkv/ops/README.md"]
PAGES = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for file in sorted(FILES)
    if "_build" not in file.parts
}
MARKDOWN = MarkdownIt().enable("table")
TOKENS = {name: MARKDOWN.parse(text) for name, text in PAGES.items()}
# What was written down on a day, with the names of that day.
DATED = ("CHANGELOG.md", "LOG.md")


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of one language."""
    return [t.content for t in TOKENS[page] if t.type == "fence" and t.info == language]


def inline(page: str) -> Iterator[Token]:
    """Links, images and code in the text of a page."""
    for token in TOKENS[page]:
        yield from token.children or ()


def shell_lines() -> list[str]:
    lines = [
        line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()
    ]
    return list(dict.fromkeys(line for line in lines if line.strip()))


COMMANDS = [line for line in shell_lines() if line.startswith("videorwkv ")]
# Those that torchrun starts.
COMMANDS += [f"videorwkv {line.split(' -m videorwkv ')[1]}" for line in shell_lines()
             if " -m videorwkv " in line]  # fmt: skip
PYTHON = [
    pytest.param(source, id=f"{page}-{i}")
    for page in PAGES
    for i, source in enumerate(blocks(page, "python"))
]


def table(page: str, first_column: str) -> Iterator[list[str]]:
    """Cells of the rows below the header that begins with `first_column`, code marks removed."""
    lines = PAGES[page].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def test_it_has_what_the_tests_below_look_for() -> None:
    assert len(COMMANDS) >= 100
    assert len(PYTHON) >= 6
    assert len(blocks("README.md", "python")) == 1
    assert len(blocks("docs/python.md", "python")) == 3
    assert len(PAGES) >= 30


def test_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


@cache
def possible(model: str | None) -> list[Recipe]:
    """What `train` may choose: for few clips, and for many."""
    return [choose(tiny.manifest(), model)[0], default(model or "lcr_tiny")]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    for end in (">", "&"):  # what the shell takes for itself
        words = words[: words.index(end)] if end in words else words
    if words[1:] == ["--help"]:
        return
    options = make_parser().parse_args(words[1:])
    assert options.command == words[1]
    if options.command == "train":
        # Without a name the recipe depends on the clips; the options have to fit all that may come.
        bases = [recipe(options.recipe)] if options.recipe else possible(options.model)
        for base in bases:
            apply_overrides(base, options.assignments)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_shell_parses(page: str) -> None:
    text = "\n".join(blocks(page, "bash"))
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_scripts_exist() -> None:
    named = set()
    for text in PAGES.values():
        pattern = r"\b(?:scripts/(?:demo|test)|(?:experiments|benchmarks|runs)/\w+\.sh)\b"
        named |= set(re.findall(pattern, text))
    assert {"scripts/demo", "scripts/test", "experiments/handwash.sh"} <= named
    assert "benchmarks/bench.sh" in named
    for name in named:
        assert os.access(ROOT / name, os.X_OK), f"{name} is missing or can't be executed"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_variants_exist(page: str) -> None:
    variants = re.findall(r"`experiments/handwash\.sh ([a-z-]+)`", PAGES[page])
    assert len(variants) >= 5
    for variant in variants:
        assert f"[{variant}]=" in (ROOT / "experiments/handwash.sh").read_text(), variant


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = [t.attrs["href"] for t in inline(page) if t.type == "link_open"]
    links += [t.attrs["src"] for t in inline(page) if t.type == "image"]
    files = [str(link).partition("#")[0] for link in links if "://" not in str(link)]
    if page == "README.md":
        assert "docs/images/prediction.gif" in files
    here = (ROOT / page).parent
    assert [file for file in files if file and not (here / file).is_file()] == []
    assert [file for file in files if file.endswith(".html")] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in DATED])
def test_paths_in_the_text_exist(page: str) -> None:
    tops = ("videorwkv", "studies", "benchmarks", "experiments", "scripts", "tests", "docs")
    code = [t.content for t in inline(page) if t.type == "code_inline"]
    paths = [text.split()[0] for text in code if re.match(rf"(?:{'|'.join(tops)})/[\w./-]+", text)]
    made = ("docs/_build",)
    assert [path for path in paths if not (ROOT / path).exists() and path not in made] == []


def test_tree_names_what_is_there() -> None:
    trees = [b for b in blocks("docs/house.md", "text") if b.startswith("videorwkv/\n")]
    folders = [ROOT]
    count = 0
    for line in trees[0].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split()
        for name in names:
            path = folders[depth] / name
            count += 1
            assert path.is_dir() if name.endswith("/") else path.is_file(), line
            folders[depth + 1 :] = [path]
    assert count > 40


def test_tree_names_every_room() -> None:
    tree = next(b for b in blocks("docs/house.md", "text") if b.startswith("videorwkv/\n"))
    rooms = {file.parent.name for file in (ROOT / "videorwkv").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))


def test_reference_has_every_public_name() -> None:
    pattern = r"^\.\. auto(?:class|function|exception):: videorwkv\.(\w+)$"
    named = set(re.findall(pattern, PAGES["docs/api.md"], re.MULTILINE))
    assert named == {name for name in dir(videorwkv) if not name.startswith("_")}


@pytest.mark.parametrize("source", PYTHON)
def test_python_compiles(source: str) -> None:
    assert compile(source, "README.md", "exec").co_names


@pytest.fixture
def run_beside_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_clip(Path("wave.mp4"))
    tiny.trained(Path("runs/mine"))


@pytest.mark.usefixtures("run_beside_clip")
def test_python_interface_runs() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("docs/python.md", "python")[0], "python.md", "exec"), names)
    assert names["logits_BK"].shape == (1, 27)
    assert names["logits_BTK"].shape == (1, 16, 27)
    assert names["prediction"].label in load_run("runs/mine").labels


def test_training_in_python_starts_as_the_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(b for b in blocks("docs/python.md", "python") if "choose(" in b)
    source = source.replace("my_videos", "gestures:train=4,validation=2,test=2,size=32")
    begun: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        videorwkv, "train", lambda recipe, data, out, init: begun.append((recipe, init))
    )
    monkeypatch.setattr(videorwkv, "evaluate", lambda run, data: Evaluation((), ()))
    exec(compile(source, "python.md", "exec"), {})
    ((recipe, init),) = begun
    assert (recipe.batch_size, init) == (8, "scenes")


def test_own_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("left", "right"):
        for n in range(3):
            tiny.write_clip(Path(f"my_videos/{label}/{n}.mp4"), flipped=label == "left")
    names: dict[str, Any] = {}
    exec(compile(blocks("docs/own_loop.md", "python")[0], "own_loop.md", "exec"), names)
    assert torch.isfinite(names["loss"])


@pytest.mark.usefixtures("run_beside_clip")
def test_readme_runs() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), names)
    assert names["logits_BK"].shape == (1, 27)
    assert names["prediction"].label in load_run("runs/mine").labels


@pytest.mark.usefixtures("run_beside_clip")
def test_live_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    source = next(b for b in blocks("docs/python.md", "python") if "stream(" in b)
    exec(compile(source, "python.md", "exec"), {})
    assert re.match(r"\d+\.\d\d \w+\n", capsys.readouterr().out)


def test_rules_of_the_choice_are_those_of_the_code() -> None:
    rules = {row[0]: row[1] for row in table("docs/training.md", "what is looked at")}
    number, length, start, close, shape = rules.values()
    assert all(f"`{name}`" in start for name in SHIPPED)
    assert f"{CLOSE_SECONDS:g} seconds apart" in close
    assert set(re.findall(r"[\d,]*\d", number)) == {f"{SMALL:,}"}
    assert f"at most {WHOLE_SECONDS:g} seconds" in length
    assert "frame_fit" in shape


def test_option_table_is_the_configuration() -> None:
    def shown(config: LCRConfig, name: str) -> str:
        value = getattr(config, name)
        if name == "edge_options":
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    rows = {
        name: (published, usual) for name, published, usual, _ in table("docs/model.md", "option")
    }
    paper, usual = model_config("lcr_paper"), LCRConfig()
    names = [field.name for field in dataclasses.fields(LCRConfig)]
    assert rows == {name: (shown(paper, name), shown(usual, name)) for name in names}


def test_cost_table_is_counted() -> None:
    rows = {row[0]: row[2:] for row in table("docs/model.md", "preset")}
    assert set(rows) == set(list_models("lcr_*"))
    for cost in describe_models("lcr_*", num_classes=27):
        assert rows[cost["name"]] == [
            str(cost["image_size"]),
            str(cost["frames"]),
            f"{cost['parameters'] / 1e6:.2f}",
            f"{cost['macs_per_frame'] / 1e9:.3f}",
            f"{cost['macs_per_clip'] / 1e9:.2f}",
        ]
