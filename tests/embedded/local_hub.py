"""A Hugging Face Hub on this machine: as much of its interface as downloading models takes, and its bad days.

::

    hub = LocalHub()
    hub.add("acme/tiny-GGUF", {"tiny-Q4_K_M.gguf": content})
    with hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["LocalHub", "Repository"]

_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(?:/revision/(?P<commit>\w+))?")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<commit>\w+)/(?P<path>.+)")
#: The bytes are elsewhere, as they are in the world.
_STORE = re.compile(r"/store(?P<rest>/.+)")


class Repository:
    """A repository. Its attributes say how it behaves.

    :ivar large: the files are kept as LFS has them, with a SHA-256; if not, as git has them.
    :ivar gated: its files are only for those with a token.
    :ivar announced_sizes: path -> size that it claims a file to have.
    :ivar lying: paths of files that come with other bytes than announced.
    """

    def __init__(self, files: Mapping[str, bytes], *, tags: tuple[str, ...] = ("gguf",)) -> None:
        self.files = dict(files)
        self.tags = tags
        self.large = True
        self.gated = False
        self.announced_sizes: dict[str, int] = {}
        self.lying: set[str] = set()

    @property
    def commit(self) -> str:
        """Changes with the files."""
        state = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(self.files.items()):
            state.update(path.encode() + content)
        return state.hexdigest()

    def sibling(self, path: str) -> dict[str, Any]:
        """What the interface says about a file."""
        content = self.files[path]
        size = self.announced_sizes.get(path, len(content))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": blob}
        if self.large:
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
        return entry


class LocalHub:
    """The server.

    :ivar requests: method and path of all requests, with the range that was asked for, if any.
    :ivar connections: how many there have been.
    :ivar left: set when a connection has ended.
    :ivar cut_after: bytes of a file after which the connection breaks, for that many answers as there are numbers.
    :ivar status: what to answer everything with; None for what is asked.
    :ivar ignores_ranges: give the whole file, whatever was asked for.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.connections = 0
        self.left = threading.Event()
        self.cut_after: list[int] = []
        self.status: int | None = None
        self.ignores_ranges = False
        self._pause_at: int | None = None
        self._go_on = threading.Event()
        hub = self

        class Handler(_Handler):
            local_hub = hub

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="local hub")

    def add(self, name: str, files: Mapping[str, bytes], **more: Any) -> Repository:
        """Add a repository."""
        self.repositories[name] = repository = Repository(files, **more)
        return repository

    @property
    def url(self) -> str:
        """For ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def downloads(self) -> list[str]:
        """The requests for the content of files: path, and range if one was asked for."""
        return [request.partition("/resolve/")[2][41:] for request in self.requests if " /store/" in request]

    def pause_at(self, count: int) -> None:
        """Give so many bytes of a file, and then nothing until `go_on`."""
        self._go_on.clear()
        self._pause_at = count

    def go_on(self) -> None:
        """Give the rest."""
        self._pause_at = None
        self._go_on.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.go_on()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def chunks(self, content: bytes, begin: int) -> list[bytes]:
        """A file's content from a byte on, cut where the server is to do something."""
        cut = self.cut_after.pop(0) if self.cut_after else len(content)
        pause = self._pause_at if self._pause_at is not None else len(content)
        return [content[begin : min(cut, pause)], content[max(begin, min(cut, pause)) : cut]]

    def wait(self) -> None:
        """Wait until the server may go on."""
        if self._pause_at is not None:
            self._go_on.wait(30)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever cancels a download hangs up: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    local_hub: LocalHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.local_hub.connections += 1

    def finish(self) -> None:
        super().finish()
        self.local_hub.left.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""

    def do_GET(self) -> None:
        hub = self.local_hub
        wanted = self.headers.get("Range", "")
        place = urlsplit(self.path)
        hub.requests.append(f"GET {unquote(place.path)}" + (f" {wanted}" if wanted else ""))
        try:
            if hub.status is not None:
                self._json({"error": "no"}, hub.status)
            elif place.path == "/api/models":
                self._search({name: values[-1] for name, values in parse_qs(place.query).items()})
            elif found := _API.fullmatch(unquote(place.path)):
                self._info(found["name"], found["commit"])
            elif found := _STORE.fullmatch(unquote(place.path)):
                self._content(found["rest"], wanted)
            elif found := _FILE.fullmatch(unquote(place.path)):
                self._file(found["name"], found["commit"], found["path"])
            else:
                self._json({"error": "no such page"}, 404)
        except OSError:
            self.close_connection = True

    def _search(self, query: dict[str, str]) -> None:
        found = [
            {"id": name, "modelId": name, "tags": list(repository.tags), "downloads": 100 - index}
            for index, (name, repository) in enumerate(self.local_hub.repositories.items())
            if all(word in name.lower() for word in query.get("search", "").lower().split())
            and query.get("filter") in repository.tags
        ]
        self._json(found[: int(query["limit"])])

    def _info(self, name: str, commit: str | None) -> None:
        repository = self.local_hub.repositories.get(name)
        if repository is None:
            self._json({"error": "Repository not found"}, 404, "RepoNotFound")
        elif commit not in (None, repository.commit):
            self._json({"error": "Invalid rev id"}, 404, "RevisionNotFound")
        else:
            siblings = [repository.sibling(path) for path in repository.files]
            self._json({"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings})

    def _file(self, name: str, commit: str, path: str) -> None:
        repository = self.local_hub.repositories[name]
        if repository.gated and self.headers.get("Authorization") != "Bearer hf_good":
            self._json({"error": "gated"}, 403, "GatedRepo")
        elif commit != repository.commit or path not in repository.files:
            self._json({"error": "Entry not found"}, 404, "EntryNotFound")
        else:
            self.send_response(302)
            self.send_header("Location", f"/store{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _content(self, place: str, wanted: str) -> None:
        hub = self.local_hub
        found = _FILE.fullmatch(place)
        assert found
        repository, path = hub.repositories[found["name"]], found["path"]
        content = repository.files[path]
        if path in repository.lying:
            content = content[:-1] + bytes([content[-1] ^ 1])
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not hub.ignores_ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        head, tail = hub.chunks(content, begin)
        self.wfile.write(head)
        hub.wait()
        self.wfile.write(tail)
        if begin + len(head) + len(tail) < len(content):
            self.close_connection = True

    def _json(self, value: object, status: int = 200, code: str = "") -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)
