from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.models.peers import PEERS, find_peers, normalised, video_mae
from benchmarks.models.peers_conv import MoViNetStream, r3d_18, x3d_m
from videorwkv.errors import UsageError
from videorwkv.models import Inputs
from videorwkv.models.cost import count_macs


def size(
    build: Callable[[], nn.Module], *shape: int, state: Callable[[nn.Module], tuple[Tensor, ...]]
) -> tuple[float, float]:
    """Millions of parameters and billions of MACs, without a number computed."""
    with torch.device("meta"):
        network, pixels = build().eval(), torch.zeros(shape)
        macs = count_macs(lambda: network(pixels, *state(network)))
    return sum(x.numel() for x in network.parameters()) / 1e6, macs / 1e9


def no_state(network: nn.Module) -> tuple[Tensor, ...]:
    return ()


# Published: arXiv 1711.11248 (its code: 33.37 M, 40.70 GMACs at 112 px) and 2004.04730, table 4.
@pytest.mark.parametrize(
    ("build", "side", "parameters", "gmacs"),
    [(r3d_18, 112, 33.37, 40.70), (x3d_m, 224, 3.79, 4.73)],
)
def test_a_clip_model_is_as_published(
    build: Callable[[int], nn.Module], side: int, parameters: float, gmacs: float
) -> None:
    found = size(lambda: build(400), 1, 3, 16, side, side, state=no_state)
    assert found == (pytest.approx(parameters, abs=0.005), pytest.approx(gmacs, abs=0.005))


def test_movinet_is_near_what_is_published() -> None:
    # 3.1 M and 2.71 billion for 50 frames of 172 px (arXiv 2103.11511), with 3-D kernels.
    parameters, gmacs = size(
        lambda: MoViNetStream(600), 1, 3, 172, 172, state=lambda network: network.init_state(1, 172)
    )
    assert parameters == pytest.approx(3.1, rel=0.06)
    assert 50 * gmacs == pytest.approx(2.71, rel=0.08)


@pytest.mark.parametrize(
    ("name", "num_classes", "shape", "parameters", "gmacs"),
    [
        # arXiv 1801.04381, table 4 (3.4 M and 300 M there; its weights have 3.50 M).
        ("mobilenet_v2", 1000, (1, 3, 224, 224), 3.505, 0.30),
        # arXiv 2012.12877, table 5 names 5 M; products of 196 + 1 tokens.
        ("vit_tiny", 1000, (1, 3, 224, 224), 5.717, 1.25),
        # arXiv 2203.12602, table 6 names 22 M and 57 billion for S.
        ("videomae_small", 400, (1, 3, 16, 224, 224), 22.03, 57.0),
        # arXiv 2102.05095, table 2 names 121.4 M and 0.59 for 8 frames in three views.
        ("timesformer", 400, (1, 3, 8, 224, 224), 121.6, 196.0),
    ],
)
def test_a_transformer_is_as_published(
    name: str, num_classes: int, shape: tuple[int, ...], parameters: float, gmacs: float
) -> None:
    pytest.importorskip("transformers", reason="needs the extra `bench`")
    peer, num_frames = PEERS[name], shape[2] if len(shape) == 5 else 1
    found = size(lambda: peer.network(num_classes, num_frames), *shape, state=no_state)
    assert found == (pytest.approx(parameters, rel=0.002), pytest.approx(gmacs, rel=0.02))


def test_joint_attention_is_the_same_fused_or_not() -> None:
    pytest.importorskip("transformers", reason="needs the extra `bench`")
    torch.manual_seed(0)
    fused = video_mae(192, "sdpa")(5, 2).eval()
    plain = video_mae(192, "eager")(5, 2).eval()
    plain.load_state_dict(fused.state_dict())
    clip = torch.rand(1, 3, 2, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(fused(clip), plain(clip), rtol=1e-4, atol=1e-5)


def test_movinet_remembers_a_fixed_amount() -> None:
    torch.manual_seed(0)
    network = MoViNetStream(7).eval()
    state = network.init_state(2, 64)
    shapes = [x.shape for x in state]
    frames = torch.rand(3, 2, 3, 64, 64)
    seen = []
    with torch.inference_mode():
        for frame in frames:
            logits, *state = network(frame, *state)
            assert [x.shape for x in state] == shapes
            seen.append(logits)
        alone, *_ = network(frames[2], *network.init_state(2, 64))
        other, *_ = network(frames[2].flip(0), *(x.flip(0) if x.ndim > 1 else x for x in state))
    assert seen[-1].shape == (2, 7)
    assert not torch.allclose(seen[-1], alone)  # the past counts
    assert other.shape == (2, 7)


def test_pixels_have_the_statistics_of_imagenet() -> None:
    frames = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    pixels = normalised(Inputs(frames, frames[..., 0]))
    assert pixels.shape == (1, 2, 3, 4, 4)
    assert pixels[0, 0, :, 0, 0].tolist() == pytest.approx(
        [-0.485 / 0.229, 0.544 / 0.224, -0.406 / 0.225]
    )


def test_unknown_peer() -> None:
    with pytest.raises(UsageError, match=r"Unknown peer 'x3dm'. Did you mean 'x3d_m'\?"):
        find_peers(["x3dm"])
    assert find_peers(["all"]) == find_peers(["all", "x3d_m"]) == PEERS
    with pytest.raises(UsageError, match="Unknown peer 'x3dm'"):
        find_peers(["all", "x3dm"])


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'videorwkv\[bench\]'"):
        PEERS["vit_tiny"].network()
