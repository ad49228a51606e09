"""Video RWKV (LSTM-CrossRWKV): action recognition in video with a recurrent model.

    model = videorwkv.create_model("lcr_tiny", num_classes=27).eval()
    clip = videorwkv.open_video("wave.mp4").sample(num_frames=16)
    logits = model(model.preprocess(clip))
    videorwkv.predict("wave.mp4", model="runs/mine")

README.md begins at the beginning. tests/test_public_api.py pins the names below.
"""

from __future__ import annotations

__version__ = "0.1.0"

from videorwkv.data import Manifest as Manifest
from videorwkv.data import load_manifest as load_manifest
from videorwkv.edges import EdgeOptions as EdgeOptions
from videorwkv.edges import edge_map as edge_map
from videorwkv.errors import CheckpointError as CheckpointError
from videorwkv.errors import ConfigError as ConfigError
from videorwkv.errors import DataError as DataError
from videorwkv.errors import DecodeError as DecodeError
from videorwkv.errors import ManifestError as ManifestError
from videorwkv.errors import NonFiniteError as NonFiniteError
from videorwkv.errors import UsageError as UsageError
from videorwkv.errors import VideoRWKVError as VideoRWKVError

# These verbs are called as the modules that hold them. They are imported here and not on
# first use: whatever imports such a module later would put the module in the function's place.
from videorwkv.evaluate import evaluate as evaluate
from videorwkv.export import export as export
from videorwkv.models import LCR as LCR
from videorwkv.models import Inputs as Inputs
from videorwkv.models import LCRConfig as LCRConfig
from videorwkv.models import LCRState as LCRState
from videorwkv.models import build_model as build_model
from videorwkv.models import create_model as create_model
from videorwkv.models import list_models as list_models
from videorwkv.models import model_config as model_config
from videorwkv.models import register_model as register_model
from videorwkv.ops.wkv import wkv as wkv
from videorwkv.predict import predict as predict
from videorwkv.runtime import open_exported as open_exported
from videorwkv.stream import stream as stream
from videorwkv.train.checkpoint import load_run as load_run
from videorwkv.train.loop import train as train
from videorwkv.video import Clip as Clip
from videorwkv.video import Frame as Frame
from videorwkv.video import Sampling as Sampling
from videorwkv.video import open_video as open_video
