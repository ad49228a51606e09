"""Random weights in the published names and shapes, beside the image model written out here."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vrwkv6_weights import HEAD, SMALL, TINY, state_dict

from videorwkv.errors import CheckpointError
from videorwkv.models import LCR, Inputs, build_model, model_config
from videorwkv.models.stems import PIXEL_MEAN, PIXEL_STD
from videorwkv.models.vrwkv6 import convert


def shifted(x_BLC: Tensor, grid: int) -> Tensor:
    x = x_BLC.transpose(1, 2).unflatten(1, (-1, HEAD)).unflatten(3, (grid, grid))
    out, q = torch.zeros_like(x), HEAD // 4
    out[:, :, :q, :, 1:] = x[:, :, :q, :, :-1]
    out[:, :, q : 2 * q, :, :-1] = x[:, :, q : 2 * q, :, 1:]
    out[:, :, 2 * q : 3 * q, 1:] = x[:, :, 2 * q : 3 * q, :-1]
    out[:, :, 3 * q :, :-1] = x[:, :, 3 * q :, 1:]
    return out.flatten(3).flatten(1, 2).transpose(1, 2)


def scan(r: Tensor, k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """Both ways, token by token; a token's decay acts on what it hands on. [B, L, H, D] each."""
    out = torch.einsum("blhd,hd,blhd,blhe->blhe", r, bonus, k, v)
    for order in (range(r.shape[1]), range(r.shape[1] - 1, -1, -1)):
        state = torch.zeros(*r.shape[:1], *r.shape[2:], HEAD, dtype=r.dtype)
        for i in order:
            out[:, i] += torch.einsum("bhd,bhde->bhe", r[:, i], state)
            state = decay[:, i, :, :, None] * state + k[:, i, :, :, None] * v[:, i, :, None, :]
    return out


def image_model(state: dict[str, Tensor], pixels_BCHW: Tensor, grid: int) -> Tensor:
    """VRWKV6 as its authors describe and publish it, up to the norm after the last layer: tokens
    [B, L, C]."""
    w = {name.removeprefix("backbone."): value.double() for name, value in state.items()}
    width = w["pos_embed"].shape[2]
    heads = (width // HEAD, HEAD)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    x = F.conv2d(
        pixels_BCHW, w["patch_embed.projection.weight"], w["patch_embed.projection.bias"], 16
    )
    x = x.flatten(2).transpose(1, 2) + w["pos_embed"]
    depth = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("layers."))
    for i in range(depth):
        p = f"layers.{i}."
        if i == 0:
            x = norm(x, p + "ln0")
        n = norm(x, p + "ln1")
        change = shifted(n, grid) - n
        mixed = n + change * w[p + "att.time_maa_x"]
        low = torch.tanh(mixed @ w[p + "att.time_maa_w1"]).unflatten(-1, (5, 32))
        parts = torch.einsum("blfr,frc->fblc", low, w[p + "att.time_maa_w2"])
        seen = {
            name: n + change * (w[p + f"att.time_maa_{name}"] + part)
            for name, part in zip("wkvrg", parts, strict=True)
        }
        r, k, v = (
            (seen[name[0]] @ w[p + f"att.{name}.weight"].T).unflatten(-1, heads)
            for name in ("receptance", "key", "value")
        )
        rate = w[p + "att.time_decay"] + (
            torch.tanh(seen["w"] @ w[p + "att.time_decay_w1"]) @ w[p + "att.time_decay_w2"]
        )
        decay = torch.exp(-torch.exp(rate)).expand_as(n).unflatten(-1, heads)
        out = scan(r, k, v, decay, w[p + "att.time_faaaa"]).flatten(2)
        out = F.group_norm(
            out.flatten(0, 1), heads[0], w[p + "att.ln_x.weight"], w[p + "att.ln_x.bias"], 1e-5
        ).view_as(n)
        x = (
            x
            + (out * F.silu(seen["g"] @ w[p + "att.gate.weight"].T)) @ w[p + "att.output.weight"].T
        )
        n = norm(x, p + "ln2")
        near = shifted(n, grid)
        mix = {name: w[p + f"ffn.spatial_mix_{name}"] for name in "kr"}
        key, receptance = (n * mix[name] + near * (1 - mix[name]) for name in "kr")
        hidden = torch.relu(key @ w[p + "ffn.key.weight"].T).square()
        x = x + torch.sigmoid(receptance @ w[p + "ffn.receptance.weight"].T) * (
            hidden @ w[p + "ffn.value.weight"].T
        )
    return x


def without_low_rank(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: x * 0 if n[-3:] in ("_w1", "_w2") else x for n, x in state.items()}


def pixels(frames_BHWC: Tensor) -> Tensor:
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (PIXEL_MEAN, PIXEL_STD))
    return ((frames_BHWC.double() / 255 - mean) / std).permute(0, 3, 1, 2)


def tokens_of(model: LCR, inputs: Inputs) -> Tensor:
    """Tokens after the last layer, [T, B, L, C]."""
    found = []
    handle = model.layers[-1].register_forward_hook(lambda m, args, out: found.append(out[0]))
    with torch.inference_mode():
        model.scan(inputs)
    handle.remove()
    return torch.cat(found)


def converted(state: dict[str, Tensor]) -> LCR:
    config, weights, _, _ = convert(state)
    torch.manual_seed(0)
    model = build_model(config).double().eval()
    fits = model.load_state_dict(weights, strict=False)
    new = {name.partition(".")[0] for name in fits.missing_keys if not name.startswith("layers.")}
    assert (new, fits.unexpected_keys) == (
        {"edge_stem", "zero_conv", "norm_head", "head"}, []
    )  # fmt: skip
    left = {n.split(".", 2)[2] for n in fits.missing_keys if n.startswith("layers.")}
    assert left == {"forget_rate", "forget.weight"}
    return model


def test_every_frame_has_the_tokens_of_the_image_model() -> None:
    state = without_low_rank(state_dict(**SMALL))
    model = converted(state)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(256, (2, 4, 48, 48, 3), dtype=torch.uint8, generator=generator)
    edges = torch.randint(256, (2, 4, 48, 48), dtype=torch.uint8, generator=generator)
    found = tokens_of(model, Inputs(frames, edges))
    for t in range(4):
        wanted = image_model(state, pixels(frames[:, t]), 3)
        # Float64 on both sides; the pixels' scale is kept in float32.
        assert float((found[t] - wanted).norm() / wanted.norm()) < 1e-6
        torch.testing.assert_close(found[t], wanted, rtol=1e-5, atol=1e-5)


def test_the_published_size_in_float32() -> None:
    state = without_low_rank(state_dict(**TINY))
    config = convert(state).config
    assert config == model_config("lcr_vrwkv6_tiny")
    model = converted(state).float()
    frames = torch.randint(
        256, (1, 2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    found = tokens_of(model, Inputs(frames, torch.zeros(1, 2, 224, 224, dtype=torch.uint8)))
    wanted = image_model(state, pixels(frames[:, 1]), 14)
    # Twelve layers of rounding in float32, against float64.
    assert float((found[1].double() - wanted).norm() / wanted.norm()) < 1e-5


def test_a_part_that_is_left_out_is_named_and_counts() -> None:
    state = state_dict(**SMALL)
    left_out = convert(state).left_out
    assert {name.rpartition(".")[2] for name in left_out} == {
        "time_maa_x", "time_maa_w", "time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2",
        "weight", "bias",
    }  # fmt: skip
    assert {n for n in left_out if "layers" not in n} == {
        "ln1.weight", "ln1.bias", "head.fc.weight", "head.fc.bias"
    }  # fmt: skip
    frames = torch.randint(
        256, (1, 1, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    found = tokens_of(
        converted(state), Inputs(frames, torch.zeros(1, 1, 48, 48, dtype=torch.uint8))
    )
    wanted = image_model(state, pixels(frames[:, 0]), 3)
    assert float((found[0] - wanted).norm() / wanted.norm()) > 0.01


def test_decays_beyond_the_scans_are_clipped_and_counted() -> None:
    state = state_dict(**SMALL)
    state["backbone.layers.1.att.time_decay"][0, 0, :5] = math.log(2.5)
    _, weights, _, clipped = convert(state)
    assert clipped == 5
    assert bool(torch.isfinite(weights["layers.1.decay"]).all())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("backbone.layers.0.att.time_faaaa", None, "no weights of VRWKV6"),
        ("backbone.layers.1.ln2.bias", None, r"'layers\.1\.ln2\.bias' is missing"),
        ("backbone.layers.1.ffn.key.weight", torch.zeros(3, 128), r"\[3, 128\]; \[512, 128\] is"),
        ("backbone.pos_embed", torch.zeros(1, 10, 128), "square grid"),
        ("backbone.pos_embed", torch.zeros(10), "3 dimensions are wanted"),
    ],
)
def test_files_of_other_models(name: str, value: Tensor | None, said: str) -> None:
    state = state_dict(**SMALL)
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(CheckpointError, match=said):
        convert(state)


def test_the_older_vision_rwkv_is_named() -> None:
    with pytest.raises(CheckpointError, match="VRWKV, whose scan has no heads"):
        convert({"backbone.layers.0.att.spatial_decay": torch.zeros(192)})
