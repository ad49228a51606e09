from __future__ import annotations

from pathlib import Path

import pytest

from videorwkv.errors import UsageError
from videorwkv.run import recipes
from videorwkv.run.recipes import Recipe
from videorwkv.utils.toml import read_toml, toml_text


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_survives(name: str, tmp_path: Path) -> None:
    recipe = recipes.recipe(name)
    path = tmp_path / "run.toml"
    path.write_text(toml_text({"data": "x", "recipe": recipe.to_dict()}), encoding="utf-8")
    assert Recipe.from_dict(read_toml(path)["recipe"]) == recipe


def test_awkward_values(tmp_path: Path) -> None:
    values = {
        "text": 'a "quoted" \\ path\n\t\x7f\x01 ä 手', "yes": True, "tiny": 1e-12, "none": None,
        "list": [1, 2.5, "x,y"], "empty": [], "table": {"deeper": {"number": -3}},
    }  # fmt: skip
    path = tmp_path / "a.toml"
    path.write_text(toml_text(values), encoding="utf-8")
    del values["none"]
    assert read_toml(path) == values


def test_what_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        read_toml(tmp_path / "none.toml")
    for content in (b"a = ", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 100_000):
        (tmp_path / "a.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.toml is no TOML"):
            read_toml(tmp_path / "a.toml")
