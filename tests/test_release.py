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


def test_the_recipe_for_conda_asks_for_what_pip_asks_for() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is absent")
    jinja2 = pytest.importorskip("jinja2", reason="Jinja2 is absent")
    rendered = jinja2.Template(text("conda/meta.yaml")).render(PYTHON="python")
    recipe = yaml.safe_load(rendered)
    assert recipe["package"] == {"name": "videorwkv", "version": videorwkv.__version__}
    names = {
        "torch": "pytorch",
        "opencv-python-headless": "py-opencv",
        "matplotlib": "matplotlib-base",
    }
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text("pyproject.toml"), re.M | re.S)
    python = re.search(r'^requires-python = "(.+)"', text("pyproject.toml"), re.M)
    assert block is not None
    assert python is not None
    wanted = {f"python {python[1]}"}
    for name, ranges in re.findall(r'^ +"([\w-]+)([<>=,.\d]+)', block[1], re.M):
        wanted.add(f"{names.get(name, name)} {ranges}")
    assert len(wanted) > 8
    assert set(recipe["requirements"]["run"]) == wanted
    (entry,) = recipe["build"]["entry_points"]
    name, target = entry.split(" = ")
    assert f'\n{name} = "{target}"\n' in text("pyproject.toml")


def test_workflows_build_what_the_project_says() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is absent")
    flow = yaml.safe_load(text(".github/workflows/wheels.yml"))
    lines = [step.get("run", "") for job in flow["jobs"].values() for step in job["steps"]]
    assert any("cibuildwheel --output-dir" in line for line in lines)
    assert "python -m build" in lines
    assert flow["permissions"] == {"contents": "read"}
    assert re.search(
        r'^environment = \{ VIDEORWKV_PREBUILT = "1" \}$', text("pyproject.toml"), re.M
    )


def test_images_are_not_of_root_and_have_no_compiler() -> None:
    stages = re.split(r"^FROM ", text("Dockerfile"), flags=re.MULTILINE)[1:]
    targets = {stage.split()[2]: stage for stage in stages}
    assert {"cpu", "cuda"} <= targets.keys()
    assert "VIDEORWKV_PREBUILT=1" in targets["wheel"]
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
