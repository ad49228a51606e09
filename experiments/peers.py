"""Peers in an LCR's own place: `pareto.py` gives them the same stem, width, depth and read-out.

- `GRULayer`: for each token a gated recurrent unit (arXiv 1406.1078), over the frames;
- `ShiftLayer`: temporal shift (arXiv 1811.08383), on-line: an eighth of the channels come from the
  frame before; then a depthwise 3x3 convolution and an inverted bottleneck. What is read out is the
  mean over the frames of a clip, as there.

Both forget by the frame: give `memory_clock="frames"`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.models.config import LCRConfig


class PeerLayer(nn.Module):
    """What `LCR` asks of a layer; neither masks nor drop-path, which no compared recipe has."""

    def __init__(self, config: LCRConfig, drop: float = 0.0, **_: bool) -> None:
        super().__init__()
        if drop:
            raise SystemExit("peers.py: drop_path must be 0.")
        self.config = config
        self.norm = nn.LayerNorm(config.width)

    def draw_kept(self, *_: Any) -> None:
        """No drop-path."""


class GRULayer(PeerLayer):
    """y = x + h, with h = GRU(LN(x), h before) for each token."""

    def __init__(self, config: LCRConfig, drop: float = 0.0, **options: bool) -> None:
        super().__init__(config, drop, **options)
        self.from_input = nn.Linear(config.width, 3 * config.width)
        self.from_hidden = nn.Linear(config.width, 3 * config.width)

    def forward(
        self, x_TBLC: Tensor, _: Any, __: Any, hidden_BLC: Tensor, *args: Any
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """As `CrossRWKVLayer.run`; c is h."""
        hiddens = []
        for now_BLX in self.from_input(self.norm(x_TBLC)):
            reset, update, new = now_BLX.chunk(3, -1)
            h_reset, h_update, h_new = self.from_hidden(hidden_BLC).chunk(3, -1)
            candidate = torch.tanh(new + torch.sigmoid(reset + h_reset) * h_new)
            hidden_BLC = torch.lerp(candidate, hidden_BLC, torch.sigmoid(update + h_update))
            hiddens.append(hidden_BLC)
        return x_TBLC + torch.stack(hiddens), hiddens, hiddens, args[1]


class ShiftLayer(PeerLayer):
    """y = x + W2 ReLU(W1 conv3x3(shift(LN(x))))."""

    def __init__(self, config: LCRConfig, drop: float = 0.0, **options: bool) -> None:
        super().__init__(config, drop, **options)
        width, hidden = config.width, 4 * config.width
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mix = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(
        self, x_TBLC: Tensor, _: Any, __: Any, ___: Any, ____: Any, input_BLC: Tensor, *_____: Any
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """As `CrossRWKVLayer.run`; h and c are the mean of the tokens of this clip so far."""
        normed_TBLC = self.norm(x_TBLC)
        before_TBLC = torch.cat([input_BLC[None], normed_TBLC[:-1]])
        fold = self.config.width // 8
        shifted_TBLC = torch.cat([before_TBLC[..., :fold], normed_TBLC[..., fold:]], -1)
        side = math.isqrt(x_TBLC.shape[2])
        grid_FCHW = shifted_TBLC.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))
        near_TBLC = self.conv(grid_FCHW).flatten(2).transpose(1, 2).view(x_TBLC.shape)
        y_TBLC = x_TBLC + self.mix(F.relu(near_TBLC))
        count_T111 = torch.arange(1, len(y_TBLC) + 1)[:, None, None, None]
        means = list(y_TBLC.cumsum(0) / count_T111)
        return y_TBLC, means, means, normed_TBLC[-1]
