"""Peers without attention, written from their papers, with random weights.

B batch, C channels, T frames, H height, W width, S side, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int, int]


def conv_norm(
    source: int, target: int, kernel: Size, stride: Size = (1, 1, 1), groups: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the size up to its stride, and its batch norm."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(source, target, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm3d(target)]


class Residual(nn.Module):
    """relu(branch(x) + x), x through a 1 x 1 x 1 convolution where the shape changes."""

    def __init__(self, branch: nn.Sequential, source: int, target: int, stride: Size) -> None:
        super().__init__()
        self.branch = branch
        same = source == target and stride == (1, 1, 1)
        self.skip = (
            nn.Identity() if same else nn.Sequential(*conv_norm(source, target, (1, 1, 1), stride))
        )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return F.relu(self.branch(x_BCTHW) + self.skip(x_BCTHW))


class Classifier(nn.Module):
    """Mean over space and time, then the maps given: [B, C, T, H, W] -> [B, K]."""

    def __init__(self, *maps: nn.Module) -> None:
        super().__init__()
        self.maps = nn.Sequential(*maps)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return self.maps(x_BCTHW.mean((2, 3, 4)))


def r3d_18(num_classes: int = 400) -> nn.Module:
    """ResNet-18 with 3 x 3 x 3 kernels (Tran et al. 2018, arXiv 1711.11248): [B, 3, T, S, S]."""
    layers: list[nn.Module] = [*conv_norm(3, 64, (3, 7, 7), (1, 2, 2)), nn.ReLU()]
    source = 64
    for target in (64, 128, 256, 512):
        for block in range(2):
            step = 2 if target > 64 and block == 0 else 1
            stride = (step, step, step)
            branch = nn.Sequential(
                *conv_norm(source, target, (3, 3, 3), stride),
                nn.ReLU(),
                *conv_norm(target, target, (3, 3, 3)),
            )
            layers.append(Residual(branch, source, target, stride))
            source = target
    return nn.Sequential(*layers, Classifier(nn.Linear(512, num_classes)))


class Squeeze(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507) of a clip."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(width, hidden, 1),
            nn.ReLU(),
            nn.Conv3d(hidden, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return x_BCTHW * self.gate(x_BCTHW)


def x3d_m(num_classes: int = 400) -> nn.Module:
    """X3D-M (Feichtenhofer 2020, arXiv 2004.04730), for 16 x 224 x 224: [B, 3, T, S, S]."""
    layers: list[nn.Module] = [
        nn.Conv3d(3, 24, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
        *conv_norm(24, 24, (5, 1, 1), groups=24),
        nn.ReLU(),
    ]
    source = 24
    for target, depth in ((24, 3), (48, 5), (96, 11), (192, 7)):
        inner = target * 9 // 4
        for block in range(depth):
            stride = (1, 2, 2) if block == 0 else (1, 1, 1)
            branch = [
                *conv_norm(source, inner, (1, 1, 1)),
                nn.ReLU(),
                *conv_norm(inner, inner, (3, 3, 3), stride, groups=inner),
                *([] if block % 2 else [Squeeze(inner, multiple_of_8(inner / 16))]),
                nn.SiLU(),
                *conv_norm(inner, target, (1, 1, 1)),
            ]
            layers.append(Residual(nn.Sequential(*branch), source, target, stride))
            source = target
    head = Classifier(nn.Linear(432, 2048, bias=False), nn.ReLU(), nn.Linear(2048, num_classes))
    return nn.Sequential(*layers, *conv_norm(192, 432, (1, 1, 1)), nn.ReLU(), head)


def multiple_of_8(width: float) -> int:
    """The nearest multiple of 8, never less than nine tenths."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


class Block(NamedTuple):
    """A layer of MoViNet: channels, those inside, kernel in time and in space, stride in space."""

    target: int
    inner: int
    time: int
    space: int
    stride: int


# Table 2 of the paper, A0.
MOVINET_A0 = (
    Block(8, 24, 1, 5, 2),
    *(Block(32, 80, 3, 3, stride) for stride in (2, 1, 1)),
    *(Block(56, inner, time, 3, s) for inner, time, s in ((184, 5, 2), (112, 3, 1), (184, 3, 1))),
    *(Block(56, 184, time, 3, 1) for time in (5, 3, 3, 3)),
    Block(104, 384, 5, 3, 2),
    *(Block(104, inner, 1, 5, 1) for inner in (280, 280, 344)),
)


class StreamLayer(nn.Module):
    """One layer of MoViNet on one frame; what it remembers goes in and comes out."""

    def __init__(self, source: int, block: Block) -> None:
        super().__init__()
        self.block = block
        target, inner, time, space, stride = block
        self.expand = conv2d_norm(source, inner, 1)
        self.space = conv2d_norm(inner, inner, space, stride, groups=inner)
        if time > 1:
            self.time = nn.Conv3d(inner, inner, (time, 1, 1), groups=inner, bias=False)
            self.time_norm = nn.BatchNorm2d(inner)
        hidden = multiple_of_8(inner / 4)
        self.squeeze = nn.Conv2d(2 * inner, hidden, 1)
        self.excite = nn.Conv2d(hidden, inner, 1)
        self.project = conv2d_norm(inner, target, 1)
        self.skip: nn.Module = nn.Identity()
        if source != target or stride > 1:
            pool = [nn.AvgPool2d(3, stride, 1)] if stride > 1 else []
            self.skip = nn.Sequential(*pool, conv2d_norm(source, target, 1))

    def forward(
        self, x_BCHW: Tensor, before_BCTHW: Tensor | None, mean_BC11: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """The frame, the last frames inside, the mean so far and the weight of this frame in it."""
        y_BCHW = F.hardswish(self.space(F.hardswish(self.expand(x_BCHW))))
        if before_BCTHW is not None:
            window_BCTHW = torch.cat([before_BCTHW, y_BCHW[:, :, None]], 2)
            before_BCTHW = window_BCTHW[:, :, 1:]
            y_BCHW = F.hardswish(self.time_norm(self.time(window_BCTHW)[:, :, 0]))
        now_BC11 = y_BCHW.mean((2, 3), keepdim=True)
        mean_BC11 = mean_BC11 + (now_BC11 - mean_BC11) * share
        gate_BC11 = self.excite(F.hardswish(self.squeeze(torch.cat([now_BC11, mean_BC11], 1))))
        y_BCHW = self.project(y_BCHW * F.hardsigmoid(gate_BC11))
        return y_BCHW + self.skip(x_BCHW), before_BCTHW, mean_BC11


def conv2d_norm(
    source: int, target: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(source, target, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(target))


class MoViNetStream(nn.Module):
    """MoViNet-A0 one frame at a time (Kondratyuk et al. 2021, arXiv 2103.11511).

    (2+1)-D kernels that see the past alone, and squeeze and excitation by the mean so far, as the
    published streaming weights have them.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int = 600) -> None:
        super().__init__()
        self.stem = conv2d_norm(3, 8, 3, 2)
        sources = [8, *(block.target for block in MOVINET_A0)]
        self.layers = nn.ModuleList(
            StreamLayer(source, block) for source, block in zip(sources, MOVINET_A0, strict=False)
        )
        self.last = conv2d_norm(sources[-1], 480, 1)
        self.head = nn.Sequential(
            nn.Linear(480, 2048), nn.Hardswish(), nn.Linear(2048, num_classes)
        )

    def init_state(self, batch_size: int, size: int) -> tuple[Tensor, ...]:
        """The state before the first frame of `size` x `size`: how many, means, last frames."""
        weight: Tensor = next(self.parameters())
        means, befores = [torch.zeros(batch_size, 480)], []
        side = (size + 1) // 2
        for block in MOVINET_A0:
            side = (side + block.stride - 1) // block.stride
            means.append(torch.zeros(batch_size, block.inner, 1, 1))
            if block.time > 1:
                befores.append(torch.zeros(batch_size, block.inner, block.time - 1, side, side))
        state = (torch.zeros(1), *means, *befores)
        return tuple(x.to(weight) for x in state)

    def forward(self, x_BCHW: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One frame [B, 3, S, S]: logits [B, K], then the next state."""
        count = state[0] + 1
        share = 1 / count
        parts: Iterator[Tensor] = iter(state[1:])
        mean_BC, *means = (next(parts) for _ in range(len(MOVINET_A0) + 1))
        new_means, befores = [], []
        x_BCHW = F.hardswish(self.stem(x_BCHW))
        for layer, mean_BC11 in zip(self.layers, means, strict=True):
            assert isinstance(layer, StreamLayer)
            before = next(parts) if layer.block.time > 1 else None
            x_BCHW, before, mean_BC11 = layer(x_BCHW, before, mean_BC11, share)
            new_means.append(mean_BC11)
            if before is not None:
                befores.append(before)
        now_BC = F.hardswish(self.last(x_BCHW)).mean((2, 3))
        mean_BC = mean_BC + (now_BC - mean_BC) * share
        return self.head(mean_BC), count, mean_BC, *new_means, *befores
