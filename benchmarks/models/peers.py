"""What a user would take instead, with random weights: `PEERS`, by name.

B batch, C channels, T frames, F = B * T frames, H height, W width, S side, K classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.models.peers_conv import MoViNetStream, r3d_18, x3d_m
from videorwkv.errors import UsageError, did_you_mean
from videorwkv.models import Inputs
from videorwkv.models.stems import PIXEL_MEAN, PIXEL_STD

Kind = Literal["frame", "clip", "stream"]
NUM_CLASSES = 400


class Logits(nn.Module):
    """A classifier of transformers with a tensor as its answer: pixels -> logits [B, K]."""

    def __init__(self, model: Any, frames_first: bool = False) -> None:
        super().__init__()
        self.model = model
        self.frames_first = frames_first

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.transpose(1, 2) if self.frames_first else x).logits


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model to compare with.

    Args:
        title: as the table names it.
        kind: `frame` takes [F, 3, S, S] and knows no time; `clip` takes [B, 3, T, S, S] at once, so
            a new frame costs a clip; `stream` takes [B, 3, S, S] and its state.
        build: `build(num_classes, num_frames)` makes it.
        convolutions: whether it consists of them, and so likes channels last.
        extra: whether it needs transformers.
        least_frames: the shortest clip that it takes.
    """

    title: str
    kind: Kind
    build: Callable[[int, int], nn.Module]
    convolutions: bool = False
    extra: bool = True
    least_frames: int = 1

    def network(self, num_classes: int = NUM_CLASSES, num_frames: int = 16) -> nn.Module:
        """The model in evaluation mode.

        Raises:
            UsageError: transformers is not installed; the message says how to.
        """
        return self.build(num_classes, num_frames).eval().requires_grad_(False)

    def inputs(self, inputs: Inputs, network: nn.Module) -> tuple[Tensor, ...]:
        """One call's tensors: the clip, or its first frame, and for a stream its first state."""
        pixels = normalised(inputs)
        if self.kind == "clip":
            return (pixels.transpose(1, 2).contiguous(),)
        first = pixels[:, 0].contiguous()
        if self.kind == "frame":
            return (first,)
        assert isinstance(network, MoViNetStream)
        return first, *network.init_state(len(first), first.shape[-1])


def normalised(inputs: Inputs) -> Tensor:
    """uint8 [B, T, H, W, 3] -> ImageNet's statistics, float32 [B, T, 3, H, W]."""
    pixels_BTHWC = inputs.frames_BTHWC.float() / 255
    pixels_BTHWC = (pixels_BTHWC - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    return pixels_BTHWC.movedim(-1, 2)


def find_peers(names: Sequence[str]) -> dict[str, Peer]:
    """Peers by name; `all` is all of them.

    Raises:
        UsageError: an unknown name.
    """
    for name in names:
        if name not in (*PEERS, "all"):
            raise UsageError(f"Unknown peer {name!r}. {did_you_mean(name, [*PEERS, 'all'])}")
    return {name: PEERS[name] for name in (PEERS if "all" in names else names)}


def has_transformers() -> bool:
    """Whether the extra `bench` is installed."""
    try:
        _transformers()
    except UsageError:
        return False
    return True


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"This peer needs transformers, which can't be imported ({error}). Install it with: "
            "pip install 'videorwkv[bench]'; or choose others with --against."
        ) from error


def _vit(num_classes: int, num_frames: int) -> nn.Module:
    """ViT-Ti/16 (arXiv 2012.12877)."""
    library = _transformers()
    config = library.ViTConfig(**_transformer(192), num_labels=num_classes)
    return Logits(library.ViTForImageClassification(config))


def _mobilenet(num_classes: int, num_frames: int) -> nn.Module:
    """MobileNetV2 (arXiv 1801.04381)."""
    library = _transformers()
    # tf_padding pads by hand before each convolution, for TensorFlow's weights alone.
    config = library.MobileNetV2Config(tf_padding=False, num_labels=num_classes)
    return Logits(library.MobileNetV2ForImageClassification(config))


def video_mae(width: int, attention: str = "sdpa") -> Callable[[int, int], nn.Module]:
    """VideoMAE (arXiv 2203.12602): joint attention over all space-time tokens.

    Args:
        width: 192 is Ti, 384 is S.
        attention: `sdpa` is PyTorch's fused kernel, `eager` writes all scores to memory.
    """

    def build(num_classes: int, num_frames: int) -> nn.Module:
        library = _transformers()
        config = library.VideoMAEConfig(
            **_transformer(width),
            num_labels=num_classes,
            num_frames=num_frames,
            attn_implementation=attention,
        )
        return Logits(library.VideoMAEForVideoClassification(config), frames_first=True)

    return build


def _timesformer(num_classes: int, num_frames: int) -> nn.Module:
    """TimeSformer-B (arXiv 2102.05095): attention over time, then over space."""
    library = _transformers()
    config = library.TimesformerConfig(num_frames=num_frames, num_labels=num_classes)
    return Logits(library.TimesformerForVideoClassification(config), frames_first=True)


def _transformer(width: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": 12,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }


PEERS = {
    "vit_tiny": Peer(title="ViT-Ti per frame", kind="frame", build=_vit),
    "mobilenet_v2": Peer(
        title="MobileNetV2 per frame (TSM)", kind="frame", build=_mobilenet, convolutions=True
    ),
    "movinet_a0": Peer(
        title="MoViNet-A0 stream",
        kind="stream",
        build=lambda num_classes, num_frames: MoViNetStream(num_classes),
        convolutions=True,
        extra=False,
    ),
    "x3d_m": Peer(
        title="X3D-M",
        kind="clip",
        build=lambda num_classes, num_frames: x3d_m(num_classes),
        convolutions=True,
        extra=False,
    ),
    "r3d_18": Peer(
        title="3-D ResNet-18",
        kind="clip",
        build=lambda num_classes, num_frames: r3d_18(num_classes),
        convolutions=True,
        extra=False,
    ),
    # A token of VideoMAE is two frames long.
    "videomae_tiny": Peer(title="VideoMAE-Ti", kind="clip", build=video_mae(192), least_frames=2),
    "videomae_small": Peer(title="VideoMAE-S", kind="clip", build=video_mae(384), least_frames=2),
    "timesformer": Peer(title="TimeSformer-B", kind="clip", build=_timesformer),
}
