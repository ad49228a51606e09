"""`videorwkv teach` in headless Chromium, from an empty folder to a live answer.

Skipped, saying so, where Chromium is missing or npm can't fetch ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import pytest
import tiny

from benchmarks.chromium import Chromium
from videorwkv.web import TeachServer, TrainingOptions

CLIPS = "videorwkv.state.classes.map((x) => x.clips.length)"
PHASE = "videorwkv.state.training.phase"
LIVE = "document.getElementById('live')"
SET = "document.getElementById('{}').value = '{}'"


@pytest.fixture
def page(browser: Chromium, tmp_path: Path) -> Iterator[tuple[TeachServer, Chromium]]:
    """The page on an empty folder; it may ask this server alone, and leave no error."""
    options = TrainingOptions(steps=2, device="cpu")
    with TeachServer(tmp_path / "clips", tmp_path / "runs" / "mine", options, 0) as server:
        browser.errors.clear()
        browser.asked.clear()
        browser.open(server.url)
        browser.wait("videorwkv.state")
        yield server, browser
        browser.open("about:blank")
        assert not browser.errors
        own = (server.url, f"blob:{server.url.partition(server.token)[0]}", "data:", "about:")
        assert all(one.startswith(own) for one in browser.asked)


def click(browser: Chromium, name: str) -> None:
    browser.run(f"document.getElementById('{name}').click()")


def text(browser: Chromium, name: str) -> str:
    found: str = browser.run(f"document.getElementById('{name}').innerText")
    return found


def add_class(browser: Chromium, name: str) -> None:
    browser.run(f"{SET.format('name', name)}; document.getElementById('add').requestSubmit()")
    browser.wait(f"videorwkv.cards.has('{name}')")


@pytest.mark.timeout(700)
def test_from_an_empty_folder_to_a_live_answer(
    page: tuple[TeachServer, Chromium], need: Callable[..., None], tmp_path: Path
) -> None:
    need("onnx")
    pages.need_runtime()
    server, browser = page
    assert browser.run("document.getElementById('begin').disabled")
    assert "Name two classes" in text(browser, "missing")
    add_class(browser, "all that moves")
    # Three clips in a row from the camera.
    for name, value in (("seconds", 1), ("countdown", 1), ("row", 3)):
        browser.run(SET.format(name, value))
    browser.run("videorwkv.cards.get('all that moves').recordButton.click()")
    browser.wait("document.getElementById('count').textContent === '1'")
    browser.wait("document.body.classList.contains('recording')")
    assert "Recording all that moves: clip 1 of 3" in text(browser, "mark")
    # Three files of another class, and one that is none.
    click(browser, "background")
    browser.wait("videorwkv.cards.has('background')")
    browser.run("document.querySelectorAll('input[type=file]')[1].id = 'more'")
    clips = [tiny.write_clip(tmp_path / f"{n}.mp4", level=20 * n) for n in range(3)]
    browser.give("#more", clips)
    browser.wait(f"{CLIPS}.join() === '3,3' && !videorwkv.recorder.isWanted")
    folder = Path(browser.run("videorwkv.state.folder"))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert [name.partition("/")[0] for name in names] == 3 * ["all that moves"] + 3 * ["background"]
    # Each has a picture, and can be played.
    browser.wait("[...document.images].every((x) => x.naturalWidth > 0)")
    browser.run("document.querySelector('.clips button').click()")
    browser.wait("document.getElementById('played').readyState >= 2")
    click(browser, "close")
    # Train.
    browser.wait("!document.getElementById('begin').disabled")
    click(browser, "begin")
    # Two programs, each of which starts anew: 40 s of a core, and more on a busy machine.
    browser.wait(f"!['idle', 'training', 'exporting'].includes({PHASE})", 500)
    assert browser.run(PHASE) == "done", browser.run("videorwkv.state.training.error")
    assert text(browser, "train-message") == f"Trained. The run lies in {server.trainings.run}"
    assert browser.run("videorwkv.state.training.step") == 2
    assert "has not been measured" in text(browser, "result")
    assert str(server.trainings.run) in browser.run(
        "document.getElementById('commands').textContent"
    )
    # Try: an answer of the model, and no more than the frame is high.
    browser.wait(f"{LIVE}.contentDocument?.body?.dataset.state === 'ready'")
    browser.run(f"{LIVE}.contentDocument.getElementById('camera').click()")
    browser.wait(f"{LIVE}.contentWindow.videorwkv.session?.frames.length >= 3")
    found = browser.run(f"{LIVE}.contentWindow.videorwkv.session.results()")
    assert found["labels"] == ["all that moves", "background"]
    assert all(frame["label"] != "background" for frame in found["frames"])
    assert abs(sum(found["frames"][-1]["probabilities"]) - 1) < 1e-4
    for width in (320, 1280):
        browser.picture(tmp_path / "page.png", width, 800)
        assert browser.run("document.documentElement.scrollWidth") <= width
        inner = f"{LIVE}.contentDocument.documentElement.scrollHeight"
        assert browser.run(f"{inner} <= {LIVE}.clientHeight + 1")


def test_names_and_files_that_are_refused(
    page: tuple[TeachServer, Chromium], tmp_path: Path
) -> None:
    _, browser = page
    browser.run(f"{SET.format('name', 'a/b')}; document.getElementById('add').requestSubmit()")
    browser.wait("document.getElementById('message').classList.contains('error')")
    assert "has / in it" in text(browser, "message")
    add_class(browser, "五 & <i>".replace("<i>", "x"))
    browser.run("document.querySelector('input[type=file]').id = 'more'")
    (tmp_path / "notes.mp4").write_text("no video")
    browser.give("#more", [tmp_path / "notes.mp4"])
    note = "document.querySelector('.note').textContent"
    browser.wait(note)
    assert browser.run(note).startswith("notes.mp4: This is no clip: ")
    # A file that has gone, or a folder that is dropped: the program is not at fault.
    browser.give("#more", [tmp_path / "gone.mp4"])
    browser.wait(f"{note}.startsWith('gone.mp4')")
    assert browser.run(note) == "gone.mp4: It can't be read. Is it a file, and still there?"
    # An empty class can go again.
    browser.run("document.querySelector('button.remove').click()")
    browser.wait("videorwkv.state.classes.length === 0 && videorwkv.cards.size === 0")
    # What was refused is in the browser's log of requests, and is meant to be there.
    assert all("status of 400" in error for error in browser.errors)
    browser.errors.clear()
