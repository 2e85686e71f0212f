"""A local stand-in for the Hugging Face Hub: the part of its HTTP interface that downloads need, and its failures.

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
#: A request for a file is redirected to this path, because the real Hub keeps the content at another address too.
_STORE = re.compile(r"/store(?P<rest>/.+)")


class Repository:
    """A repository. Its attributes configure how the hub serves it.

    :ivar large: True if the files are stored in LFS, with a SHA-256; False if they are stored in git.
    :ivar gated: True if downloads need a token.
    :ivar announced_sizes: path -> size that the hub announces instead of the real one.
    :ivar lying: paths of files whose content does not match the announced hash.
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
        """Hash that changes with the files."""
        state = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(self.files.items()):
            state.update(path.encode() + content)
        return state.hexdigest()

    def sibling(self, path: str) -> dict[str, Any]:
        """Return the entry of a file in the info of its repository."""
        content = self.files[path]
        size = self.announced_sizes.get(path, len(content))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": blob}
        if self.large:
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
        return entry


class LocalHub:
    """The HTTP server.

    :ivar requests: method and path of all requests, with the requested range, if any.
    :ivar connections: number of connections so far.
    :ivar left: set when a connection has ended.
    :ivar cut_after: positions in a file; each one breaks the connection of one response at that byte.
    :ivar status: HTTP status of every response; None to serve requests normally.
    :ivar ignores_ranges: True to send the whole file even if a range is requested.
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
        """Value of ``HF_ENDPOINT`` for this hub."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def downloads(self) -> list[str]:
        """Requests for the content of files: path, and the requested range, if any."""
        return [request.partition("/resolve/")[2][41:] for request in self.requests if " /store/" in request]

    def pause_at(self, count: int) -> None:
        """Send this many bytes of a file, and then nothing until `go_on` is called."""
        self._go_on.clear()
        self._pause_at = count

    def go_on(self) -> None:
        """Send the rest."""
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
        """Return the content of a file from a byte on, split where the hub pauses or breaks the connection."""
        cut = self.cut_after.pop(0) if self.cut_after else len(content)
        pause = self._pause_at if self._pause_at is not None else len(content)
        return [content[begin : min(cut, pause)], content[max(begin, min(cut, pause)) : cut]]

    def wait(self) -> None:
        """Wait for `go_on` if the hub has to pause."""
        if self._pause_at is not None:
            self._go_on.wait(30)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Report nothing, because a client that cancels a download closes its connection."""


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
        """Log nothing."""

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
