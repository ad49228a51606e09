from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from videorwkv.errors import DataError, UsageError, VideoRWKVError
from videorwkv.training import dry
from videorwkv.training.dry import DryRun, dry_run
from videorwkv.video.source import open_video


def test_what_a_training_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry, "ENOUGH", 0.0)
    found = dry_run(tiny.recipe(steps=None, epochs=30, eval_every=7), tiny.manifest())
    # 20 clips in batches of 4 are 5 steps an epoch; a validation after every 7, and at the end.
    assert (found.steps, found.validations) == (150, 22)
    assert (found.batch, found.clips, found.unreadable) == ((4, 3, 32), 20, 0)
    assert found.measured == dry.STEPS
    assert found.seconds > 0
    assert found.validation_seconds > 0
    assert found.start_seconds > 0
    assert found.end_seconds == 0
    assert not list(tmp_path.iterdir())


def test_hours_by_hand() -> None:
    values: dict[str, Any] = {
        "batch": (8, 16, 64), "clips": 800, "steps": 1000, "measured": 24, "seconds": 3.0,
        "validations": 10, "validation_seconds": 60.0, "unreadable": 1, "memory": 2_000_000_000,
        "device": "cpu",
    }  # fmt: skip
    found = DryRun(**values)
    assert found.hours == pytest.approx((3000 + 600) / 3600)
    for part in ("16 frames of 64x64", "2.7 clips/s", "1 clip unreadable", "2.0 GB", "about 1.0 h"):
        assert part in found.report()
    assert "about 60 minutes" in replace(found, steps=990, seconds=3.02).report()
    assert "about 590 seconds" in replace(found, steps=100, seconds=2.9, validations=5).report()
    more = replace(found, start_seconds=400.0, end_seconds=1400.0)
    assert more.hours == pytest.approx((3600 + 1800) / 3600)
    assert "400 s before the first step, 1400 s for baselines" in more.report()
    assert "validation" not in replace(found, validations=0, validation_seconds=0.0).report()


def test_short_steps_are_taken_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry, "MOST", 30)
    monkeypatch.setattr(dry, "ENOUGH", 1e9)
    found = dry_run(tiny.recipe(), tiny.manifest(), baselines=True)
    assert found.measured == 30
    assert found.end_seconds > 0


def test_a_slow_machine_takes_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry, "SECONDS", 0.0)
    assert dry_run(tiny.recipe(), tiny.manifest()).measured == 2


def _without_train() -> Any:
    rows = tuple(row for row in tiny.manifest().rows if row.split != "train")
    return replace(tiny.manifest(), rows=rows)


@pytest.mark.parametrize(
    ("make", "options", "error"),
    [
        (_without_train, {}, DataError),
        (tiny.manifest, {"init": "gone"}, UsageError),
    ],
)
def test_it_fails_as_the_training_would(
    make: Callable[[], Any], options: dict[str, Any], error: type[VideoRWKVError]
) -> None:
    with pytest.raises(error):
        dry_run(tiny.recipe(), make(), **options)


def test_clips_that_can_not_be_read_are_counted(tmp_path: Path) -> None:
    rows = tiny.manifest().rows
    broken = replace(
        tiny.manifest(), rows=(rows[0]._replace(path=str(tmp_path / "none.mp4")), *rows[1:])
    )
    real = tiny.manifest().open

    def opener(row: Any) -> Any:
        return open_video(row.path) if row.path.endswith("none.mp4") else real(row)

    found = dry_run(tiny.recipe(), replace(broken, opener=opener))
    assert found.unreadable == 1
