from __future__ import annotations

from videorwkv.errors import did_you_mean


def test_the_nearest_name_comes_first() -> None:
    assert did_you_mean("kagle", ["20bn", "kaggle"]) == (
        "Did you mean 'kaggle'? Available: 20bn, kaggle."
    )
    assert did_you_mean("x", []) == "Available: none."
    assert did_you_mean("x", ["y"], lead="Runs in 'runs'") == "Runs in 'runs': y."


def test_hundreds_of_labels_are_not_all_shown() -> None:
    names = [f"class {n}" for n in range(400)]
    shown = did_you_mean("clas 399", names)
    assert shown.startswith("Did you mean 'class 399'? Available: class 0, ")
    assert shown.endswith("class 19, and 380 more.")
    assert did_you_mean("x", names[:40]).endswith("class 39.")
