"""A stand-in for the Hugging Face Hub on this machine: as much of its protocol as huggingface_hub
needs for making a repository, committing files, branches, and downloading."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """Repositories by name: their commits, and the commit that each branch stands at.

    Args:
        token: what a writer has to know.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.endpoint = ""

    def files(self, repo: str, revision: str = "main") -> Files:
        return self.commits[repo][self.branches[repo].get(revision, revision)]

    def put(self, repo: str, files: Files, branch: str = "main") -> str:
        whole = {**self.commits[repo].get(self.branches[repo].get(branch, ""), {}), **files}
        commit = hashlib.sha1(repr(sorted(whole.items())).encode()).hexdigest()
        self.commits[repo][commit] = whole
        self.branches[repo][branch] = commit
        return commit

    def make(self, repo: str, private: bool = False) -> None:
        self.commits[repo], self.branches[repo] = {}, {}
        self.private[repo] = private
        self.put(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def _read(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        # Repositories of the type `dataset` are called datasets/owner/name here.
        path = path.replace("/api/datasets/", "/api/models/datasets/")
        name = r"((?:datasets/)?[^/]+/[^/]+?)"
        whole = re.fullmatch(rf"/api/models/{name}(?:/(revision|tree)/(.+))?", path)
        one = re.fullmatch(rf"/{name}/resolve/([^/]+)/(.+)", path)
        found = whole or one
        if found is None:
            return self._error(404, "NotFound")
        repo = found[1]
        is_owner = self.headers.get("Authorization") == f"Bearer {hub.token}"
        if repo not in hub.commits or (hub.private[repo] and not is_owner):
            return self._error(404 if is_owner else 401, "RepoNotFound")
        revision = (one[2] if one else whole[3] if whole else None) or "main"
        commit = hub.branches[repo].get(revision, revision)
        if commit not in hub.commits[repo]:
            return self._error(404, "RevisionNotFound")
        files = hub.commits[repo][commit]
        if one is not None:
            if one[3] not in files:
                return self._error(404, "EntryNotFound")
            content = files[one[3]]
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self._answer(200, content, ETag=tag, X_Repo_Commit=commit)
        listed = [
            {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
            for name, content in files.items()
        ]
        if whole is not None and whole[2] == "tree":
            return self._answer(200, listed)
        siblings = [{"rfilename": name} for name in files]
        self._answer(200, {"id": repo, "sha": commit, "private": False, "siblings": siblings})

    def do_POST(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._error(401, "Unauthorized")
        if path == "/api/repos/create":
            values = json.loads(body)
            repo = f"{values['organization']}/{values['name']}"
            status = 409 if repo in hub.commits else 200
            if status == 200:
                hub.make(repo, values.get("visibility") == "private" or values.get("private"))
            return self._answer(status, {"url": f"{hub.endpoint}/{repo}", "id": repo})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)", path)
        assert found is not None, path
        repo, what, branch = found.groups()
        if what == "branch":
            status = 409 if branch in hub.branches[repo] else 200
            hub.branches[repo].setdefault(branch, hub.branches[repo]["main"])
            return self._answer(status, {})
        if what == "preupload":
            names = [entry["path"] for entry in json.loads(body)["files"]]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            return self._answer(200, {"files": [{"path": name, **mode} for name in names]})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        commit = hub.put(repo, files, branch)
        address = f"{hub.endpoint}/{repo}/commit/{commit}"
        self._answer(200, {"commitUrl": address, "commitOid": commit, "success": True})


@contextmanager
def serving(token: str = "secret") -> Iterator[Hub]:
    """A hub that is there until the end of the block, at `endpoint` on the loopback device."""
    hub = Hub(token)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
