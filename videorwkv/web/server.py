"""Servers for the browsers of this machine and for nobody else; one that serves a folder."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from videorwkv.errors import UsageError
from videorwkv.web.site import HEADERS

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
# The same every time, since a browser remembers who may use the camera by host and port.
PORT = 8917
# What a browser is told: modules and WebAssembly run only under their right names, and what the
# system's own table says of them can be anything.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
# Seconds that a browser may take to send its question.
PATIENCE = 30.0


class LocalServer:
    """A server on the loopback; a context manager that serves in a thread.

    Args:
        handler: answers what browsers ask.
        port: a number; 0: any that is free; None: `usual`, or any where another program has it.
        usual: the same every time.

    Raises:
        UsageError: the port is taken, or not allowed.
    """

    def __init__(self, handler: type[Handler], port: int | None, usual: int) -> None:
        self._server = _open(handler, port, usual)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def run(self) -> None:
        """Serve until an exception, such as KeyboardInterrupt, comes."""
        self._server.serve_forever()

    def __enter__(self) -> Self:
        """Serve in a thread until the end of the `with` block."""
        self._thread = threading.Thread(target=self.run, daemon=True, name="videorwkv-web")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self.close()

    def close(self) -> None:
        """Free the port."""
        self._server.server_close()


class Server(LocalServer):
    """Serves the files that a folder has now, on the loopback.

    What is asked for is looked up among the names of those files and never made into a path, and
    only under the names of this machine, so that a page from elsewhere can't read them through a
    name of its own that leads here.

    Args:
        folder: the site.
        port: as of `LocalServer`, usually `PORT`.

    Raises:
        UsageError: the port is taken, or not allowed.
    """

    def __init__(self, folder: str | Path, port: int | None = None) -> None:
        super().__init__(type("Handler", (_Files,), {"files": files_of(folder)}), port, PORT)


def files_of(folder: str | Path) -> dict[str, Path]:
    """Address, from its first slash on -> file, for all that a folder has now."""
    root = Path(folder)
    files = {
        f"/{path.relative_to(root).as_posix()}": path
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    if "/index.html" in files:
        files["/"] = files["/index.html"]
    return files


def _open(handler: type[Handler], port: int | None, usual: int) -> http.server.ThreadingHTTPServer:
    asked = usual if port is None else port
    try:
        return _ThreadingServer((HOST, asked), handler)
    except (OSError, OverflowError) as error:
        if port is None:
            return _ThreadingServer((HOST, 0), handler)
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise UsageError(
            f"--port {port}: {reason}. Choose another from 1024 to 65535, or 0 for any free one."
        ) from error


class _ThreadingServer(http.server.ThreadingHTTPServer):
    # A browser keeps connections open; the program must end all the same.
    daemon_threads = True
    # Elsewhere it frees a port at once; on Windows it would let two servers have one.
    allow_reuse_address = os.name != "nt"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers only what is asked under the names of this machine."""

    protocol_version = "HTTP/1.1"
    server_version = "videorwkv"
    timeout = PATIENCE
    # Sent with every answer, beside `HEADERS`.
    more_headers: Mapping[str, str] = {}

    def is_local(self) -> bool:
        """Whether the browser asks this machine by its own name; else it is refused."""
        host = self.headers.get("Host", "")
        if (host.rpartition(":")[0] or host) in (HOST, "localhost"):
            return True
        self.refuse(403, f"Open this page as http://{HOST}.\n")
        return False

    def give_file(self, path: Path | None) -> None:
        """A file; 404 for None, and for one that has gone."""
        try:
            content = None if path is None else path.read_bytes()
        except OSError:
            content = None
        if path is None or content is None:
            self.refuse(404, "There is no such file.\n")
            return
        self.give(content, TYPES.get(path.suffix.lower(), "application/octet-stream"))

    def give(self, content: bytes, kind: str, code: int = 200) -> None:
        """An answer of that media type."""
        self.begin(len(content), kind, code)
        if self.command != "HEAD":
            self.wfile.write(content)

    def begin(self, length: int, kind: str, code: int = 200) -> None:
        """All of an answer but its `length` bytes."""
        self.send_response(code)
        for name, value in {
            **HEADERS,
            "Content-Type": kind,
            "Content-Length": str(length),
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **self.more_headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def refuse(self, code: int, text: str) -> None:
        """Why there is no answer."""
        self.give(text.encode(), TYPES[".txt"], code)

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        """A line for each file would hide what the command says."""


class _Files(Handler):
    files: Mapping[str, Path]

    def do_GET(self) -> None:
        if self.is_local():
            self.give_file(self.files.get(unquote(urlsplit(self.path).path)))

    def do_HEAD(self) -> None:
        self.do_GET()
