"""What the tests of several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from videorwkv.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["train", tiny.MOTION, *tiny.OPTIONS, "--steps=2", "--quiet"]


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    code = main([str(a) for a in arguments])
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    lines = shown.splitlines()
    assert len(lines) == 1, shown
    assert lines[0].startswith("videorwkv: error: ")
    return code, lines[0]
