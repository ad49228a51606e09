from __future__ import annotations

import numpy as np
import pytest
import torch

from studies.corruptions import Blur, Change, Changed, Dark, Jpeg, Noise, Order
from videorwkv import LCRConfig, build_model
from videorwkv.errors import ConfigError
from videorwkv.models import Inputs
from videorwkv.preprocess.edges import edge_map

CONFIG = LCRConfig(image_size=32, patch_size=8, width=16, head_width=8, depth=1, num_classes=3)
CHANGES: list[Change] = [
    *(Order(how) for how in ("backwards", "shuffled", "frozen")),  # type: ignore[arg-type]
    *(Noise(20), Blur(1.5), Dark(0.3), Jpeg(20)),
]


def inputs(count: int = 3) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (count, 5, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Inputs(frames, torch.zeros(count, 5, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
def test_a_clip_is_changed_the_same_wherever_it_stands(change: Change) -> None:
    model = Changed(build_model(CONFIG).eval(), change)
    clips = inputs()
    together = model.apply_change(clips)
    alone = model.apply_change(Inputs(clips.frames_BTHWC[2:], clips.edges_BTHW[2:]))
    assert torch.equal(together.frames_BTHWC[2], alone.frames_BTHWC[0])
    assert together.frames_BTHWC.shape == clips.frames_BTHWC.shape
    assert together.frames_BTHWC.dtype == torch.uint8
    assert not torch.equal(together.frames_BTHWC, clips.frames_BTHWC)
    edges = edge_map(together.frames_BTHWC[0].numpy(), "canny", CONFIG.edge_options)
    assert np.array_equal(together.edges_BTHW[0].numpy(), edges)


def test_orders() -> None:
    frames_THWC = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    rng = np.random.default_rng(0)
    order = {how: Order(how)(frames_THWC, rng)[:, 0, 0, 0].tolist()  # type: ignore[arg-type]
             for how in ("backwards", "shuffled", "frozen")}  # fmt: skip
    assert order["backwards"] == [5, 4, 3, 2, 1, 0]
    assert order["frozen"] == [3] * 6
    assert sorted(order["shuffled"]) == list(range(6))
    assert order["shuffled"] != list(range(6))


def test_pixels() -> None:
    rng = np.random.default_rng(0)
    grey_THWC = np.full((2, 64, 64, 3), 120, np.uint8)
    grey_THWC[..., 0] = 200
    noisy = Noise(10)(grey_THWC, rng).astype(float) - grey_THWC
    assert noisy.std() == pytest.approx(10, rel=0.05)
    assert Dark(0.25)(grey_THWC, rng)[0, 0, 0].tolist() == [50, 30, 30]
    # Colours keep their order through the codec.
    assert np.abs(Jpeg(90)(grey_THWC, rng).astype(int) - grey_THWC).max() <= 3
    half_THWC = grey_THWC.copy()
    half_THWC[:, :, 32:] = 0
    assert 0 < Blur(2)(half_THWC, rng)[0, 5, 31, 1] < 120


def test_model_reads_the_changed_clip() -> None:
    model = build_model(CONFIG).eval()
    clips = inputs()
    dark = Changed(model, Dark(0.2)).eval()
    with torch.inference_mode():
        assert torch.equal(dark(clips), model(dark.apply_change(clips)))
        assert not torch.allclose(dark(clips), model(clips))
        state = dark.init_state(3, image_size=32, tube_mask_ratio=0.5)
        assert dark.scan(clips, state)[0].shape == (3, 5, 3)


def test_unknown_order() -> None:
    with pytest.raises(ConfigError, match="backwards, shuffled, frozen"):
        Order("sideways")  # type: ignore[arg-type]
