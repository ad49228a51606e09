from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from videorwkv.data import torchvision_transforms
from videorwkv.data.torchvision_transforms import apply_transforms, make_transforms, parse_calls
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError


class Transform(nn.Module):
    pass


class Noise(Transform):
    """Draws from PyTorch's generator, as those of torchvision do."""

    def __init__(self, *, most: int = 50) -> None:
        super().__init__()
        self.most = most

    def forward(self, frames: Tensor) -> Tensor:
        return frames + torch.randint(self.most, (1,), dtype=torch.uint8)


class ToFloat(Transform):
    def forward(self, frames: Tensor) -> Tensor:
        return frames.float()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision is large, and not installed where these tests run."""
    v2: Any = ModuleType("torchvision.transforms.v2")
    v2.Transform, v2.Noise, v2.ToFloat, v2.functional = Transform, Noise, ToFloat, ModuleType("f")
    transforms: Any = ModuleType("torchvision.transforms")
    transforms.v2 = v2
    for module in (ModuleType("torchvision"), transforms, v2):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    make_transforms.cache_clear()
    yield
    make_transforms.cache_clear()


def test_text_becomes_calls() -> None:
    assert parse_calls("") == ()
    calls = parse_calls("GaussianBlur(kernel_size=5); JPEG(quality=(50, 90)) ;Grayscale")
    assert calls == (
        ("GaussianBlur", {"kernel_size": 5}),
        ("JPEG", {"quality": (50, 90)}),
        ("Grayscale", {}),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Blur(5)", "by name"),
        ("Blur(x=open('f'))", "not understood"),
        ("__import__('os').system('x')", "not understood"),
        ("Blur(**{})", r"\*\* is not read"),
        ("a b", "not understood"),
        ("RandomHorizontalFlip(p=1)", "flip_probability"),
        ("CutMix(num_classes=3)", "it mixes clips of a batch: cutmix"),
    ],
)
def test_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(torchvision=text)


def test_one_draw_serves_all_frames(fake: None) -> None:
    frames_THWC = np.zeros((3, 4, 5, 3), np.uint8)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, again, other = (apply_transforms(frames_THWC, "Noise(most=200)", n) for n in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.shape == frames_THWC.shape
    assert np.array_equal(one, again)
    assert len(np.unique(one)) == 1
    assert not np.array_equal(one, other)
    draw = Augmentation(torchvision="Noise").draw(np.random.default_rng(0), 4)
    assert len(np.unique(draw.finish(frames_THWC))) == 1
    assert draw.finish(frames_THWC).max() > 0


def test_what_torchvision_does_not_have(fake: None) -> None:
    for text, message in (
        ("Noize", "no transform 'Noize'. Did you mean 'Noise'"),
        ("functional", "no transform 'functional'"),
        ("Noise(least=3)", "unexpected keyword argument 'least'"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_transforms(text)
    with pytest.raises(ConfigError, match=r"ToFloat makes .* torch\.float32 of .* uint8"):
        apply_transforms(np.zeros((1, 4, 4, 3), np.uint8), "ToFloat", 0)


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_loader import motion

    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    torchvision_transforms.make_transforms.cache_clear()
    with pytest.raises(ConfigError, match="needs torchvision, which can't be imported here"):
        motion(augmentation=Augmentation(torchvision="GaussianBlur(kernel_size=3)"))
