"""Video RWKV (LSTM-CrossRWKV): action recognition in video with a recurrent model."""

from __future__ import annotations

__version__ = "0.1.0"
