from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.mark.parametrize("section", gpu.SECTIONS)
def test_every_section_runs_dry(section: str, tmp_path: Path) -> None:
    """On the CPU, tiny: what needs a GPU alone is left out."""
    assert gpu.main(["--out", str(tmp_path), "--dry", "--section", section]) == 0
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert found
    assert not [row for row in found if "error" in row]
    if section == "scan_right":
        assert max(max(row["errors"]) for row in found) < 1e-4
    if section == "edges":
        assert [row["same"] for row in found] == [True] * 3
    if section == "training":
        assert {row["way"] for row in found} == {"eager", "recompute", "graph"}
        assert all(row["clips_s"] > 0 for row in found)


def test_limits_of_the_sections_fit_into_one_call() -> None:
    assert sum(limit for _, limit in gpu.SECTIONS.values()) <= gpu.TOTAL <= 570


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path)])
    assert "--dry" in capsys.readouterr().err
