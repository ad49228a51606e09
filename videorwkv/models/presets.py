"""Names -> configurations -> models: `create_model`, `list_models`, `register_model`."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from videorwkv.errors import ConfigError, did_you_mean
from videorwkv.models.config import LCRConfig
from videorwkv.models.lcr import LCR
from videorwkv.models.pretrained_stem import load_stem_weights
from videorwkv.models.shipped import load_start

# The options as the paper publishes them, whatever the size.
PUBLISHED: dict[str, Any] = {
    "stem": "patch",
    "stem_frames": 1,
    "key_value_source": "edges",
    "time_shift": False,
    "cell": "paper",
    "past": "own",
    "residual": False,
    "readout": "cls",
    "head_norm": "layer",
    "position": "rope",
}

_PRESETS: dict[str, Callable[[], LCRConfig]] = {}


def register_model(preset: Callable[[], LCRConfig]) -> Callable[[], LCRConfig]:
    """Decorator: make a function without arguments that returns a configuration a named preset."""
    name = preset.__name__
    if name in _PRESETS:
        raise ConfigError(f"A model named {name!r} exists already; choose another name.")
    _PRESETS[name] = preset
    return preset


def list_models(pattern: str = "*") -> list[str]:
    """Names of the presets that match a glob, sorted."""
    return sorted(fnmatch.filter(_PRESETS, pattern))


def model_config(name: str, **overrides: Any) -> LCRConfig:
    """Configuration of the preset `name` with some options changed.

    Raises:
        ConfigError: an unknown name or option, or a value that can't be.
    """
    if name not in _PRESETS:
        raise ConfigError(f"Unknown model {name!r}. {did_you_mean(name, list_models())}")
    config = _PRESETS[name]()
    if not overrides:
        return config
    # Through from_dict, which names an unknown option.
    return LCRConfig.from_dict(
        {**{k: getattr(config, k) for k in config.__dataclass_fields__}, **overrides}
    )


def create_model(name: str, *, pretrained: bool = False, **overrides: Any) -> LCR:
    """A model by its preset's name, with random weights (torch's global seed), but for a pretrained
    stem, which has its own.

    Args:
        name: of the preset.
        pretrained: give all but the classifier the weights that come with the package, learnt from
            generated clips (`lcr_pico` has some).
        overrides: other options than the preset's.

    Example:
        create_model("lcr_nano", num_classes=27, edges="sobel")

    Raises:
        ConfigError: as `model_config`.
        UsageError: the preset has a pretrained stem, and the package with its weights is missing;
            or no weights come with the package for such a model.
    """
    model = build_model(model_config(name, **overrides))
    load_stem_weights(model)
    if pretrained:
        load_start(model)
    return model


def build_model(config: LCRConfig) -> LCR:
    """A model with random weights from its configuration, its stem's too: `load_stem_weights` gives
    a pretrained stem its own."""
    if config.mixer == "joint":
        from videorwkv.models.joint import JointLCR

        return JointLCR(config)
    return LCR(config)


@register_model
def lcr_paper() -> LCRConfig:
    """As published: edges alone as K and V, the paper's cell, `[CLS]` of O and C, no residual."""
    return LCRConfig(
        image_size=224,
        num_frames=16,
        width=192,
        depth=12,
        head_width=64,
        channel_mix_ratio=2.5,
        **PUBLISHED,
    )


@register_model
def lcr_tiny() -> LCRConfig:
    """The published budget with the options that learn best (LOG.md has the comparison); a clip
    goes through a layer at once, as a GPU wants it."""
    return LCRConfig(
        image_size=224,
        num_frames=16,
        width=192,
        depth=11,
        head_width=64,
        channel_mix_ratio=2.0,
        past="below",
    )


@register_model
def lcr_pico() -> LCRConfig:
    """For few clips: it sees what changes, not the picture, and keeps where and when (LOG.md)."""
    return LCRConfig(
        image_size=64,
        patch_size=8,
        num_frames=16,
        width=64,
        depth=2,
        head_width=32,
        channel_mix_ratio=2.0,
        stem_picture=False,
        key_value_source="frame",
        memory_clock="change",
        readout="cells",
        position="none",
        edges="none",
    )


@register_model
def lcr_lite() -> LCRConfig:
    """For few clips, on a stem trained on ImageNet, of whose features it sees the change: training
    needs `videorwkv[pretrained]` (LOG.md)."""
    return replace(lcr_pico(), image_size=112, patch_size=16, stem="lite0")


@register_model
def lcr_nano() -> LCRConfig:
    """For CPUs and cameras: 112 px, 49 tokens a frame."""
    return LCRConfig(
        image_size=112,
        num_frames=16,
        width=96,
        depth=4,
        head_width=32,
        channel_mix_ratio=2.0,
        position="none",
    )


@register_model
def lcr_vrwkv6_tiny() -> LCRConfig:
    """The body of Vision-RWKV's image classifier VRWKV6-T with LCR's memory and edges, which start
    without influence: for its ImageNet weights (`--init vrwkv6:FILE.pth`)."""
    return LCRConfig(
        image_size=224,
        num_frames=16,
        stem="patch",
        stem_frames=1,
        width=192,
        depth=12,
        head_width=64,
        channel_mix_ratio=4.0,
        spatial_shift="q_shift",
        scan_affine=True,
        cell_scale=True,
        position="learned",
        token_norm=True,
    )
