from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import videorwkv
from videorwkv.errors import CheckpointError, UsageError
from videorwkv.inference.calibration import Calibration
from videorwkv.inference.recogniser import load_run
from videorwkv.models import create_model
from videorwkv.web import export_site, runtime, site

Need = Callable[..., None]

pytestmark = pytest.mark.usefixtures("fake_runtime", "each_graph_once")


@pytest.fixture(autouse=True)
def _needs(need: Need) -> None:
    need("onnx")


def test_the_folder_has_all_that_the_page_asks_for(tiny_run: Path, tmp_path: Path) -> None:
    written = export_site(tiny_run, tmp_path / "site")
    folder = written.folder
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written.size == sum((folder / name).stat().st_size for name in found)
    # Every file that one of the page's files names.
    named = set()
    for path in [*folder.glob("*.js"), folder / "index.html", folder / "style.css"]:
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"""["'(](?:\./)?([\w./-]+\.(?:m?js|css|svg|txt))["')]""", text))
    assert named <= found
    assert {"app.js", "worker.js", "edges.js", "resize.js", "style.css", "icon.svg"} <= named
    assert {f"ort/{name}" for name in (*runtime.WASM, *runtime.WEBGPU)} <= found
    assert "ort/LICENSE.txt" in named & found
    assert "Cross-Origin-Embedder-Policy: require-corp" in (folder / "_headers").read_text()
    about = json.loads((folder / "site.json").read_text())
    assert about["title"] == tiny_run.name
    assert (folder / about["model"]).is_file()
    assert (folder / f"{about['model']}.json").is_file()
    # It asks nobody else: the browser is told so, and no file names another address.
    policy = re.search(
        r'Content-Security-Policy" content="([^"]*)"', (folder / "index.html").read_text()
    )
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "connect-src 'self';" in policy[1]
    for path in folder.glob("*.js"):
        assert "http" not in path.read_text(encoding="utf-8").replace("https, or", "")


def test_one_stream_at_fixed_shapes(tiny_run: Path, tmp_path: Path) -> None:
    folder = export_site(tiny_run, tmp_path).folder
    about = json.loads((folder / "model.onnx.json").read_text())
    for port in (*about["inputs"], *about["outputs"]):
        assert port["shape"][0] == 1
        assert all(isinstance(length, int) for length in port["shape"])
    assert videorwkv.open_exported(folder / "model.onnx").batch_size == 1


def test_half_the_download(tiny_run: Path, tmp_path: Path) -> None:
    whole = export_site(tiny_run, tmp_path / "whole").exported.size
    assert export_site(tiny_run, tmp_path / "half", precision="float16").exported.size < whole
    for precision in ("bfloat16", "int8"):
        with pytest.raises(UsageError, match=f"'{precision}' does not run in browsers.*float16"):
            export_site(tiny_run, tmp_path / "other", precision=precision)
    assert not (tmp_path / "other").exists()


def test_current_until_page_or_weights_change(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(tiny_run)
    assert not site.is_current(tmp_path, run)
    export_site(run, tmp_path)
    assert site.is_current(tmp_path, run)
    assert site.is_site(tmp_path)
    # A threshold that was chosen since is none of the page's.
    weights = hashlib.sha256(run.weights.read_bytes()).hexdigest()
    kept = Calibration(
        temperature=1.25, threshold=0.625, keep=0.95, labels=run.labels, weights_sha256=weights,
        data={}, clips=1, recognised=1, wrongly_named=0, error_before=0.0, error_after=0.0,
    )  # fmt: skip
    kept.save(run)
    try:
        assert not site.is_current(tmp_path, run)
        again = export_site(run, tmp_path).folder / "model.onnx.json"
        stream = json.loads(again.read_text())["stream"]
        assert (stream["threshold"], stream["temperature"]) == (0.625, 1.25)
        assert site.is_current(tmp_path, run)
    finally:
        kept.path(run).unlink()
    assert not site.is_current(tmp_path, run)
    export_site(run, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "best.safetensors").write_text("other weights")
    assert not site.is_current(tmp_path, replace(run, folder=other, which="best"))
    monkeypatch.setattr(site, "VERSION", "0")
    assert not site.is_current(tmp_path, run)
    (tmp_path / "site.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"site\.json can't be read"):
        site.is_current(tmp_path, run)


def test_other_files_of_the_folder_stay(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "CNAME").write_text("example.org")
    export_site(tiny_run, tmp_path)
    export_site(tiny_run, tmp_path)
    assert (tmp_path / "CNAME").read_text() == "example.org"


def test_what_a_page_cannot_show_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("lcr_nano", depth=1, image_size=32, edges="scattered").eval()
    with pytest.raises(UsageError, match=r"can't make edges of the kind 'scattered'.*canny, sobel"):
        export_site(model, tmp_path / "site")
    with pytest.raises(UsageError, match="needs `out`"):
        export_site(create_model("lcr_nano", depth=1, image_size=32).eval())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the folder can't be made"):
        export_site(tiny_run, tmp_path / "file")
    file = videorwkv.export(tiny_run, tmp_path / "wave.onnx").path
    with pytest.raises(UsageError, match="is an exported file; give the run"):
        export_site(file, tmp_path / "site")
    with pytest.raises(UsageError, match=r"written by videorwkv\.web\.export_site"):
        videorwkv.export(tiny_run, to="web")
