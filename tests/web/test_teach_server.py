"""What the server of `videorwkv teach` lets a browser do; no browser, and no training."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tracemalloc
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import tiny

from videorwkv.errors import UsageError
from videorwkv.web import teach
from videorwkv.web.clips import ClipFolder
from videorwkv.web.teach import TeachServer
from videorwkv.web.trainings import TrainingOptions, Trainings


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def error(self) -> str:
        said: str = json.loads(self.content)["error"]
        return said


@pytest.fixture(scope="module")
def only_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeachServer]:
    folder = tmp_path_factory.mktemp("teach")
    (folder / "secret.txt").write_text("secret")
    with TeachServer(folder / "clips", folder / "runs" / "mine", port=0) as server:
        yield server


@pytest.fixture
def server(only_server: TeachServer) -> Iterator[TeachServer]:
    """With an empty folder."""
    yield only_server
    root = only_server.clips.root
    shutil.rmtree(root)
    root.mkdir()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny.write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", frames=8).read_bytes()


def place(server: TeachServer) -> str:
    return server.url.removeprefix("http://").partition("/")[0]


def ask(
    server: TeachServer,
    path: str,
    method: str = "GET",
    body: bytes = b"",
    *,
    token: str | None = None,
    **headers: str | None,
) -> Answer:
    """`path` behind the token; `Host` and `Origin` are those of the page unless given, or None."""
    address = place(server)
    own = {"Host": address, "Origin": f"http://{address}", "Content-Length": str(len(body))}
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        token = server.token if token is None else token
        connection.putrequest(method, f"/{token}/{path}", skip_host=True, skip_accept_encoding=True)
        for name, value in {**own, **headers}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def add(server: TeachServer, name: str) -> Answer:
    return ask(server, "classes", "POST", json.dumps({"name": name}).encode())


def state(server: TeachServer) -> Any:
    return json.loads(ask(server, "state").content)


def test_the_page_and_its_files(server: TeachServer) -> None:
    page = ask(server, "")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    # Nobody may show it in a frame, keep it, or be told its address.
    assert page.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    text = page.content.decode()
    for name in ("teach.js", "teach.css", "style.css", "icon.svg"):
        assert name in text
        assert ask(server, name).status == 200
    for name in ("curve.js", "record.js", "sources.js", "canvas.js"):
        assert ask(server, name).headers["Content-Type"].startswith("text/javascript")


def test_nothing_without_the_token(server: TeachServer) -> None:
    for token in ("", "wrong", server.token[:-1], server.token + "x", server.token.swapcase()):
        for path, method in (("", "GET"), ("state", "GET"), ("teach.js", "GET"), ("train", "POST")):
            answer = ask(server, path, method, token=token)
            assert answer.status == 403, token
            assert "videorwkv teach" in answer.error
    assert ask(server, "", token="%c3%a9%ff").status == 403
    # Two servers have two.
    assert len(server.token) >= 20


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "", None, "[::1]"])
def test_only_under_the_names_of_this_machine(server: TeachServer, host: str | None) -> None:
    """A name elsewhere that leads to 127.0.0.1 (DNS rebinding)."""
    for path, method in (("", "GET"), ("state", "GET"), ("classes", "POST")):
        assert ask(server, path, method, Host=host, Origin=f"http://{host}").status == 403


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://example.org", "https://{}", "http://localhost:1", "http://{}.x"],
)
def test_no_other_page_may_change_anything(
    server: TeachServer, origin: str | None, video: bytes
) -> None:
    add(server, "wave")
    other = None if origin is None else origin.format(place(server))
    for path, method in (
        ("classes", "POST"),
        ("classes/wave", "DELETE"),
        ("clips/wave", "POST"),
        ("train", "POST"),
        ("cancel", "POST"),
    ):
        answer = ask(server, path, method, video, Origin=other)
        assert answer.status == 403, path
        assert "This page alone" in answer.error
    assert state(server)["classes"] == [{"name": "wave", "clips": []}]


def test_under_its_other_name(server: TeachServer) -> None:
    host = f"localhost:{place(server).rpartition(':')[2]}"
    body = b'{"name": "wave"}'
    assert ask(server, "classes", "POST", body, Host=host, Origin=f"http://{host}").status == 200
    # One of them is another origin than the other.
    assert ask(server, "classes", "POST", body, Host=host).status == 403


def test_classes_clips_and_what_is_missing(server: TeachServer, video: bytes) -> None:
    assert "two classes" in state(server)["missing"][0]
    assert "in it" in add(server, "五 & <b>").error  # no folder's name on every system
    assert add(server, "a b").status == 200
    assert add(server, "五 & 六").status == 200
    where = f"clips/{quote('五 & 六')}"
    answer = ask(server, where, "POST", video)
    assert json.loads(answer.content) == {"name": "clip-0001.mp4"}
    clip = ask(server, f"{where}/clip-0001.mp4")
    assert (clip.content, clip.headers["Content-Type"]) == (video, "video/mp4")
    picture = ask(server, f"pictures/{quote('五 & 六')}/clip-0001.mp4")
    assert (picture.content[:2], picture.headers["Content-Type"]) == (b"\xff\xd8", "image/jpeg")
    found = state(server)
    assert found["classes"][1] == {"name": "五 & 六", "clips": [["clip-0001.mp4", True]]}
    assert found["missing"] == ["a b: 3 more clips needed.", "五 & 六: 2 more clips needed."]
    assert found["training"]["phase"] == "idle"
    refused = ask(server, "train", "POST")
    assert (refused.status, refused.error) == (400, " ".join(found["missing"]))
    assert ask(server, f"{where}/clip-0001.mp4", "DELETE").status == 200
    assert ask(server, "classes/a%20b", "DELETE").status == 200
    assert state(server)["classes"] == [{"name": "五 & 六", "clips": []}]


def test_a_film_among_the_clips_fills_no_memory(server: TeachServer) -> None:
    """Which was there before: what the page takes is smaller."""
    add(server, "wave")
    size = 64_000_000
    with (server.clips.root / "wave" / "film.mp4").open("wb") as film:
        film.truncate(size)
    tracemalloc.start()
    try:
        with urllib.request.urlopen(f"{server.url}clips/wave/film.mp4", timeout=20) as answer:
            got = sum(len(piece) for piece in iter(lambda: answer.read(1 << 16), b""))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == size
    assert peak < size / 8


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_clips_is_not_waited_for(server: TeachServer) -> None:
    add(server, "wave")
    os.mkfifo(server.clips.root / "wave" / "pipe.mp4")
    assert "no regular file" in ask(server, "clips/wave/pipe.mp4").error


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "clips/..%2f/secret.txt",
        "clips/wave/..%2f..%2fsecret.txt",
        "clips/wave/%2fetc%2fpasswd",
        "clips/../secret.txt",
        "clips/wave/%00",
        "pictures/wave/..%2f..%2fsecret.txt",
        "live/..%2f..%2fsecret.txt",
        "live/%2fetc%2fpasswd",
        "live/",
        "clips",
        "none",
    ],
)
def test_nothing_but_clips_and_pages(server: TeachServer, path: str) -> None:
    add(server, "wave")
    for method in ("GET", "DELETE", "POST"):
        answer = ask(server, path, method, b"x")
        assert answer.status in (400, 404), method
        assert b"secret" not in answer.content.replace(b"secret.txt", b"")
    folder = Path(state(server)["folder"])
    assert (folder.parent / "secret.txt").read_text() == "secret"
    assert [found.name for found in folder.rglob("*")] == ["wave"]


def test_what_is_no_video_is_refused_in_words(server: TeachServer) -> None:
    add(server, "wave")
    answer = ask(server, "clips/wave", "POST", b"<script>alert(1)</script>" * 100)
    assert answer.status == 400
    assert answer.error.startswith("This is no clip: ")
    assert state(server)["classes"] == [{"name": "wave", "clips": []}]


def test_sizes(server: TeachServer, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    add(server, "wave")
    monkeypatch.setattr(teach, "MOST_BYTES", len(video) - 1)
    answer = ask(server, "clips/wave", "POST", video)
    assert answer.status == 400
    assert "at most" in answer.error
    monkeypatch.setattr(teach, "MOST_BYTES", len(video))
    assert ask(server, "clips/wave", "POST", video).status == 200
    answer = ask(server, "classes", "POST", b'{"name": "' + b"x" * 5000 + b'"}')
    assert (answer.status, "at most 4.1 kB" in answer.error) == (400, True)
    for length in (None, "", "-1", "x", "1e3", "²"):
        coded = None if length is None else length.encode()
        answer = ask(server, "clips/wave", "POST", **{"Content-Length": coded})  # type: ignore[arg-type]
        assert "Content-Length" in answer.error
    answer = ask(server, "clips/wave", "POST", **{"Transfer-Encoding": "chunked"})
    assert "Content-Length" in answer.error
    assert len(state(server)["classes"][0]["clips"]) == 1


def test_what_breaks_off_leaves_nothing(server: TeachServer, video: bytes) -> None:
    add(server, "wave")
    host, _, port = place(server).partition(":")
    head = f"POST /{server.token}/clips/wave HTTP/1.1\r\nHost: {host}:{port}\r\n"
    head += f"Origin: http://{host}:{port}\r\nContent-Length: {len(video)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + video[: len(video) // 2])
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            assert b"broke off" in answer.read()
    folder = Path(state(server)["folder"])
    assert [found.name for found in folder.rglob("*")] == ["wave"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"wave"', b"{}", b'{"name": 1}', b"[" * 4000])
def test_what_is_no_name(server: TeachServer, body: bytes) -> None:
    assert ask(server, "classes", "POST", body).status == 400
    assert state(server)["classes"] == []


def test_a_training_keeps_its_clips(server: TeachServer, video: bytes) -> None:
    add(server, "wave")
    ask(server, "clips/wave", "POST", video)
    server.trainings.phase = "training"
    try:
        answer = ask(server, "clips/wave/clip-0001.mp4", "DELETE")
        assert "The training reads the clips" in answer.error
        # More may come, for the next one.
        assert ask(server, "clips/wave", "POST", video).status == 200
    finally:
        server.trainings.phase = "idle"
    assert ask(server, "clips/wave/clip-0001.mp4", "DELETE").status == 200


def test_a_run_among_the_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lies in the folder of the clips"):
        TeachServer(tmp_path / "clips", tmp_path / "clips" / "run", port=0)
    with (
        ClipFolder(tmp_path / "clips") as clips,
        pytest.raises(UsageError, match="lies in the folder of the clips"),
    ):
        Trainings(clips.root, clips.root, TrainingOptions())
