"""What LCR's cost is compared with: the same stem and size, every token attends to every other.

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, F = B * T.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studies.formula import joint_hidden
from videorwkv.models import Inputs, LCRConfig
from videorwkv.models.stems import PIXEL_MEAN, PIXEL_STD, ConvStem, PatchStem


class JointAttention(nn.Module):
    """Joint space-time attention (ViViT's model 1, arXiv 2103.15691) in LCR's size.

    It has LCR's stem without edges, `depth` pre-norm layers of softmax attention over all T * L
    tokens of the clip and of an MLP that makes up for LCR's parameters, and the mean of the tokens
    for the head. Position: a learned table over the frame's grid, sines over time, so that clips of
    any length run.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: LCRConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, joint_hidden(config)
        stem = ConvStem if config.stem == "conv" else PatchStem
        self.stem = stem(3, config.patch_size, width)
        self.position = nn.Parameter(torch.randn(config.num_patches, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "query_key_value": nn.Linear(width, 3 * width, bias=False),
                    "output": nn.Linear(width, width, bias=False),
                    "norm_mix": nn.LayerNorm(width),
                    "mix_in": nn.Linear(width, hidden, bias=False),
                    "mix_out": nn.Linear(hidden, width, bias=False),
                }
            )
            for _ in range(config.depth)
        )
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.num_classes)
        self.register_buffer("pixel_mean", 255 * torch.tensor(PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_std", 255 * torch.tensor(PIXEL_STD), persistent=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of clips [B, K]; the edges are not looked at."""
        frames_BTHWC = inputs.frames_BTHWC
        batch, num_frames = frames_BTHWC.shape[:2]
        pixels_FHWC = (frames_BTHWC.flatten(0, 1) - self.pixel_mean) / self.pixel_std
        x_FLC = self.stem([pixels_FHWC], None) + self.position
        x_BTLC = x_FLC.unflatten(0, (batch, num_frames)) + self._time(num_frames)[:, None]
        x_BNC = x_BTLC.flatten(1, 2)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            x_BNC = x_BNC + self._attend(layer, layer["norm"](x_BNC))
            x_BNC = x_BNC + layer["mix_out"](F.gelu(layer["mix_in"](layer["norm_mix"](x_BNC))))
        logits_BK: Tensor = self.head(self.norm_head(x_BNC.mean(1)))
        return logits_BK

    def _attend(self, layer: nn.ModuleDict, x_BNC: Tensor) -> Tensor:
        heads = self.config.num_heads
        q, k, v = (
            x.unflatten(-1, (heads, -1)).transpose(1, 2)
            for x in layer["query_key_value"](x_BNC).chunk(3, dim=-1)
        )
        read_BHND = F.scaled_dot_product_attention(q, k, v)
        out_BNC: Tensor = layer["output"](read_BHND.transpose(1, 2).flatten(-2))
        return out_BNC

    def _time(self, num_frames: int) -> Tensor:
        """Sines and cosines of the frame's number, [T, C]."""
        half = self.config.width // 2
        rate = 1000.0 ** (-torch.arange(half, device=self.position.device) / half)
        angle = torch.arange(num_frames, device=rate.device)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
