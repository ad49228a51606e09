from __future__ import annotations

import fake
import pytest


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.hasty(monkeypatch)
    monkeypatch.setattr("videorwkv.inference.plots.DPI", 60)  # smaller pictures, drawn faster
