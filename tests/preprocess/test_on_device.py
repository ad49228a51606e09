"""Frames on a device become what they become on the CPU, to the pixel. The operations are the same
on each device, so that a CPU can test them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from videorwkv.data.motion.render import texture
from videorwkv.errors import UsageError
from videorwkv.preprocess import inputs as inputs_module
from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import FrameFit, fit, preprocess, with_edges
from videorwkv.preprocess.on_device import ON_DEVICE, edge_map_on_device, resize_on_device


def pictures(height: int, width: int, number: int = 3) -> np.ndarray:
    """Soft textures with a sharp square, noise, and a flat one: uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(height * width)
    side = max(height, width)
    frames = []
    for i in range(number):
        image_HWC = texture(rng, side, light=110, contrast=35)[:height, :width].astype(float)
        image_HWC[height // 4 : height // 2, width // 3 : width // 2] += 60 - 40 * i
        image_HWC += rng.normal(0, 2 * i, image_HWC.shape)
        frames.append(image_HWC.clip(0, 255).astype(np.uint8))
    frames.append(np.full_like(frames[0], 90))
    return np.stack(frames)


@pytest.mark.parametrize(
    "options",
    [
        EdgeOptions(),
        EdgeOptions(norm="l1"),
        EdgeOptions(high=60.5, low_high_ratio=0.3),
        EdgeOptions(blur_size=1),
        EdgeOptions(blur_size=11),
        EdgeOptions(blur_size=7, blur_sigma=1.3, min_high=0.0),
    ],
)
@pytest.mark.parametrize("method", ON_DEVICE)
def test_edges_are_those_of_opencv(method, options):
    for height, width in ((96, 96), (61, 88), (1, 9), (5, 1)):
        frames_THWC = pictures(height, width)
        wanted = edge_map(frames_THWC, method, options)
        found = edge_map_on_device(torch.from_numpy(frames_THWC), method, options)
        assert found.dtype == torch.uint8
        assert np.array_equal(found.numpy(), wanted)
    assert 0 < (edge_map(pictures(96, 96), method, options) > 0).mean() < 1


# Shrunk by any factor, by whole ones (two is a case of its own), enlarged, as it is, and wide.
@pytest.mark.parametrize("shape", [(150, 97), (192, 288), (128, 128), (40, 50), (64, 64), (64, 90)])
@pytest.mark.parametrize("frame_fit", ["crop", "stretch"])
def test_resized_frames_are_those_of_opencv(shape, frame_fit: FrameFit):
    frames_THWC = pictures(*shape)
    wanted = fit(frames_THWC, 64, frame_fit)
    box = inputs_module.fit_box(*shape, frame_fit)
    part = torch.from_numpy(frames_THWC)[:, box.top : box.bottom, box.left : box.right]
    assert np.array_equal(resize_on_device(part, 64).numpy(), wanted)


@pytest.mark.parametrize("edges", ["canny", "scattered", "none"])
def test_a_tensor_becomes_what_an_array_becomes(edges):
    frames_THWC = pictures(70, 90)
    how = {"size": 32, "edges": edges, "edge_options": EdgeOptions()}
    wanted = preprocess(frames_THWC, **how)
    here = preprocess(torch.from_numpy(frames_THWC), **how)
    there = inputs_module._preprocess_there(
        torch.from_numpy(frames_THWC), *how.values(), frame_fit="crop"
    )
    for a, b, c in zip(wanted, here, there, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_frames_elsewhere_get_their_edges_there(monkeypatch):
    frames = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8, device="meta")
    seen = []

    def made(frames_FHWC, method, options):
        seen.append((method, tuple(frames_FHWC.shape), frames_FHWC.device.type))
        return frames_FHWC[..., 0]

    monkeypatch.setattr(inputs_module, "HAS_FLOAT64", ("meta",))
    monkeypatch.setattr(inputs_module, "edge_map_on_device", made)
    assert with_edges(frames, "canny", EdgeOptions()).edges_BTHW.shape == (2, 3, 16, 16)
    assert seen == [("canny", (6, 16, 16, 3), "meta")]


@pytest.mark.parametrize(
    "bad", [torch.zeros(2, 8, 8, 3), torch.zeros(3, 8, 8).byte(), torch.zeros(0, 8, 8, 3).byte()]
)
def test_other_tensors_are_refused(bad):
    how = {"size": 8, "edges": "none", "edge_options": EdgeOptions()}
    for tensor in (bad, bad.to("meta")):
        with pytest.raises(UsageError, match="preprocess: got"):
            preprocess(tensor, **how)
