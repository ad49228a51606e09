from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from videorwkv.errors import UsageError
from videorwkv.web.server import Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "ort").mkdir(parents=True)
    (site / "index.html").write_text("<p>page")
    (site / "ort" / "runtime.wasm").write_bytes(b"\0asm")
    (site / "ort" / "runtime.mjs").write_text("export {}")
    (site / "a name.json").write_text("{}")
    (site / ".hidden").write_text("hidden")
    (tmp_path / "secret.txt").write_text("secret")
    return site


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(folder, 0) as server:
        yield server


def ask(
    server: Server, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    address = server.url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or address)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_files_and_their_kinds(server: Server) -> None:
    status, headers, content = ask(server, "/")
    assert (status, content) == (200, b"<p>page")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    # Without these two there are no threads.
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    status, headers, content = ask(server, "/ort/runtime.wasm?version=1")
    assert (status, content) == (200, b"\0asm")
    assert headers["Content-Type"] == "application/wasm"
    assert ask(server, "/ort/runtime.mjs")[1]["Content-Type"].startswith("text/javascript")
    assert ask(server, "/a%20name.json")[2] == b"{}"
    status, headers, content = ask(server, "/", method="HEAD")
    assert (status, headers["Content-Length"], content) == (200, "7", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/ort/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//secret.txt",
        "/ort",
        "/ort/",
        "/.hidden",
        "/index.html/",
        "/%00",
        "/none",
    ],
)
def test_nothing_but_the_files_of_the_folder(server: Server, path: str) -> None:
    status, _, content = ask(server, path)
    assert status == 404
    assert content == b"There is no such file.\n"


def test_only_under_the_names_of_this_machine(server: Server) -> None:
    port = server.url.rstrip("/").rpartition(":")[2]
    assert ask(server, "/", host=f"localhost:{port}")[0] == 200
    for host in ("example.org", f"example.org:{port}", "127.0.0.1.example.org", "", "[::1]"):
        status, _, content = ask(server, "/", host=host)
        assert status == 403, host
        assert b"page" not in content.replace(b"this page", b"")


def test_only_reading(server: Server) -> None:
    assert ask(server, "/", method="POST")[0] == 501
    assert ask(server, "/index.html", method="DELETE")[0] == 501


def test_a_file_that_has_gone(folder: Path, server: Server) -> None:
    (folder / "a name.json").unlink()
    assert ask(server, "/a%20name.json")[0] == 404


def test_ports(folder: Path, server: Server) -> None:
    taken = int(server.url.rstrip("/").rpartition(":")[2])
    for port, reason in ((taken, "in use"), (70000, "65535"), (-1, "65535")):
        with pytest.raises(UsageError, match=rf"--port {port}: .*{reason}"):
            Server(folder, port)
    # A port that nobody asked for may be another.
    with Server(folder) as first, Server(folder) as second:
        assert first.url != second.url
        assert ask(second, "/")[0] == 200
