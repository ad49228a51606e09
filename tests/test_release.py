"""What a release has to keep the same in several places."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import videorwkv

ROOT = Path(__file__).resolve().parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    project = re.search(r'^version = "(.+)"$', text("pyproject.toml"), re.MULTILINE)
    citation = re.search(r"^version: (.+)$", text("CITATION.cff"), re.MULTILINE)
    assert project is not None
    assert citation is not None
    assert project[1] == citation[1] == videorwkv.__version__


def test_citation_is_that_of_the_readme() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is absent")
    values = yaml.safe_load(text("CITATION.cff"))
    assert values["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= values.keys()
    paper, readme = values["preferred-citation"], text("README.md")
    assert f"{{{paper['title']}}}" in readme
    authors = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert f"{{{' and '.join(authors)}}}" in readme
    assert str(paper["year"]) in readme
    assert "2411.05636" in paper["url"]
    assert values["license"] in text("pyproject.toml")


def test_images_are_not_of_root_and_have_no_compiler() -> None:
    stages = re.split(r"^FROM ", text("Dockerfile"), flags=re.MULTILINE)[1:]
    targets = {stage.split()[2]: stage for stage in stages}
    assert {"cpu", "cuda"} <= targets.keys()
    for name in ("cpu", "cuda"):
        assert re.findall(r"^USER (.+)$", targets[name], re.MULTILINE) == ["1000:1000"], name
        assert not re.search(r"\b(gcc|clang|build-essential|apt-get)\b", targets[name])
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text("Dockerfile"), re.MULTILINE)
    files = {file for line in copied for file in line.split()}
    assert "videorwkv" in files
    # What is copied exists, and is not left out of what Docker is given.
    kept = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    assert files <= kept
    assert all((ROOT / file).exists() for file in kept)
