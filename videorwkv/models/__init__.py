"""Tokens -> gate -> cell -> head. Read lcr.py first."""

from __future__ import annotations

from videorwkv.models.config import LCRConfig as LCRConfig
from videorwkv.models.lcr import LCR as LCR
from videorwkv.models.masking import tube_mask as tube_mask
from videorwkv.models.presets import build_model as build_model
from videorwkv.models.presets import create_model as create_model
from videorwkv.models.presets import list_models as list_models
from videorwkv.models.presets import model_config as model_config
from videorwkv.models.presets import register_model as register_model
from videorwkv.models.state import LCRState as LCRState
from videorwkv.preprocess.inputs import Inputs as Inputs
