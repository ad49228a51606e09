from __future__ import annotations

from pathlib import Path

import pytest

from videorwkv.errors import UsageError
from videorwkv.utils.hub import is_hub, local_name, parse


@pytest.mark.parametrize(
    ("source", "repo", "revision", "folder"),
    [
        ("hf:me/waving", "me/waving", None, "me--waving"),
        ("me/waving", "me/waving", None, "me--waving"),
        ("hf:me/waving@v1.0", "me/waving", "v1.0", "me--waving@v1.0"),
        ("hf:me/w.pt@refs/pr/3", "me/w.pt", "refs/pr/3", "me--w.pt@refs--pr--3"),
    ],
)
def test_names(source: str, repo: str, revision: str | None, folder: str) -> None:
    assert parse(source) == (repo, revision)
    assert local_name(source) == folder
    assert is_hub(source) == source.startswith("hf:")


@pytest.mark.parametrize(
    "source",
    [
        *("hf:", "hf:me", "hf:me/", "hf:/me", "hf:me/a/b", "hf:me/a b", "hf:me/a@", "hf:me/a@b@c"),
        *("hf:https://huggingface.co/me/a", "hf:../../etc", "hf:me/../x", "hf:me/a\n", "hf:mé/a"),
    ],
)
def test_what_is_no_name(source: str) -> None:
    with pytest.raises(UsageError, match="hf:owner/name is wanted"):
        parse(source)


def test_a_path_is_not_of_the_hub() -> None:
    assert not is_hub(Path("runs/hf:x"))
    assert is_hub(Path("hf:me/waving"))
