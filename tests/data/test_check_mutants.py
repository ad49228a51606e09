"""Forty ruined clips: the check lives and sees nearly all. `benchmarks/mutants.py` has more."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from clip_files import make

from videorwkv.data.check import check
from videorwkv.data.manifest import Row, make_manifest

SOURCES = ("index_first.mp4", "index_last.mp4", "clip.mkv", "vp9.webm", "clip.avi")


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks/mutants.py"
    spec = importlib.util.spec_from_file_location("benchmarks_mutants", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses and the like look for it.
    sys.modules["benchmarks_mutants"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [make(tmp_path, name, 30) for name in SOURCES]


def test_the_check_survives_and_tells(
    mutants: ModuleType, sources: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "mutants"
    folder.mkdir()
    originals = mutants.make_mutants(sources, folder, 40, seed=0)
    names = [*originals, *(path.name for path in sources)]
    rows = [Row(str(folder / name), "clip", "train") for name in originals]
    rows += [Row(str(path), "clip", "train") for path in sources]
    report = check(make_manifest("mutants", rows, root=""), tmp_path / "out", workers=2, timeout=60)
    found = dict(zip(names, (clip.finding for clip in report.clips), strict=True))
    outcomes = Counter(
        mutants.outcome(found[name], found[path.name]) for name, path in originals.items()
    )
    assert {found[path.name].verdict for path in sources} == {"ok"}
    assert report.verdicts.keys() & {"crashed", "timed out"} == set()
    assert outcomes.total() == 40
    assert outcomes["silent"] <= 4
    assert outcomes["truncated"] >= 5
    assert outcomes["damaged"] >= 5


def test_mutants_repeat_and_differ(mutants: ModuleType, sources: list[Path]) -> None:
    content = sources[0].read_bytes()
    for kind in mutants.KINDS:
        made = {kind(content, Random(seed)) for seed in (1, 2, 3, 4, 5)}
        assert len(made) > 1
        assert kind(content, Random(1)) in made


@pytest.mark.parametrize("name", SOURCES)
def test_neighbours_are_found_and_swapped(
    mutants: ModuleType, sources: list[Path], name: str
) -> None:
    content = sources[SOURCES.index(name)].read_bytes()
    groups = list(mutants._spans(content))
    assert len(groups) > 3
    for spans in groups:
        assert all(a < b <= c < d for (a, b), (c, d) in pairwise(spans))
    swapped = mutants.swap(content, Random(0))
    assert sorted(swapped) == sorted(content)


def test_the_run_prints_its_figures(
    mutants: ModuleType, sources: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mutants.main([str(sources[0].parent), "--count=6", "--workers=1"]) == 0
    shown = capsys.readouterr().out
    assert "6 mutants of 5 clips, seed 0" in shown
    assert "silently" in shown
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        mutants.main(["--count", "many"])
