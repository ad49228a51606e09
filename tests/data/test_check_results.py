"""Results of an earlier check that were damaged or made up are none; the clip is read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from mutants import changed_values, flipped_bits

from videorwkv.data import load_manifest
from videorwkv.data.check import RESULTS, _known, check
from videorwkv.utils.values import sealed, unsealed


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("clips")
    for label in ("a", "b"):
        tiny.write_clip(root / label / "clip.mp4")
    out = tmp_path_factory.mktemp("check")
    check(load_manifest(str(root)), out, workers=1)
    return root, out / RESULTS


def known(root: Path, results: Path) -> dict[str, object]:
    manifest = load_manifest(str(root))
    paths = {manifest.relative_path(row): row.path for row in manifest.rows}
    return dict(_known(results, paths, quick=False, timeout=120.0))


def test_lines_that_are_no_result_are_left_out(checked: tuple[Path, Path], tmp_path: Path) -> None:
    root, results = checked
    whole = known(root, results)
    assert len(whole) == 2
    lines = results.read_bytes().splitlines()
    mutants = [json.dumps(sealed(m)).encode() for m in changed_values(
        unsealed(json.loads(lines[0])), 80, seed=0)]  # fmt: skip
    path = tmp_path / RESULTS
    strange = [b"7", b"[]", b"{}", b"\xff", b"[" * 200_000, b"x" * (3 << 20), *mutants]
    path.write_bytes(b"\n".join([*strange, *lines]))
    assert known(root, path) == whole


def test_a_flipped_bit_is_no_result(checked: tuple[Path, Path], tmp_path: Path) -> None:
    root, results = checked
    whole = known(root, results)
    path = tmp_path / RESULTS
    for changed in flipped_bits(results.read_bytes(), 60, seed=0):
        path.write_bytes(changed)
        for name, finding in known(root, path).items():
            assert finding == whole[name]
