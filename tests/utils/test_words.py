from __future__ import annotations

from videorwkv.utils.words import counted, plural


def test_one_and_many() -> None:
    assert counted(1, "clip") == "1 clip"
    assert counted(0, "clip") == "0 clips"
    assert counted(2000, "class", "classes") == "2,000 classes"
    assert plural(1, "clip is", "clips are") == "clip is"
    assert plural(2, "clip is", "clips are") == "clips are"
