"""Client of the Hugging Face Hub: the search for models, the files of a repository, and the download of a file.

Requests, credentials, addresses and errors are those of ``huggingface_hub``, so that its environment variables apply:
``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` and the rest. Its asynchronous session is used, because a request
in a thread cannot be cancelled: it would go on until the Hub answers.
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

from lmstudio_async._install_command import install_command
from lmstudio_async._protocol._errors import missing_runtime, repository_not_found, server_error
from lmstudio_async.embedded._timing import DEFAULT_TIMING
from lmstudio_async.errors import LMStudioError, LMStudioServerError

__all__ = ["Hub", "HubFile", "Listing", "Sink", "disk_error", "is_repository"]

#: Timeout in seconds of one request to the Hub's API.
_ANSWER_SECONDS: Final = 30
#: Seconds that closing the session may take.
_CLOSE_SECONDS: Final = 2
#: Attempts without a single new byte before a download fails.
_TRIES: Final = 6
#: Bytes to collect for one write to the disk, and the seconds after which fewer are written.
_CHUNK: Final = 1 << 20
_CHUNK_SECONDS: Final = 0.02
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
#: Hashes of git, and of large files.
_DIGEST: Final = (re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}"))
_WORTH_REPEATING: Final = frozenset({408, 429, 500, 502, 503, 504})


@attrs.frozen
class HubFile:
    """A file of a repository."""

    path: str
    """Path in the repository, with forward slashes."""
    size: int
    sha256: str | None
    """Hash of its content, if the Hub stores it as a large file; otherwise None."""
    git_id: str | None
    """Git's hash of its content, if the Hub does not store it as a large file; otherwise None."""


@attrs.frozen
class Listing:
    """The files of a repository at one commit."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]


class Sink(Protocol):
    """Destination of a download. Its methods block, so they are called in threads."""

    size: int
    """Number of bytes that it has."""

    def write(self, data: bytes) -> None: ...

    def restart(self) -> None:
        """Discard all bytes."""


class Hub:
    """Requests of this server to the Hub. Their errors are `LMStudioError`. Close it after use.

    :param retry_seconds: pause before a failed download is tried again; it doubles as long as no new bytes arrive.
    """

    def __init__(self, retry_seconds: float = DEFAULT_TIMING.retry_seconds) -> None:
        self._retry_seconds = retry_seconds
        self._session: Any = None
        self._opening = anyio.Lock()

    async def aclose(self) -> None:
        """Close the connections, after the last request has ended."""
        if self._session is not None:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._session.aclose()

    async def search(self, term: str | None, limit: int) -> list[str]:
        """Return the repositories with GGUF files that match a term, the most downloaded ones first.

        :raises LMStudioServerError: the request to the Hub failed.
        """
        parameters = {"filter": "gguf", "sort": "downloads", "limit": str(limit)}
        if term:
            parameters["search"] = term
        async with _mapped("The model search"):
            found = await self._get_json("/api/models", parameters, list)
        names = [str(item.get("id")) for item in found if isinstance(item, Mapping)]
        return [name for name in names if is_repository(name)][:limit]

    async def files(self, repository: str, commit: str | None = None) -> Listing:
        """Return the files of a repository.

        :param commit: the commit to look at; None for the newest.
        :raises LMStudioModelNotFoundError: the repository does not exist, or this user may not know that it does.
        :raises LMStudioServerError: this user may not read it, or the request failed.
        """
        if not is_repository(repository) or (commit is not None and not _COMMIT.fullmatch(commit)):
            raise repository_not_found(
                f'"{repository[:200]}" is not the name of a repository.', "A name is owner/repository."
            )
        place = f"/api/models/{repository}" + (f"/revision/{commit}" if commit else "")
        async with _mapped(f'Looking at "{repository}"'):
            found = await self._get_json(place, {"blobs": "true"}, dict)
        if not _COMMIT.fullmatch(str(found.get("sha"))):
            raise server_error(f'The Hub returned no valid commit of "{repository}".')
        items = found.get("siblings")
        files = [file for item in (items if isinstance(items, list) else ()) if (file := _hub_file(item))]
        return Listing(repository, str(found["sha"]), tuple(files))

    async def fetch(
        self, listing: Listing, file: HubFile, sink: Sink, on_bytes: Callable[[int], None]
    ) -> None:
        """Download the bytes of a file that the sink does not have yet. If cancelled, the sink keeps the bytes so far.

        :param on_bytes: called after each write with the size of the sink.
        :raises LMStudioServerError: the download failed, or the write to the disk.
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
                    await anyio.sleep(self._retry_seconds * 2 ** (tries - 1))

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
            f"The server at {_endpoint(library)} is not the Hugging Face Hub.",
            "Check the environment variable HF_ENDPOINT.",
        )

    async def _open(self) -> tuple[Any, Any]:
        """Return the package, and the session that all requests share."""
        library = await _library()
        async with self._opening:
            if self._session is None:
                # In a thread, because it reads all certificates that this machine trusts.
                self._session = await anyio.to_thread.run_sync(library.get_async_session)
        return library, self._session


async def _fetch_once(
    library: Any, session: Any, url: str, file: HubFile, sink: Sink, on_bytes: Callable[[int], None]
) -> None:
    headers = await anyio.to_thread.run_sync(_headers, library)
    # Without compression, because sizes and ranges count the bytes of the file itself.
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
            raise server_error("The Hub sent a part of a file, although the whole file was requested.")
        pending = bytearray()
        since = float("-inf")

        async def take(data: bytes) -> None:
            nonlocal since
            pending.extend(data)
            if sink.size + len(pending) > file.size:
                raise server_error(
                    f'The Hub sends more than the {file.size} bytes of "{file.path}" that it announced.'
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
                # Keep the received bytes, so that the next attempt does not download them again.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(sink.write, bytes(pending))
                on_bytes(sink.size)


async def _take_all(body: AsyncIterator[bytes], take: Callable[[bytes], Awaitable[None]]) -> None:
    """Call ``take`` with each piece of a body.

    The body is an async generator of the HTTP client that wraps others, and trio warns of each one that is not
    finished. So this loop never leaves the generator while it is suspended: cancellation is only delivered inside the
    generator, where it waits for the network, and an error of ``take`` cancels it there.
    """
    failure = None
    with anyio.CancelScope() as reading:
        async for piece in body:
            if failure is None:
                try:
                    with anyio.CancelScope(shield=True):
                        await take(piece)
                except Exception as error:  # noqa: BLE001 - raised again below, when the body has ended
                    failure = error
                    reading.cancel()
    if failure is not None:
        raise failure


def is_repository(name: str) -> bool:
    """Return whether a text is ``owner/repository``, with both parts valid as names of folders."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and not name.endswith(".")


def disk_error(error: OSError, doing: str) -> LMStudioServerError:
    """Make the error for a failure of the file system."""
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
    return server_error(f"{doing} failed: {error.strerror or error}", "Check the disk of the models folder.")


async def _library() -> Any:
    """Import the package in a thread, because that takes long."""

    def load() -> Any:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors

        # The package imports these lazily, so do it here, in the thread.
        for name in ("get_async_session", "get_token", "hf_hub_url", "hf_raise_for_status"):
            getattr(huggingface_hub, name)
        return huggingface_hub

    try:
        return await anyio.to_thread.run_sync(load)
    except ImportError as error:
        raise missing_runtime(
            f"Searching and downloading models needs the package huggingface_hub: {error}",
            f"Install it where the server runs: {install_command('hub')}",
        ) from error


def _endpoint(library: Any) -> str:
    # Read it here, because the package reads the variable only once in a process.
    endpoint: str = os.environ.get("HF_ENDPOINT") or library.constants.ENDPOINT
    return endpoint.rstrip("/")


def _headers(library: Any) -> dict[str, str]:
    # Not the package's own headers: they reveal more about this machine than the Hub needs, and to make them the
    # package sends a request of its own to the Hub.
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
    # Check the digest strictly, because it becomes a part of a file name.
    if not isinstance(path, str) or not isinstance(digest, str) or not _DIGEST[bool(large)].fullmatch(digest):
        return None
    if type(size) is not int or size < 0:
        return None
    return HubFile(path, size, digest if large else None, None if large else digest)


# -- errors


@asynccontextmanager
async def _mapped(doing: str) -> AsyncIterator[None]:
    """Convert errors of the package, of its HTTP client and of the disk to `LMStudioServerError`."""
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
    # The package does not wrap the errors of its HTTP client, and its version decides on the client.
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
                f"{doing} needs the Hub, and this server is set to stay offline.",
                "Unset the environment variable HF_HUB_OFFLINE where the server runs.",
            )
        case errors.GatedRepoError():
            return server_error(
                f"{doing} was refused: the repository is gated, and open only to accounts that accepted its terms.",
                f"Accept them on its page on {endpoint}, and give the server your token: the environment variable "
                "HF_TOKEN, or `hf auth login`.",
            )
        case errors.RepositoryNotFoundError():
            return repository_not_found(
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
