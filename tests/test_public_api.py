from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import videorwkv

PUBLIC = {
    # video -> frames -> edges
    "open_video",
    "Clip",
    "Frame",
    "Sampling",
    "Segment",
    "edge_map",
    "EdgeOptions",
    # models
    "create_model",
    "list_models",
    "model_config",
    "register_model",
    "build_model",
    "LCR",
    "LCRConfig",
    "LCRState",
    "Inputs",
    "wkv",
    # data
    "load_manifest",
    "Manifest",
    # verbs
    "train",
    "evaluate",
    "embed",
    "predict",
    "stream",
    "load_run",
    "export",
    "open_exported",
    # errors
    "VideoRWKVError",
    "UsageError",
    "ConfigError",
    "DecodeError",
    "DataError",
    "ManifestError",
    "CheckpointError",
    "NonFiniteError",
}

# An own interpreter, as this one has imported much already.
IMPORT_EVERYTHING = """
import importlib, logging, os, pkgutil, sys

# What the libraries do to the environment (OpenCV extends LD_LIBRARY_PATH) is not ours to judge.
import av, cv2, torch

before = dict(os.environ), torch.get_num_threads()
import videorwkv

HEAVY = ("matplotlib", "tensorboard", "rich", "torch.utils.tensorboard", "torch._dynamo")
loaded = [name for name in HEAVY if name in sys.modules]
assert not loaded, f"import videorwkv loads {loaded}"
print(len(list(filter(callable, (videorwkv.train, videorwkv.evaluate, videorwkv.predict)))))

EXTRAS = ("pytest", "ruff", "mypy", "build", "hypothesis", "torchvision", "timm",
          "onnx", "onnxscript", "onnxruntime", "openvino", "triton",
          "transformers", "accelerate", "huggingface_hub")
# In the language of an extra; nothing imports them before they are asked for.
KERNELS = (
    *("videorwkv.ops.triton_kernels", "videorwkv.ops.triton_cell"),
    "videorwkv.ops.triton_short_kernels",
    "videorwkv.inference.transformers",
)
for name in EXTRAS:
    sys.modules[name] = None  # to import it is an ImportError from now on
modules = [m.name for m in pkgutil.walk_packages(videorwkv.__path__, "videorwkv.")]
modules = [name for name in modules if name not in KERNELS]
for name in modules:
    importlib.import_module(name)
loaded = [name for name in HEAVY if name in sys.modules]
assert not loaded, f"importing the modules loads {loaded}"
assert all(map(callable, (videorwkv.train, videorwkv.evaluate, videorwkv.predict)))

after = dict(os.environ), torch.get_num_threads()
assert after == before, "an import has changed the environment or the threads"
assert not logging.getLogger().handlers, "an import has set up logging"
assert not torch.cuda.is_initialized(), "an import has started a GPU"
print(len(modules))
"""


def test_public_names_are_pinned() -> None:
    assert {name for name in dir(videorwkv) if not name.startswith("_")} == PUBLIC
    assert all(getattr(videorwkv, name).__name__ == name for name in PUBLIC)
    # What type checkers see is what there is.
    tree = ast.parse(Path(videorwkv.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: (node.module or "").removeprefix("videorwkv.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == videorwkv._HOMES
    assert videorwkv.__version__
    with pytest.raises(AttributeError, match="no attribute 'Recognizer'"):
        videorwkv.Recognizer  # noqa: B018


def test_old_module_names_still_work_and_say_so() -> None:
    with pytest.warns(DeprecationWarning, match=r"train\.recipes is now videorwkv\.run\.recipes"):
        from videorwkv.train.recipes import default  # type: ignore[import-not-found]
    from videorwkv.run import recipes

    assert default is recipes.default
    assert callable(videorwkv.train)


# From the ground up; a room may import those before it. Training and exporting are apart.
ROOMS = (
    {"errors"}, {"utils", "preprocess"}, {"video", "ops"}, {"models"}, {"data"}, {"run"},
    {"inference"}, {"training", "exporting"}, {"web"}, {"cli"},
)  # fmt: skip


def test_imports_go_down_only() -> None:
    floor = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    package = Path(videorwkv.__file__).parent
    seen = 0
    for path in package.glob("*/**/*.py"):
        room = path.relative_to(package).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for other in (name.split(".")[1] for name in names if name.startswith("videorwkv.")):
                seen += 1
                assert other == room or floor[other] < floor[room], f"{path}: {ast.unparse(node)}"
    assert seen > 400


def test_importing_the_package_loads_no_torch() -> None:
    code = (
        "import sys, videorwkv; print(sorted({'torch', 'numpy', 'cv2', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_are_one_family() -> None:
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(videorwkv, name), videorwkv.VideoRWKVError), name


def test_importing_is_free() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verbs, modules = map(int, done.stdout.split())
    assert verbs == 3
    assert modules > 40


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    # pytest imports them by their names alone.
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
