from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from videorwkv.errors import UsageError
from videorwkv.utils import hub
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


def test_without_a_network_the_cache_alone_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would ask for half a minute."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[bool] = []

    def download(repo: str, name: str, **options: Any) -> str:
        asked.append(options.get("local_files_only", False))
        return str(tmp_path / name)

    def unknown(*_: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub.time, "sleep", lambda _: None)
    monkeypatch.setattr(hub, "getproxies", dict)
    for lookup, away in ((unknown, True), (lambda *_: [], False)):
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        assert hub.fetch("hf:me/a", "config.json", lambda _: None, ()) == tmp_path
        assert asked.pop() == away
    # A proxy looks names up by itself.
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    hub.fetch("hf:me/a", "config.json", lambda _: None, ())
    assert not asked.pop()
