"""The README can be believed: its commands parse, its code runs, its paths and numbers are true."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from videorwkv import LCRConfig, list_models, load_run, model_config
from videorwkv.cli.info import describe_models
from videorwkv.cli.main import make_parser
from videorwkv.run.recipes import apply_overrides, default

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of one language; "" is those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def shell_lines() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


COMMANDS = [line for line in shell_lines() if line.startswith("videorwkv ")]
PYTHON = blocks("python")


def table(first_column: str) -> Iterator[list[str]]:
    """Cells of the rows below the header that begins with `first_column`, code marks removed."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def test_it_has_what_the_tests_below_look_for() -> None:
    assert len(COMMANDS) >= 12
    assert len(PYTHON) == 2


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    options = make_parser().parse_args(words[1:])
    assert options.command == words[1]
    if options.command == "train":
        apply_overrides(default(options.model or "lcr_tiny"), options.assignments)


def test_scripts_exist() -> None:
    named = set(re.findall(r"\b(?:scripts/(?:demo|test)|runs/\w+\.sh)\b", README))
    assert {"scripts/demo", "scripts/test", "experiments/handwash.sh"} <= named
    for name in named:
        assert os.access(ROOT / name, os.X_OK), f"{name} is missing or can't be executed"
    variants = re.findall(r"`runs/handwash\.sh ([a-z-]+)`", README)
    assert len(variants) == 5
    for variant in variants:
        assert f"[{variant}]=" in (ROOT / "experiments/handwash.sh").read_text(), variant


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    files = [link for link in links if "://" not in link]
    assert "docs/images/prediction.gif" in files
    assert [link for link in files if not (ROOT / link).is_file()] == []


def test_tree_names_what_is_there() -> None:
    tree = next(block for block in blocks("") if block.startswith("videorwkv/\n"))
    folders = [ROOT]
    count = 0
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split()
        for name in names:
            path = folders[depth] / name
            count += 1
            assert path.is_dir() if name.endswith("/") else path.is_file(), line
            folders[depth + 1 :] = [path]
    assert count > 40


@pytest.mark.parametrize("source", PYTHON)
def test_python_compiles(source: str) -> None:
    assert compile(source, "README.md", "exec").co_names


def test_python_interface_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_clip(Path("wave.mp4"))
    tiny.trained(Path("runs/mine"))
    names: dict[str, Any] = {}
    exec(compile(PYTHON[0], "README.md", "exec"), names)
    assert names["logits_BK"].shape == (1, 27)
    assert names["logits_BTK"].shape == (1, 16, 27)
    assert names["prediction"].label in load_run("runs/mine").labels


def test_option_table_is_the_configuration() -> None:
    def shown(config: LCRConfig, name: str) -> str:
        value = getattr(config, name)
        if name == "edge_options":
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    rows = {name: (published, usual) for name, published, usual, _ in table("option")}
    paper, usual = model_config("lcr_paper"), LCRConfig()
    names = [field.name for field in dataclasses.fields(LCRConfig)]
    assert rows == {name: (shown(paper, name), shown(usual, name)) for name in names}


def test_cost_table_is_counted() -> None:
    rows = {row[0]: row[2:] for row in table("preset")}
    assert set(rows) == set(list_models("lcr_*"))
    for cost in describe_models("lcr_*", num_classes=27):
        assert rows[cost["name"]] == [
            str(cost["image_size"]),
            str(cost["frames"]),
            f"{cost['parameters'] / 1e6:.2f}",
            f"{cost['macs_per_frame'] / 1e9:.3f}",
            f"{cost['macs_per_clip'] / 1e9:.2f}",
        ]


def test_every_result_is_filled_in() -> None:
    assert "RESULT:" not in README
