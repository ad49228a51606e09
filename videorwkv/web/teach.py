"""`videorwkv teach`: the server of a page in which a person records clips, trains, and tries.

All addresses begin with a token that nobody else knows, so that another page in the same browser,
another program's user, or a link in a mail can do nothing here. What changes something must also
come from this very page, as the browser says (`Origin`).

GET    /TOKEN/                        the page, and its files
GET    /TOKEN/state                   classes, clips and the training, as JSON
POST   /TOKEN/classes                 {"name": NAME}: a new class
DELETE /TOKEN/classes/NAME            an empty class
POST   /TOKEN/clips/NAME              a video file: a new clip
GET, DELETE /TOKEN/clips/NAME/CLIP    a clip
GET    /TOKEN/pictures/NAME/CLIP      its middle frame
POST   /TOKEN/train, /TOKEN/cancel    begin a training, end it
GET    /TOKEN/live/...                the page of the last run that was trained (`site.py`)
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.utils.files import decimal
from videorwkv.utils.optional import EXTRAS, installed
from videorwkv.utils.values import open_regular
from videorwkv.web.clips import (
    ENOUGH_CLIPS,
    FEWEST_CLIPS,
    MOST_BYTES,
    ClipFolder,
    missing,
)
from videorwkv.web.runtime import runtime_files
from videorwkv.web.server import TYPES, Handler, LocalServer, files_of
from videorwkv.web.site import PAGE
from videorwkv.web.trainings import TrainingOptions, Trainings

# Another one than that of `serve`: both may run.
PORT = 8918
TEACH_PAGE = Path(__file__).with_name("teach_page")
# Files of the other page that this one uses as well.
SHARED = ("style.css", "icon.svg", "canvas.js", "sources.js", "stream.js")
# Of a question that is no clip.
MOST_JSON = 4096
PIECE = 1 << 16
VIDEOS = {
    ".webm": "video/webm", ".mkv": "video/webm", ".mp4": "video/mp4", ".mov": "video/mp4",
    ".m4v": "video/mp4", ".ogv": "video/ogg", ".gif": "image/gif",
}  # fmt: skip
# No other page may show this one in a frame, and no address tells another server of it.
MORE_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class TeachServer(LocalServer):
    """Serves the page on the loopback; a context manager, which ends a training at its end.

    Args:
        folder: a folder for each class, with its clips; made if it is missing.
        out: the folder of the first run.
        options: of every training.
        port: as of `LocalServer`, usually `PORT`.

    Raises:
        UsageError: the folder, `out` or the port can't be used.
    """

    def __init__(
        self,
        folder: str | Path,
        out: str | Path,
        options: TrainingOptions | None = None,
        port: int | None = None,
    ) -> None:
        self.token = secrets.token_urlsafe(16)
        # Its process is forked before there are threads.
        self.clips = ClipFolder(folder)
        try:
            out = Path(out)
            self.trainings = Trainings(self.clips.root, out, options or TrainingOptions())
            own = {"lesson": Lesson(self.clips, self.trainings), "token": self.token}
            super().__init__(type("Handler", (_Handler,), own), port, PORT)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The page's address, with its token."""
        return f"{super().url}{self.token}/"

    def close(self) -> None:
        """Free the port, and end what runs."""
        if hasattr(self, "_server"):
            super().close()
        if hasattr(self, "trainings"):
            self.trainings.close()
        self.clips.close()


def check_ready(runtime: str | Path | None = None) -> None:
    """Whether a model that is trained here can be tried in a browser.

    Args:
        runtime: as of `export_site`.

    Raises:
        UsageError: a library is missing, or ONNX Runtime for browsers can't be had; the message
            says what to install.
        DataError: npm can't fetch it.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if not installed(name):
            raise UsageError(
                f"A model is tried in the browser by ONNX Runtime, and {name}, which writes it for "
                f"that, is not installed: pip install 'videorwkv[{EXTRAS[name]}]'"
            )
    runtime_files(runtime)


class Lesson:
    """What the page asks for, without the protocol.

    Args:
        clips: classes and clips.
        trainings: on them.
    """

    def __init__(self, clips: ClipFolder, trainings: Trainings) -> None:
        self.clips, self.trainings = clips, trainings

    def state(self) -> dict[str, Any]:
        """All that the page shows."""
        classes = self.clips.classes()
        return {
            "folder": str(self.clips.root),
            "classes": [
                {"name": name, "clips": [[clip, path.is_file()] for clip, path in clips.items()]}
                for name, clips in classes.items()
            ],
            "missing": missing(classes),
            "fewest": FEWEST_CLIPS,
            "enough": ENOUGH_CLIPS,
            "most_bytes": MOST_BYTES,
            "training": self.trainings.status(),
        }

    def train(self) -> None:
        """Begin a training.

        Raises:
            UsageError: something is missing, or one goes on.
        """
        classes = self.clips.classes()
        if lacking := missing(classes):
            raise UsageError(" ".join(lacking))
        self.trainings.start({name: tuple(clips) for name, clips in classes.items()})

    def remove_clip(self, label: str, name: str) -> None:
        """Delete a clip, but none that a training reads."""
        if self.trainings.is_running:
            raise UsageError("The training reads the clips: wait for its end, or cancel it.")
        self.clips.remove_clip(label, name)


class _Handler(Handler):
    lesson: Lesson
    token: str
    more_headers = MORE_HEADERS
    # Bytes of what came along that have been read.
    taken = 0

    def do_GET(self) -> None:
        if (path := self._path()) is not None:
            self._tried(lambda: self._get(path))

    def do_POST(self) -> None:
        if (path := self._path()) is not None and self._is_ours():
            self._tried(lambda: self._post(path))

    def do_DELETE(self) -> None:
        if (path := self._path()) is not None and self._is_ours():
            self._tried(lambda: self._delete(path))

    def _path(self) -> Sequence[str] | None:
        """The parts of the address behind the token; None after a refusal."""
        self.taken = 0
        if not self.is_local():
            self.close_connection = True
            return None
        # Cut first: a name may have a slash in it.
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        if len(parts) < 2 or not secrets.compare_digest(parts[0].encode(), self.token.encode()):
            self._refuse_rest(
                403,
                "Open the address that `videorwkv teach` has printed: it carries a key, which is "
                "another one at each start.",
            )
            return None
        return parts[1:]

    def _is_ours(self) -> bool:
        """Whether this page asks, and no other; else it is refused."""
        origin = self.headers.get("Origin")
        if origin == f"http://{self.headers.get('Host')}":
            return True
        self._refuse_rest(403, f"This page alone may do that, and not {origin or 'nobody'}.")
        return False

    def _tried(self, action: Callable[[], None]) -> None:
        try:
            action()
        except VideoRWKVError as error:
            self._refuse_rest(400, str(error))

    def _refuse_rest(self, code: int, text: str) -> None:
        """Why not, in place of an answer. What still comes along is read, but not without end: a
        browser that can't send it does not look for an answer."""
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        left = int(length) - self.taken if length.isascii() and length.isdigit() else 0
        try:
            while 0 < left <= MOST_BYTES and (piece := self.rfile.read(min(PIECE, left))):
                left -= len(piece)
        except OSError:
            return
        self._json({"error": text}, code)

    def _json(self, value: Any, code: int = 200) -> None:
        content = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
        self.give(content, TYPES[".json"], code)

    def _get(self, path: Sequence[str]) -> None:
        lesson = self.lesson
        if path == ["state"]:
            self._json(lesson.state())
        elif path[0] == "live" and len(path) > 1:
            self.give_file(lesson.trainings.site.get(f"/{'/'.join(path[1:])}"))
        elif path[0] == "pictures" and len(path) == 3:
            self.give(lesson.clips.picture(*path[1:]), "image/jpeg")
        elif path[0] == "clips" and len(path) == 3:
            self._give_clip(lesson.clips.clip(*path[1:]))
        else:
            self.give_file(PAGES.get(f"/{'/'.join(path)}"))

    def _give_clip(self, path: Path) -> None:
        try:
            file = open_regular(path)
        except OSError as error:
            raise UsageError(f"{path} can't be played: {error.strerror}.") from error
        # In pieces: what lay in the folder before may be a film of any size.
        with file:
            left = os.fstat(file.fileno()).st_size
            self.begin(left, VIDEOS.get(path.suffix.lower(), "application/octet-stream"))
            while left and (piece := file.read(min(PIECE, left))):
                self.wfile.write(piece)
                left -= len(piece)
        if left:  # cut short meanwhile: it must not be taken for the whole
            self.close_connection = True

    def _post(self, path: Sequence[str]) -> None:
        lesson = self.lesson
        if path == ["classes"]:
            self._json({"name": lesson.clips.add_class(self._name())})
        elif path[0] == "clips" and len(path) == 2:
            length = self._length(MOST_BYTES)
            self._json({"name": lesson.clips.add_clip(path[1], self._body(length))})
        elif path == ["train"]:
            lesson.train()
            self._json({})
        elif path == ["cancel"]:
            lesson.trainings.cancel()
            self._json({})
        else:
            self._refuse_rest(404, "There is no such address.")

    def _delete(self, path: Sequence[str]) -> None:
        lesson = self.lesson
        if path[0] == "clips" and len(path) == 3:
            lesson.remove_clip(*path[1:])
        elif path[0] == "classes" and len(path) == 2:
            lesson.clips.remove_class(path[1])
        else:
            self._refuse_rest(404, "There is no such address.")
            return
        self._json({})

    def _name(self) -> str:
        content = b"".join(self._body(self._length(MOST_JSON)))
        try:
            value: Any = json.loads(content)
            name = value["name"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError('Wanted: {"name": "the name of a class"}.') from error
        if not isinstance(name, str):
            raise UsageError("The name of a class is text.")
        return name

    def _length(self, most: int) -> int:
        """Bytes that come along."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length.isascii() or not length.isdigit():
            raise UsageError("The length of what is sent must be said (Content-Length).")
        if int(length) > most:
            raise UsageError(
                f"This has {decimal(int(length))}; at most {decimal(most)} are taken. Cut it, or "
                "put it into the folder yourself."
            )
        return int(length)

    def _body(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self.rfile.read(min(PIECE, length))
            if not piece:
                raise UsageError("What was sent broke off. Try it again.")
            length -= len(piece)
            self.taken += len(piece)
            yield piece


def _pages() -> Mapping[str, Path]:
    shared = {f"/{name}": PAGE / name for name in SHARED}
    return {**files_of(TEACH_PAGE), **shared}


PAGES = _pages()
