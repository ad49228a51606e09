"""Tokens -> gate -> cell -> head. Read lcr.py first."""

from __future__ import annotations

from videorwkv.models.config import LCRConfig as LCRConfig
from videorwkv.models.inputs import Inputs as Inputs
from videorwkv.models.lcr import LCR as LCR
from videorwkv.models.masking import tube_mask as tube_mask
from videorwkv.models.registry import build_model as build_model
from videorwkv.models.registry import create_model as create_model
from videorwkv.models.registry import list_models as list_models
from videorwkv.models.registry import model_config as model_config
from videorwkv.models.registry import register_model as register_model
from videorwkv.models.state import LCRState as LCRState
