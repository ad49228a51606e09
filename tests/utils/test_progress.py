from __future__ import annotations

import pytest

from videorwkv.utils import progress
from videorwkv.utils.progress import Meter


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
    assert capsys.readouterr().err == "caching: 5%, 12,000 of 240,000, 190 min left\n"


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("caching", 0, "clips") as shown:
        shown.update(0)
    assert capsys.readouterr().err == ""
