"""The Hugging Face Hub: which models there are, which files one comes in, and the bytes of a file.

Requests, credentials, addresses and errors are those of ``huggingface_hub``, so that its environment variables apply:
``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` and the rest. Its asynchronous session is used, because a request
of a thread cannot be cancelled: it would go on until the other side says something.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread
import attrs

from lmstudio_async._protocol._errors import missing_runtime, server_error
from lmstudio_async.errors import LMStudioError, LMStudioServerError

__all__ = ["Hub", "HubFile", "Listing", "Sink", "disk_error", "is_repository"]

#: Seconds for one answer of the Hub's interface.
_ANSWER_SECONDS: Final = 30
#: Seconds for saying goodbye to it.
_CLOSE_SECONDS: Final = 2
#: Tries without a single new byte before a download fails, and the pause before the second one; it doubles.
_TRIES: Final = 6
_FIRST_PAUSE: Final = 0.2
#: Bytes that are written at once, and the seconds after which fewer are.
_CHUNK: Final = 1 << 20
_CHUNK_SECONDS: Final = 0.02
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
#: Of git, and of large files.
_DIGEST: Final = (re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}"))
_WORTH_REPEATING: Final = frozenset({408, 429, 500, 502, 503, 504})


@attrs.frozen
class HubFile:
    """A file of a repository."""

    path: str
    """In the repository, with forward slashes."""
    size: int
    sha256: str | None
    """Of its content, if it is kept as a large file."""
    git_id: str | None
    """Of its content as git reckons it, if it is not."""


@attrs.frozen
class Listing:
    """The files of a repository at one commit."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]


class Sink(Protocol):
    """What the bytes of a file go into. Its methods block: they are called in threads."""

    size: int
    """How many bytes are there."""

    def write(self, data: bytes) -> None: ...

    def restart(self) -> None:
        """Forget what is there."""


class Hub:
    """What this server asks the Hub. All errors are ours, and say what to do. Close it in the end."""

    def __init__(self) -> None:
        self._session: Any = None
        self._opening = anyio.Lock()

    async def aclose(self) -> None:
        """Close the connections, which nobody uses any more."""
        if self._session is not None:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._session.aclose()

    async def search(self, term: str | None, limit: int) -> list[str]:
        """The repositories with GGUF files that fit a term, the most downloaded ones first.

        :raises LMStudioServerError: the Hub cannot be asked.
        """
        parameters = {"filter": "gguf", "sort": "downloads", "limit": str(limit)}
        if term:
            parameters["search"] = term
        async with _mapped("The model search"):
            found = await self._get_json("/api/models", parameters, list)
        names = [str(item.get("id")) for item in found if isinstance(item, Mapping)]
        return [name for name in names if is_repository(name)][:limit]

    async def files(self, repository: str, commit: str | None = None) -> Listing:
        """What is in a repository.

        :param commit: at which commit; None for the newest.
        :raises LMStudioServerError: there is none, or none for this user, or the Hub cannot be asked.
        """
        if not is_repository(repository) or (commit is not None and not _COMMIT.fullmatch(commit)):
            raise server_error(
                f'"{repository[:200]}" is not the name of a repository.', "A name is owner/repository."
            )
        place = f"/api/models/{repository}" + (f"/revision/{commit}" if commit else "")
        async with _mapped(f'Looking at "{repository}"'):
            found = await self._get_json(place, {"blobs": "true"}, dict)
        if not _COMMIT.fullmatch(str(found.get("sha"))):
            raise server_error(f'The Hub does not say which state of "{repository}" it has.')
        items = found.get("siblings")
        files = [file for item in (items if isinstance(items, list) else ()) if (file := _hub_file(item))]
        return Listing(repository, str(found["sha"]), tuple(files))

    async def fetch(
        self, listing: Listing, file: HubFile, sink: Sink, on_bytes: Callable[[int], None]
    ) -> None:
        """Get the bytes of a file that the sink does not have yet. Cancelled, it leaves in it what came.

        :param on_bytes: told after each piece how many bytes are there now.
        :raises LMStudioServerError: the Hub does not give them, or the disk does not take them.
        """
        async with _mapped(f'The download of "{file.path}"'):
            library, session = await self._open()
            url = library.hf_hub_url(
                listing.repository, file.path, revision=listing.commit, endpoint=_endpoint(library)
            )
            tries, before = 0, -1
            while sink.size < file.size:
                tries, before = (tries + 1 if sink.size == before else 1), sink.size
                try:
                    await _fetch_once(library, session, url, file, sink, on_bytes)
                except Exception as error:
                    if tries >= _TRIES or not _is_worth_repeating(error):
                        raise
                    await anyio.sleep(_FIRST_PAUSE * 2 ** (tries - 1))

    async def _get_json(self, place: str, parameters: Mapping[str, str], kind: type) -> Any:
        library, session = await self._open()
        headers = await anyio.to_thread.run_sync(_headers, library)
        url = _endpoint(library) + place
        response = await session.get(url, params=parameters, headers=headers, timeout=_ANSWER_SECONDS)
        library.hf_raise_for_status(response)
        with suppress(ValueError):
            answer = response.json()
            if isinstance(answer, kind):
                return answer
        raise server_error(
            f"What answers at {_endpoint(library)} is not the Hugging Face Hub.",
            "See what the environment variable HF_ENDPOINT is set to.",
        )

    async def _open(self) -> tuple[Any, Any]:
        """The package, and the one session that all requests share."""
        library = await _library()
        async with self._opening:
            if self._session is None:
                # It reads all certificates that this machine trusts, which would hold up the event loop.
                self._session = await anyio.to_thread.run_sync(library.get_async_session)
        return library, self._session


async def _fetch_once(
    library: Any, session: Any, url: str, file: HubFile, sink: Sink, on_bytes: Callable[[int], None]
) -> None:
    headers = await anyio.to_thread.run_sync(_headers, library)
    # What counts are the file's own bytes.
    headers["Accept-Encoding"] = "identity"
    if sink.size:
        headers["Range"] = f"bytes={sink.size}-"
    seconds = library.constants.HF_HUB_DOWNLOAD_TIMEOUT
    async with session.stream("GET", url, headers=headers, timeout=seconds) as response:
        if response.status_code >= 400:
            await response.aread()
            library.hf_raise_for_status(response)
        begins_at = f"bytes {sink.size}-"
        if sink.size and not (
            response.status_code == 206 and response.headers.get("Content-Range", "").startswith(begins_at)
        ):
            await anyio.to_thread.run_sync(sink.restart)
        if sink.size == 0 and response.status_code == 206:
            raise server_error("The Hub answered with a part of a file that was not asked for.")
        pending = bytearray()
        since = float("-inf")

        async def take(data: bytes) -> None:
            nonlocal since
            pending.extend(data)
            if sink.size + len(pending) > file.size:
                raise server_error(
                    f'The Hub sends more of "{file.path}" than the {file.size} bytes that it has.'
                )
            if len(pending) >= _CHUNK or anyio.current_time() - since >= _CHUNK_SECONDS:
                await anyio.to_thread.run_sync(sink.write, bytes(pending))
                pending.clear()
                since = anyio.current_time()
                on_bytes(sink.size)

        try:
            await _take_all(response.aiter_raw(), take)
        finally:
            if pending:
                # What has come need not come again.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(sink.write, bytes(pending))
                on_bytes(sink.size)


async def _take_all(body: AsyncIterator[bytes], take: Callable[[bytes], Awaitable[None]]) -> None:
    """Have each piece of a body taken.

    The body is a generator of the HTTP client, with others inside, and trio complains of each that is left half-way.
    So it is never left while it does not run: a cancellation comes in where it waits for the network, and what
    ``take`` raises is made one.
    """
    failure = None
    with anyio.CancelScope() as reading:
        async for piece in body:
            if failure is None:
                try:
                    with anyio.CancelScope(shield=True):
                        await take(piece)
                except Exception as error:  # noqa: BLE001 - it is raised when the body has ended
                    failure = error
                    reading.cancel()
    if failure is not None:
        raise failure


def is_repository(name: str) -> bool:
    """Whether a text is ``owner/repository``, both of which can be the names of folders."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and not name.endswith(".")


def disk_error(error: OSError, doing: str) -> LMStudioServerError:
    """What to say of a file system that does not do what it should."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return server_error(
            f"{doing} failed: the disk is full.",
            "Make room on the disk of the models folder, then download again: it goes on where it stopped.",
        )
    if isinstance(error, PermissionError):
        return server_error(
            f"{doing} failed: {error.strerror}: {error.filename}",
            "Unload the model if it is loaded, and see whether this user may write to the models folder.",
        )
    return server_error(f"{doing} failed: {error.strerror or error}", "See to the disk of the models folder.")


async def _library() -> Any:
    """The package, imported in a thread: it is big."""

    def load() -> Any:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors

        # It loads these, too, only when they are asked for.
        for name in ("get_async_session", "get_token", "hf_hub_url", "hf_raise_for_status"):
            getattr(huggingface_hub, name)
        return huggingface_hub

    try:
        return await anyio.to_thread.run_sync(load)
    except ImportError as error:
        raise missing_runtime(
            f"Searching and downloading models needs the package huggingface_hub: {error}",
            'Install it where the server runs: pip install "lmstudio-async[hub]"',
        ) from error


def _endpoint(library: Any) -> str:
    # The package looks at the variable only once in the life of a process.
    endpoint: str = os.environ.get("HF_ENDPOINT") or library.constants.ENDPOINT
    return endpoint.rstrip("/")


def _headers(library: Any) -> dict[str, str]:
    # The package's own headers tell more about this machine than the Hub needs, and ask it what to look for first.
    token = None if library.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else library.get_token()
    headers = {"User-Agent": f"lmstudio-async; hf_hub/{library.__version__}"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _hub_file(item: Any) -> HubFile | None:
    if not isinstance(item, Mapping):
        return None
    large = item.get("lfs")
    large = large if isinstance(large, Mapping) else None
    path, size = item.get("rfilename"), (large or item).get("size")
    digest = large.get("sha256") if large else item.get("blobId")
    # The digest becomes a part of a file's name.
    if not isinstance(path, str) or not isinstance(digest, str) or not _DIGEST[bool(large)].fullmatch(digest):
        return None
    if type(size) is not int or size < 0:
        return None
    return HubFile(path, size, digest if large else None, None if large else digest)


# -- what goes wrong


@asynccontextmanager
async def _mapped(doing: str) -> AsyncIterator[None]:
    """Make our errors of those of the package, of its HTTP client and of the disk."""
    try:
        yield
    except LMStudioError:
        raise
    except Exception as error:
        explained = _explain(error, doing)
        if explained is None:
            raise
        raise explained from error


def _is_of_http_client(error: BaseException) -> bool:
    # Which HTTP client the package uses depends on its version, and it lets that one's errors out.
    return any(kind.__module__.partition(".")[0] in {"httpx", "httpx2"} for kind in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_worth_repeating(error: Exception) -> bool:
    status = _status(error)
    return _is_of_http_client(error) if status is None else status in _WORTH_REPEATING


def _explain(error: Exception, doing: str) -> LMStudioServerError | None:
    import huggingface_hub
    from huggingface_hub import errors

    status, endpoint = _status(error), _endpoint(huggingface_hub)
    match error:
        case errors.OfflineModeIsEnabled():
            return server_error(
                f"{doing} needs the Hub, and this server is told to stay offline.",
                "Unset the environment variable HF_HUB_OFFLINE where the server runs.",
            )
        case errors.GatedRepoError():
            return server_error(
                f"{doing} was refused: the repository is gated, and only those who accepted its terms get it.",
                f"Accept them on its page on {endpoint}, and give the server your token: the environment variable "
                "HF_TOKEN, or `hf auth login`.",
            )
        case errors.RepositoryNotFoundError():
            return server_error(
                f"{doing} failed: there is no such repository, or it is private.",
                "Check its name. For a private one, give the server your token: the environment variable HF_TOKEN.",
            )
        case errors.RevisionNotFoundError() | errors.EntryNotFoundError():
            return server_error(
                f"{doing} failed: it is not in the repository any more.",
                "Ask for the download options again.",
            )
        case _ if status in (401, 403):
            return server_error(
                f"{doing} was refused by the Hub ({status}).",
                "Give the server a token that may do this: the environment variable HF_TOKEN, or `hf auth login`.",
            )
        case _ if status == 429:
            return server_error(
                f"{doing} was refused: too many requests for now.",
                "Wait a few minutes. With a token (the environment variable HF_TOKEN) more are allowed.",
            )
        case _ if status is not None:
            return server_error(f"{doing} failed: the Hub answers with status {status}.", "Try again later.")
        case _ if _is_of_http_client(error):
            return server_error(
                f"{doing} failed: {endpoint} cannot be reached ({str(error) or type(error).__name__}).",
                "Check the network and the environment variables HF_ENDPOINT and HTTPS_PROXY, then try again; a "
                "download goes on where it stopped.",
            )
        case OSError():
            return disk_error(error, doing)
    return None
