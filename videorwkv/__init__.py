"""Video RWKV (LSTM-CrossRWKV): action recognition in video with a recurrent model.

    model = videorwkv.create_model("lcr_tiny", num_classes=27).eval()
    clip = videorwkv.open_video("wave.mp4").sample(num_frames=16)
    logits = model(model.preprocess(clip))
    videorwkv.predict("wave.mp4", model="runs/mine")

README.md begins at the beginning. tests/test_public_api.py pins the names below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from videorwkv.utils.late import bind as _bind
from videorwkv.utils.moved import alias as _alias

__version__ = "0.1.0"

if _TYPE_CHECKING:
    from videorwkv.data.load import load_manifest as load_manifest
    from videorwkv.data.manifest import Manifest as Manifest
    from videorwkv.errors import CheckpointError as CheckpointError
    from videorwkv.errors import ConfigError as ConfigError
    from videorwkv.errors import DataError as DataError
    from videorwkv.errors import DecodeError as DecodeError
    from videorwkv.errors import ManifestError as ManifestError
    from videorwkv.errors import NonFiniteError as NonFiniteError
    from videorwkv.errors import UsageError as UsageError
    from videorwkv.errors import VideoRWKVError as VideoRWKVError
    from videorwkv.exporting import export as export
    from videorwkv.inference.embed import embed as embed
    from videorwkv.inference.evaluate import evaluate as evaluate
    from videorwkv.inference.exported import open_exported as open_exported
    from videorwkv.inference.predict import predict as predict
    from videorwkv.inference.recogniser import load_run as load_run
    from videorwkv.inference.stream import stream as stream
    from videorwkv.models.config import LCRConfig as LCRConfig
    from videorwkv.models.lcr import LCR as LCR
    from videorwkv.models.presets import build_model as build_model
    from videorwkv.models.presets import create_model as create_model
    from videorwkv.models.presets import list_models as list_models
    from videorwkv.models.presets import model_config as model_config
    from videorwkv.models.presets import register_model as register_model
    from videorwkv.models.state import LCRState as LCRState
    from videorwkv.ops.wkv import wkv as wkv
    from videorwkv.preprocess.edges import EdgeOptions as EdgeOptions
    from videorwkv.preprocess.edges import edge_map as edge_map
    from videorwkv.preprocess.inputs import Inputs as Inputs
    from videorwkv.training.loop import train as train
    from videorwkv.video.base import Clip as Clip
    from videorwkv.video.base import Frame as Frame
    from videorwkv.video.base import Sampling as Sampling
    from videorwkv.video.segment import Segment as Segment
    from videorwkv.video.source import open_video as open_video

# Where each public name is defined. It is imported on first use (PEP 562): `import videorwkv` loads
# neither PyTorch nor OpenCV.
_HOMES = {
    "Clip": "video.base",
    "Frame": "video.base",
    "Sampling": "video.base",
    "Segment": "video.segment",
    "open_video": "video.source",
    "EdgeOptions": "preprocess.edges",
    "edge_map": "preprocess.edges",
    "Inputs": "preprocess.inputs",
    "LCR": "models.lcr",
    "LCRConfig": "models.config",
    "LCRState": "models.state",
    "build_model": "models.presets",
    "create_model": "models.presets",
    "list_models": "models.presets",
    "model_config": "models.presets",
    "register_model": "models.presets",
    "wkv": "ops.wkv",
    "Manifest": "data.manifest",
    "load_manifest": "data.load",
    "train": "training.loop",
    "evaluate": "inference.evaluate",
    "embed": "inference.embed",
    "predict": "inference.predict",
    "stream": "inference.stream",
    "load_run": "inference.recogniser",
    "export": "exporting",
    "open_exported": "inference.exported",
}
_HOMES |= dict.fromkeys(
    (
        *("CheckpointError", "ConfigError", "DataError", "DecodeError", "ManifestError"),
        *("NonFiniteError", "UsageError", "VideoRWKVError"),
    ),
    "errors",
)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'videorwkv' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"videorwkv.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*_HOMES, "__version__"]


# A model's `from_pretrained` reads what a run is, which stands in a room above the models.
_bind("hub", "videorwkv.run.hub")

# Documented in version 0.1 under another name; these go with version 0.3.
_alias("videorwkv.train")
_alias("videorwkv.train.recipes", "videorwkv.run.recipes")
