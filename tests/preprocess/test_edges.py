from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.errors import ConfigError, UsageError
from videorwkv.preprocess import edges
from videorwkv.preprocess.edges import EDGE_METHODS, EdgeOptions, edge_map
from videorwkv.video import open_video

SIDE = 96


def scene(seed: int = 0, contrast: float = 1.0, ground: int = 0) -> NDArray[np.uint8]:
    """Overlapping shapes of random colours with a little noise, [H, W, 3]."""
    rng = np.random.default_rng(seed)
    image_HWC = np.full((SIDE, SIDE, 3), 90, np.uint8)
    for _ in range(12):
        colour = rng.integers(0, 256, 3).tolist()
        centre = rng.integers(0, SIDE, 2).tolist()
        cv2.circle(image_HWC, centre, int(rng.integers(8, 25)), colour, -1)
    noisy_HWC = image_HWC + rng.normal(0, 3, image_HWC.shape)
    return np.clip(noisy_HWC * contrast + ground, 0, 255).round().astype(np.uint8)


def density(edges: NDArray[np.uint8]) -> float:
    return float((edges > 0).mean())


@pytest.mark.parametrize("method", EDGE_METHODS)
def test_shapes_and_independence_of_frames(method: str) -> None:
    frames_THWC = np.stack([scene(seed)[:, :80] for seed in range(3)])
    edges_THW = edge_map(frames_THWC, method)
    assert edges_THW.shape == (3, SIDE, 80)
    assert edges_THW.dtype == np.uint8
    for frame_HWC, edges_HW in zip(frames_THWC, edges_THW, strict=True):
        np.testing.assert_array_equal(edge_map(frame_HWC, method), edges_HW)
    assert edge_map(frames_THWC[:0], method).shape == (0, SIDE, 80)
    # A view with other strides is the same picture.
    np.testing.assert_array_equal(
        edge_map(frames_THWC[:, :, ::-1], method),
        edge_map(frames_THWC[:, :, ::-1].copy(), method),
    )


@pytest.mark.parametrize("method", EDGE_METHODS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 5)])
def test_tiny_frames(method: str, size: tuple[int, int]) -> None:
    frame_HWC = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert edge_map(frame_HWC, method).shape == size


def test_canny_is_opencvs_with_the_thresholds_of_the_frame() -> None:
    frame_HWC = scene()
    for norm in ("l1", "l2"):
        options = EdgeOptions(norm=norm, blur_size=3, blur_sigma=0.8, low_high_ratio=0.4)
        grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
        grey_HW = cv2.GaussianBlur(grey_HW, (3, 3), 0.8)
        dx_HW = cv2.Sobel(grey_HW, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REPLICATE)
        dy_HW = cv2.Sobel(grey_HW, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REPLICATE)
        length_HW = np.hypot(dx_HW, dy_HW) if norm == "l2" else np.abs(dx_HW) + np.abs(dy_HW)
        top = length_HW.max()
        bins_HW = np.rint(length_HW * 255 / top).astype(np.uint8)
        high = _otsu(bins_HW) * top / 255
        expected_HW = cv2.Canny(grey_HW, 0.4 * high, high, L2gradient=norm == "l2")
        found_HW = edge_map(frame_HWC, "canny", options)
        # Float32 can put a pixel into the next bin; the threshold then moves by one bin at most.
        assert np.mean(found_HW != expected_HW) < 0.002
        assert set(np.unique(found_HW)) == {0, 255}


def _otsu(values: NDArray[np.uint8]) -> int:
    """The split with the largest variance between the two classes, by definition."""
    flat = values.ravel().astype(float)
    best, best_split = -1.0, 0
    for split in range(255):
        low, high = flat[flat <= split], flat[flat > split]
        if len(low) and len(high):
            between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
            if between > best:
                best, best_split = between, split
    return best_split


def test_washed_out_frames_keep_their_edges() -> None:
    for seed in range(5):
        full_HW = edge_map(scene(seed))
        washed_HW = edge_map(scene(seed, contrast=30 / 255, ground=100))
        assert 0.03 < density(full_HW) < 0.25
        assert density(washed_HW) == pytest.approx(density(full_HW), rel=0.35)
        near_HW = cv2.dilate(full_HW, np.ones((3, 3), np.uint8))
        assert np.mean(near_HW[washed_HW > 0] > 0) > 0.9


@pytest.mark.parametrize("grey", [False, True])
def test_sensor_noise_in_the_dark_is_no_edge(grey: bool) -> None:
    rng = np.random.default_rng(0)
    noise_HWC = rng.integers(0, 7, (SIDE, SIDE, 1 if grey else 3), dtype=np.uint8)
    noise_HWC = np.broadcast_to(noise_HWC, (SIDE, SIDE, 3)).copy()
    assert density(edge_map(noise_HWC)) < 0.01
    # It is the floor that does it: Otsu alone splits noise as well.
    assert density(edge_map(noise_HWC, "canny", EdgeOptions(min_high=0.0))) > 0.1


@pytest.mark.parametrize("method", EDGE_METHODS)
@pytest.mark.parametrize("level", [0, 127, 255])
def test_flat_frames_are_empty(method: str, level: int) -> None:
    flat_HWC = np.full((SIDE, SIDE, 3), level, np.uint8)
    assert not edge_map(flat_HWC, method, EdgeOptions(min_high=0.0)).any()


@pytest.mark.parametrize(("method", "scale"), [("sobel", 4 * 0.5), ("laplacian", 4 * 1.5)])
def test_graded_maps_scale_with_the_step_and_saturate(method: str, scale: float) -> None:
    options = EdgeOptions(blur_size=1)
    peaks = []
    for step in (10, 40, 250):
        frame_HWC = np.zeros((8, 8, 3), np.uint8)
        frame_HWC[:, 4:] = step
        peaks.append(int(edge_map(frame_HWC, method, options).max()))
    # A 3x3 Sobel filter weighs a vertical step with 1 + 2 + 1, this Laplacian with 2 + 2.
    assert peaks == [round(scale * 10), round(scale * 40), 255]


def test_scattered_is_as_dense_as_canny_and_elsewhere() -> None:
    frame_HWC = scene()
    edges_HW, scattered_HW = edge_map(frame_HWC), edge_map(frame_HWC, "scattered")
    assert density(scattered_HW) == density(edges_HW) > 0.02
    both = ((scattered_HW > 0) & (edges_HW > 0)).mean()
    assert both < 3 * density(edges_HW) ** 2
    assert (scattered_HW != edge_map(scene(1), "scattered")).any()


def test_a_fixed_threshold_is_obeyed() -> None:
    frame_HWC = scene()
    few, many = (edge_map(frame_HWC, "canny", EdgeOptions(high=high)) for high in (400.0, 40.0))
    assert 0 < density(few) < density(edge_map(frame_HWC)) < density(many)
    # The floor is Otsu's, a named threshold stands as it is.
    low = EdgeOptions(high=40.0, min_high=1000.0)
    np.testing.assert_array_equal(edge_map(frame_HWC, "canny", low), many)


def test_none_is_zero() -> None:
    assert not edge_map(scene(), "none").any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("blur_size", 9), ("blur_sigma", 3.0), ("norm", "l1"), ("low_high_ratio", 0.2)],
)
def test_every_option_matters(name: str, value: object) -> None:
    changed = EdgeOptions(**{name: value})  # type: ignore[arg-type]
    frames_THWC = np.stack([scene(seed) for seed in range(4)])
    assert not np.array_equal(edge_map(frames_THWC), edge_map(frames_THWC, "canny", changed))


def test_min_high_matters_in_dim_frames_only() -> None:
    dim_HWC, bright_HWC = scene(contrast=0.02), scene()
    lower = EdgeOptions(min_high=2.0)
    assert density(edge_map(dim_HWC, "canny", lower)) > density(edge_map(dim_HWC))
    np.testing.assert_array_equal(edge_map(bright_HWC, "canny", lower), edge_map(bright_HWC))


def test_a_typing_error_in_the_method() -> None:
    with pytest.raises(UsageError, match=r"Unknown edge method 'cany'\. Did you mean 'canny'"):
        edge_map(scene(), "cany")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"\[2, 3, 4, 4\]"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), r"\[T, H, W, 3\]"),
        (np.zeros((2, 0, 4, 3), np.uint8), r"\[2, 0, 4, 3\]"),
        ([[1, 2]], "list"),
    ],
)
def test_wrong_frames(frames: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        edge_map(frames)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"blur_size": 4},
        {"blur_size": 0},
        {"blur_sigma": -1.0},
        {"norm": "l3"},
        {"low_high_ratio": 0.0},
        {"low_high_ratio": 1.1},
        {"min_high": -1.0},
        {"high": -1.0},
    ],
)
def test_wrong_options(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EdgeOptions(**wrong)


def test_density_on_real_video(shared_dir: Path) -> None:
    names = ["clips/odd/demo.mp4", "clips/kinetics400/swimming_breast_stroke_1AD6ltFmiaI.mp4"]
    paths = [shared_dir / name for name in names]
    paths += sorted((shared_dir / "data/handwash").glob("*/*.mp4"))[:2]
    for path in paths:
        frames_THWC = open_video(path).sample(6, short_side=160).frames_THWC
        densities = (edge_map(frames_THWC) > 0).mean(axis=(1, 2))
        assert np.all((densities > 0.02) & (densities < 0.16))


def test_an_edge_method_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "EDGE_METHODS", dict(edges.EDGE_METHODS))

    @edges.register_edges
    def bright(grey_HW: np.ndarray, options: EdgeOptions) -> np.ndarray:
        return np.where(grey_HW > 100, 255, 0).astype(np.uint8)

    frame_HWC = np.zeros((32, 32, 3), np.uint8)
    frame_HWC[:, 16:] = 200
    assert edge_map(frame_HWC, "bright")[:, 20:].all()
    assert not edge_map(frame_HWC, "bright")[:, :12].any()
    with pytest.raises(UsageError, match="register_edges: there is an edge method 'bright'"):
        edges.register_edges(bright)
