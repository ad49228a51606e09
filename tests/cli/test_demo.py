from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from videorwkv.cli.demo import demo
from videorwkv.errors import UsageError
from videorwkv.video import open_video


def test_demo_leaves_a_report_whose_links_lead_somewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tiny.write_clip(tmp_path / "mine.mp4")
    out = tmp_path / "demo"
    result = demo(out, video=own, data=tiny.MOTION, recipe=tiny.recipe(), steps=2, quiet=False)
    text = result.report.read_text()
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert len(links) == 7
    for link in links:
        assert (out / link).stat().st_size > 0, link
    assert str(result.report.resolve()) in capsys.readouterr().out
    assert result.evaluation.n_total == 8
    assert not result.prediction.error
    assert result.own is not None
    assert result.own.path == str(own)
    with open_video(out / "prediction.gif") as video:
        assert len(video.times()) == 6

    # A second time, into the same folder.
    again = demo(out, data=tiny.MOTION, recipe=tiny.recipe(), steps=1, quiet=True)
    assert again.own is None
    assert "Your video" not in again.report.read_text()


def test_demo_removes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        demo(tmp_path, data=tiny.MOTION, recipe=tiny.recipe(), quiet=True)


def test_demo_says_at_once_that_the_video_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No video at"):
        demo(tmp_path / "demo", video=tmp_path / "none.mp4")
    for name in "ab":
        tiny.write_clip(tmp_path / "videos" / f"{name}.mp4")
    with pytest.raises(UsageError, match=r"folder of 2 videos.*a\.mp4"):
        demo(tmp_path / "demo", video=tmp_path / "videos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no video in it"):
        demo(tmp_path / "demo", video=tmp_path / "empty")
    assert not (tmp_path / "demo").exists()
