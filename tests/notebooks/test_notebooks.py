"""The notebooks: without outputs in the repository, and they run from top to bottom."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["train_look_export.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_kept(path: Path) -> None:
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert len(cells) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.timeout(900)  # less than a minute where nothing else runs
@pytest.mark.filterwarnings("ignore")  # of Jupyter and its parts
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is absent: the extra `onnx`")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is absent: the extra `dev`")
    pytest.importorskip("ipykernel", reason="ipykernel is absent: the extra `dev`")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=800, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    if place := os.environ.get("VIDEORWKV_KEEP_NOTEBOOK"):  # to look at it
        nbformat.write(book, Path(place, path.name))
    text = "".join(
        output.get("text", "") for cell in book.cells for output in cell.get("outputs", [])
    )
    # Four classes: chance is 0.25.
    (top1,) = re.findall(r"^top-1 ([\d.]+)", text, re.MULTILINE)
    assert float(top1) > 0.6
    # The exported file and the run give the same label and score.
    run, exported = re.findall(r"^runs/notebook\S* +(\w+ +[\d.]+)$", text, re.MULTILINE)
    assert run.split()[0] == exported.split()[0]
    assert float(run.split()[1]) == pytest.approx(float(exported.split()[1]), abs=2e-4)
    assert (tmp_path / "runs/notebook/confusion.png").is_file()
