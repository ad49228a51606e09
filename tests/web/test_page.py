"""The page itself in headless Chromium: the same numbers as Python, its buttons, a narrow screen.

Skipped, saying so, where Chromium is missing or npm can't fetch ONNX Runtime.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pages
import pytest
import tiny
import torch
from numpy.typing import NDArray

from benchmarks.chromium import Chromium
from videorwkv.inference.stream_options import StreamOptions
from videorwkv.inference.track import _smoothed
from videorwkv.models import LCR, create_model
from videorwkv.video import Sampling
from videorwkv.web import Server, export_site
from videorwkv.web.site import PAGE

LABELS = ("left", "right", "up", "down <b>&amp;", "五")
SMALL = {"depth": 2, "num_classes": len(LABELS), "image_size": 32, "width": 16, "head_width": 8}
# One with edges and one without, which sees what changes.
MODELS: dict[str, dict[str, Any]] = {"lcr_nano": {"patch_size": 8}, "lcr_pico": {}}
SAMPLING = Sampling(num_frames=8, fps=5.0)
READY = "document.body.dataset.state === 'ready'"
ENDED = "document.body.dataset.state === 'ended'"
MESSAGE = "document.getElementById('message').textContent"


def sharp(name: str, frames_THWC: NDArray[np.uint8], **options: Any) -> LCR:
    """Random weights, and a head that makes clear differences of what these frames do to them."""
    torch.manual_seed(2)
    model = create_model(name, **SMALL, **MODELS[name], **options).eval()
    with torch.no_grad():
        logits_TK = model.scan(model.preprocess(frames_THWC))[0][0]
        factor = 2 / logits_TK.std(0).mean()
        model.head.weight.mul_(factor)
        model.head.bias.copy_((model.head.bias - logits_TK.mean(0)) * factor)
    return model


@pytest.fixture(scope="module")
def sites(
    browser: Chromium,
    frames_THWC: NDArray[np.uint8],
    need: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[LCR, str]]]:
    """Model and address by the preset's name."""
    need("onnx")
    pages.need_runtime()
    found, servers = {}, []
    for name in MODELS:
        model = sharp(name, frames_THWC)
        folder = tmp_path_factory.mktemp("sites") / name
        export_site(model, folder, labels=LABELS, sampling=SAMPLING)
        servers.append(Server(folder, 0).__enter__())
        found[name] = model, servers[-1].url
    yield found
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture(params=list(MODELS))
def page(
    request: pytest.FixtureRequest, browser: Chromium, sites: dict[str, tuple[LCR, str]]
) -> Iterator[tuple[LCR, Chromium]]:
    """A model's page, ready, in WebAssembly; no test may leave an error in its console."""
    model, address = sites[request.param]
    browser.errors.clear()
    browser.asked.clear()
    browser.open(f"{address}?backend=wasm")
    browser.wait(READY)
    yield model, browser
    assert not browser.errors
    assert browser.asked
    assert all(one.startswith((address, f"blob:{address}")) for one in browser.asked)


def write_pictures(folder: Path, frames_THWC: NDArray[np.uint8]) -> list[Path]:
    """Their names sort as numbers only."""
    paths = [folder / f"frame {t}.png" for t in range(len(frames_THWC))]
    for path, image_HWC in zip(paths, frames_THWC, strict=True):
        cv2.imwrite(str(path), image_HWC[:, :, ::-1])
    return paths


def expected(model: LCR, frames_THWC: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Any]]:
    """Probabilities of every frame and the labels, as `videorwkv stream` finds them."""
    options = StreamOptions()
    inputs = model.preprocess(frames_THWC)
    with torch.inference_mode():
        logits_BTK, _ = model.scan(inputs)
    probabilities_TK = logits_BTK[0].softmax(-1).numpy()
    labels, scores_K, label = [], None, None
    for probabilities_K in probabilities_TK:
        scores_K = _smoothed(scores_K, probabilities_K, 1 / 5, options.smooth)
        label = options.label(scores_K, label)
        labels.append(None if label is None else LABELS[label])
    return probabilities_TK, labels


def test_the_numbers_of_python_at_every_frame(
    page: tuple[LCR, Chromium], frames_THWC: NDArray[np.uint8], tmp_path: Path
) -> None:
    model, browser = page
    wanted_TK, labels = expected(model, frames_THWC)
    # They would not agree by chance.
    assert np.abs(np.diff(wanted_TK, axis=0)).max() > 0.1
    assert len(set(labels)) > 1
    browser.give("#files", write_pictures(tmp_path, frames_THWC)[::-1])
    browser.wait(ENDED)
    assert browser.run(MESSAGE) == "Ended after 24 frames."
    found = browser.run("videorwkv.session.results()")
    got_TK = np.array([frame["probabilities"] for frame in found["frames"]])
    np.testing.assert_allclose(got_TK, wanted_TK, rtol=0, atol=1e-3)
    assert [frame["label"] for frame in found["frames"]] == labels
    assert found["labels"] == list(LABELS)
    assert [round(frame["time"], 6) for frame in found["frames"]] == [t / 5 for t in range(24)]
    changes = [labels[t] for t in range(24) if labels[t] and (not t or labels[t] != labels[t - 1])]
    assert [segment["label"] for segment in found["segments"]] == changes
    # What is seen is what was computed; names are text and no HTML.
    shown = browser.run("document.getElementById('label').textContent")
    assert shown == (labels[-1] or "(no class)")
    bars = "[...document.querySelectorAll('#bars .name')].map((x) => x.textContent)"
    assert browser.run(bars) == list(LABELS)
    square = (
        "[...document.getElementById('square').getContext('2d').getImageData(0, 0, 32, 32).data]"
    )
    pixels_HWC = np.array(browser.run(square), np.uint8).reshape(32, 32, 4)[..., :3]
    inputs = model.preprocess(frames_THWC[-1])
    np.testing.assert_array_equal(pixels_HWC, inputs.frames_BTHWC[0, 0].numpy())
    # A second clip begins anew.
    browser.give("#files", write_pictures(tmp_path, frames_THWC)[:1])
    browser.wait(f"{ENDED} && videorwkv.session.frames.length === 1")
    again = browser.run("videorwkv.session.results()")["frames"][0]["probabilities"]
    np.testing.assert_allclose(again, wanted_TK[0], rtol=0, atol=1e-3)


def test_a_camera(page: tuple[LCR, Chromium]) -> None:
    _, browser = page
    browser.run("document.getElementById('camera').click()")
    browser.wait("videorwkv.session?.frames.length >= 6")
    assert not browser.run("document.getElementById('video').hidden")
    browser.run("document.getElementById('stop').click()")
    browser.wait(ENDED)
    found = browser.run("videorwkv.session.results()")
    times = np.array([frame["time"] for frame in found["frames"]])
    # At the model's rate, on the average: 5 a second.
    assert times[0] == 0
    assert np.all(np.diff(times) > 0.05)
    assert found["fps"] == 5
    probabilities_TK = np.array([frame["probabilities"] for frame in found["frames"]])
    np.testing.assert_allclose(probabilities_TK.sum(-1), 1, atol=1e-4)
    # The camera is off.
    assert browser.run("document.getElementById('video').srcObject === null")
    assert float(browser.run("document.getElementById('fps').textContent")) > 0


def test_a_failure_ends_the_camera(page: tuple[LCR, Chromium]) -> None:
    _, browser = page
    browser.run("document.getElementById('camera').click()")
    browser.wait("videorwkv.session?.frames.length >= 1")
    browser.run("videorwkv.heard({is: 'error', text: 'out of memory'})")
    assert browser.run(MESSAGE) == "out of memory"
    assert browser.run("document.body.dataset.state") == "failed"
    assert browser.run("document.getElementById('video').srcObject === null")
    assert browser.run("document.getElementById('camera').disabled")


def test_a_video_file_and_one_that_is_none(page: tuple[LCR, Chromium], tmp_path: Path) -> None:
    _, browser = page
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=16)  # 8 a second
    browser.give("#files", [clip])
    browser.wait(ENDED)
    message = browser.run(MESSAGE)
    if "can't read" in message:
        pytest.skip(f"this Chromium: {message}")
    # The last picture stays.
    assert browser.run("document.getElementById('video').videoWidth") == 64
    found = browser.run("videorwkv.session.results()")
    times = [frame["time"] for frame in found["frames"]]
    # 5 a second of two seconds; the last one may be near the end.
    assert 8 <= len(times) <= 10
    assert times == sorted(set(times))
    assert found["dropped"] == 0
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("no video")
    browser.give("#files", [wrong])
    browser.wait("document.getElementById('message').classList.contains('error')")
    assert "can't read notes.mp4 as a video" in browser.run(MESSAGE)
    browser.give("#files", [clip, wrong])
    browser.wait(f"{MESSAGE}.startsWith('Give one video')")


def test_settings(
    page: tuple[LCR, Chromium], frames_THWC: NDArray[np.uint8], tmp_path: Path
) -> None:
    _, browser = page
    set_value = "((id, value, kind) => {{ const x = document.getElementById(id); x.value = value; x.dispatchEvent(new Event(kind)); }})('{}', {}, '{}')"  # noqa: E501
    browser.run(set_value.format("threshold", 1, "input"))
    browser.run(set_value.format("smooth", 0, "input"))
    browser.run(set_value.format("fps-wanted", 10, "change"))
    browser.give("#files", write_pictures(tmp_path, frames_THWC[:5]))
    browser.wait(ENDED)
    found = browser.run("videorwkv.session.results()")
    assert found["segments"] == []
    assert [round(frame["time"], 6) for frame in found["frames"]] == [0, 0.1, 0.2, 0.3, 0.4]
    assert all(frame["scores"] == frame["probabilities"] for frame in found["frames"])


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_the_screen(page: tuple[LCR, Chromium], tmp_path: Path, width: int) -> None:
    _, browser = page
    browser.picture(tmp_path / "page.png", width, 800)
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    # A thumb hits the buttons.
    buttons = "[...document.querySelectorAll('.controls button:not([hidden])')]"
    assert min(browser.run(f"{buttons}.map((x) => x.offsetHeight)")) >= 40


def test_webgpu_gives_the_same_numbers(
    sites: dict[str, tuple[LCR, str]], frames_THWC: NDArray[np.uint8], tmp_path: Path
) -> None:
    pictures = write_pictures(tmp_path, frames_THWC[:6])
    with pages.opened(webgpu=True) as browser:
        for model, address in sites.values():
            browser.open(f"{address}?backend=webgpu")
            browser.wait(f"{READY} || document.body.dataset.state === 'failed'")
            if "offers no WebGPU" in browser.run(MESSAGE):
                pytest.skip("this Chromium computes no WebGPU in software")
            assert browser.run("document.getElementById('where').textContent") == "WebGPU"
            browser.give("#files", pictures)
            browser.wait(ENDED)
            found = browser.run("videorwkv.session.results()")
            got_TK = np.array([frame["probabilities"] for frame in found["frames"]])
            wanted_TK, _ = expected(model, frames_THWC[:6])
            np.testing.assert_allclose(got_TK, wanted_TK, rtol=0, atol=1e-3)
        # Left to itself, the page tries both and finds that they agree.
        browser.open(address)
        browser.wait(READY)
        assert "WebGPU gives other numbers" not in browser.run("document.body.textContent")
        assert "WebAssembly" in browser.run("document.getElementById('notes').textContent")


def test_several_labels_a_clip(
    browser: Chromium,
    frames_THWC: NDArray[np.uint8],
    need: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Each class has a probability by itself."""
    need("onnx")
    pages.need_runtime()
    model = sharp("lcr_pico", frames_THWC, multilabel=True)
    with torch.inference_mode():
        wanted_TK = model.scan(model.preprocess(frames_THWC[:6]))[0][0].sigmoid().numpy()
    assert np.abs(wanted_TK.sum(-1) - 1).max() > 0.5
    export_site(model, tmp_path / "site", labels=LABELS, sampling=SAMPLING)
    with Server(tmp_path / "site", 0) as server:
        browser.open(f"{server.url}?backend=wasm")
        browser.wait(READY)
        browser.give("#files", write_pictures(tmp_path, frames_THWC[:6]))
        browser.wait(ENDED)
        frames = browser.run("videorwkv.session.results()")["frames"]
        shown = "[...document.querySelectorAll('#bars .value')].map((x) => Number(x.textContent))"
        bars_K = browser.run(shown)
    got_TK = np.array([frame["probabilities"] for frame in frames])
    np.testing.assert_allclose(got_TK, wanted_TK, rtol=0, atol=1e-3)
    np.testing.assert_allclose(bars_K, frames[-1]["scores"], rtol=0, atol=0.006)


def test_says_what_is_missing(browser: Chromium, tmp_path: Path) -> None:
    """A folder that was copied without its model."""
    for source in PAGE.iterdir():
        shutil.copy(source, tmp_path)
    (tmp_path / "site.json").write_text('{"model": "model.onnx"}')
    with Server(tmp_path, 0) as server:
        browser.open(server.url)
        browser.wait("document.body.dataset.state === 'failed'")
    assert browser.run(MESSAGE) == "./model.onnx.json is missing on this server (404)."
    assert browser.run("document.getElementById('camera').disabled")
