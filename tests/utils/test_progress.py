from __future__ import annotations

import io

import pytest
from rich.console import Console

from videorwkv.utils import progress
from videorwkv.utils.progress import Meter, duration, make_bar


def test_without_a_terminal_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Meter("unpacking", 4_000_000, "bytes") as shown:
        for step in range(100):
            now = float(step)
            shown.update(step * 40_000, f"{step} clips")
    assert capsys.readouterr().err.splitlines() == [
        "unpacking: 30%, 1.2 MB of 4.0 MB, 30 clips, 70 s left",
        "unpacking: 60%, 2.4 MB of 4.0 MB, 60 clips, 40 s left",
        "unpacking: 90%, 3.6 MB of 4.0 MB, 90 clips, 10 s left",
    ]


def test_clips_and_minutes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Meter("caching", 240_000, "clips") as shown:
        now = 600.0
        shown.update(12_000)
    assert capsys.readouterr().err == "caching: 5%, 12,000 of 240,000, 3 h 10 min left\n"


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("caching", 0, "clips") as shown:
        shown.update(0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (5369, "89 min"), (5401, "1 h 30 min"),
     (172_740, "47 h 59 min"), (190_800, "2 days 5 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_time_left_of_units_that_take_minutes() -> None:
    now = 0.0
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    bar = make_bar(console, "{task.description}", "")
    bar.get_time = lambda: now
    task = bar.add_task("train", total=20, completed=10, begun=10)
    now = 240.0
    bar.update(task, completed=12)  # two of the ten that are left
    console.print(bar.get_renderable())
    assert "16 min left" in console.file.getvalue()  # type: ignore[attr-defined]
