"""Headless Chromium, driven over its DevTools protocol: two pipes, no driver and no library.

https://chromedevtools.github.io/devtools-protocol says what can be asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videorwkv.errors import UsageError

NAMES = ("chromium", "chromium-browser", "google-chrome")
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
)
# Seconds; a machine may be busy with other things.
PATIENCE = 120.0


def executable() -> str:
    """Where Chromium is.

    Raises:
        UsageError: it is not on the PATH.
    """
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise UsageError(
        f"None of {', '.join(NAMES)} is on the PATH. Install one, such as Debian's chromium."
    )


class Chromium:
    """One tab.

    `errors` collects what the page throws or logs as an error, `asked` the addresses that it wants.
    """

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self.process, self._write, self._read = process, write, read
        self._rest, self._number = b"", 0
        self.errors: list[str] = []
        self.asked: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str | None = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self._call(f"{domain}.enable")

    def open(self, address: str) -> None:
        self._call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """The JSON-ready value of an expression, a promise's when it is kept."""
        found = self._call(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(f"{code}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, condition: str, patience: float = PATIENCE) -> None:
        """Until an expression is true, for so many seconds at most."""
        end = time.monotonic() + patience
        while not self.run(f"Boolean({condition})"):
            said = self.run("document.getElementById('message')?.textContent")
            assert time.monotonic() < end, f"never: {condition}; {said!r}, {self.errors}"
            time.sleep(0.05)

    def give(self, element: str, files: Sequence[Path]) -> None:
        """Choose files in an <input type=file> (a CSS selector)."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=element)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])

    def picture(self, path: Path, width: int, height: int) -> None:
        """What a window of this size shows, the whole page long."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        time.sleep(0.5)
        found = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        session = getattr(self, "_session", None)
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                result: dict[str, Any] = answer["result"]
                return result
            self._event(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, "Chromium does not answer"
            more = os.read(self._read, 1 << 20)
            assert more, "Chromium has ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def _event(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        kind = event.get("method")
        if kind == "Network.requestWillBeSent":
            self.asked.append(details["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(details["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
            self.errors.append(json.dumps(details["args"]))
        elif kind == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(json.dumps(details["entry"]))


@contextlib.contextmanager
def chromium(*flags: str, webgpu: bool = False) -> Iterator[Chromium]:
    """A browser with a new profile, ended with the block.

    Args:
        flags: more of Chromium's.
        webgpu: with a GPU that is computed in software, slow and exact.

    Raises:
        UsageError: there is no Chromium.
    """
    path = executable()
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def as_3_and_4() -> None:
            # High first, in case one of them is 3 or 4 itself.
            high = [os.dup2(fd, number) for fd, number in ((to_browser, 103), (from_browser, 104))]
            for fd, number in zip(high, (3, 4), strict=True):
                os.dup2(fd, number)

        command = [
            path, "--headless=new", "--no-sandbox", "--remote-debugging-pipe",
            *(SOFTWARE_GPU if webgpu else ("--disable-gpu",)),
            "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}", *flags,
        ]  # fmt: skip
        process = subprocess.Popen(
            command,
            preexec_fn=as_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Chromium(process, write, read)
        finally:
            os.close(write)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(read)
