"""The client: where the server is, and the one task group.

What a short script waits for is the making of classes. So here and in the domain an import stands at the top if
every use of the module needs it, in the function that needs it if only some do, and under ``TYPE_CHECKING`` if only
annotations do. ``tests/test_cost.py`` counts what a script loads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

import anyio
from anyio.abc import TaskGroup, TaskStatus

from lmstudio_async._arguments import check_namespace, check_timeout, check_verify
from lmstudio_async._event_loop import EventLoop
from lmstudio_async._protocol._auth import Credentials
from lmstudio_async._session import Session, refuse_to_pickle
from lmstudio_async._sharing import SharedLoads
from lmstudio_async._transport import parse_api_host
from lmstudio_async.errors import (
    LMStudioConnectionClosedError,
    LMStudioMissingRuntimeError,
    LMStudioRuntimeError,
    LMStudioUnreachableError,
    LMStudioValueError,
)

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from lmstudio_async._embedding import (
        AsyncDownloadedEmbeddingModel,
        AsyncEmbeddingModel,
        AsyncEmbeddingNamespace,
    )
    from lmstudio_async._files import AsyncFilesNamespace, LocalFileInput
    from lmstudio_async._llm import AsyncDownloadedLlm, AsyncLLM, AsyncLlmNamespace
    from lmstudio_async._repository import AsyncRepositoryNamespace
    from lmstudio_async._system import AsyncSystemNamespace
    from lmstudio_async._transport import Connector, WebSocketConnector
    from lmstudio_async._wire._history import FileHandle
    from lmstudio_async.embedded import EmbeddedServer

__all__ = ["AsyncClient"]

HOST_VARIABLE = "LMSTUDIO_HOST"
EMBEDDED = "embedded"


class AsyncClient:
    """A client of one LM Studio server, or of an embedded one.

    Enter it once; use it from any task. A connection is made for each namespace when that is first used, and made
    again if it is lost. Leaving the block, or `aclose`, ends everything that is under way, on the server too.

    :param api_host: where the server is: ``host``, ``host:port``, an ``http``, ``https``, ``ws`` or ``wss`` URL,
        with a path if it is behind a proxy; ``"embedded"`` for a server in this process; or an `EmbeddedServer`.
        None takes what ``LMSTUDIO_HOST`` says, else the first local server found on LM Studio's ports.
    :param api_token: an LM Studio API token. None takes ``LM_API_TOKEN`` or ``LMSTUDIO_API_TOKEN``, else none.
    :param timeout: seconds without any news from the server after which a call or an operation fails. None, the
        default, waits for ever; connecting always has a limit.
    :param verify: whom to trust with ``https`` and ``wss``: the path of a PEM file, or of a directory, with the
        certificates of the authorities that you trust, or an `ssl.SSLContext`, which decides itself. None trusts
        those in the file that ``SSL_CERT_FILE`` names, else the usual public ones.
    :raises LMStudioValueError: if an argument makes no sense.

    ::

        async with AsyncClient() as client:
            llm = await client.llm.model("llama-3.2-1b-instruct")
            print(await llm.respond("What is the meaning of life?"))
    """

    def __init__(
        self,
        api_host: str | EmbeddedServer | None = None,
        api_token: str | None = None,
        *,
        timeout: float | None = None,
        verify: SSLContext | str | PathLike[str] | None = None,
    ) -> None:
        self._host = _check_host(api_host)
        self._verify = check_verify(verify)
        self._credentials = Credentials.find(api_token)
        self._timeout = check_timeout(timeout)
        self._event_loop: EventLoop
        self._tasks: TaskGroup | None = None
        self._connector: Connector | None = None
        self._own_connector: WebSocketConnector | None = None
        self._own_server: _OwnServer | None = None
        self._sessions: dict[str, Session] = {}
        self._loads = SharedLoads()
        self._closed = False

    # -- its life

    async def __aenter__(self) -> Self:
        """Find the server. Nothing is connected yet.

        :raises LMStudioUnreachableError: if no server was named and none was found.
        """
        if self._tasks is not None or self._closed:
            raise LMStudioRuntimeError("A client can be entered once. Make a new one.")
        self._event_loop = EventLoop()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            self._connector = await self._find_server(self._tasks)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        finally:
            # All of its tasks have ended. What the block raised goes its own way, not into an exception group.
            if self._tasks is not None:
                await _end(self._tasks)

    async def aclose(self) -> None:
        """Close all connections. What is under way ends with an error here, and is cancelled on the server.

        Idempotent, and legal in any state and from any task.
        """
        self._closed = True
        for session in list(self._sessions.values()):
            await session.aclose()
        with anyio.CancelScope(shield=True):
            if self._own_connector is not None:
                await self._own_connector.aclose()
            if self._own_server is not None:
                await self._own_server.aclose()

    async def _find_server(self, tasks: TaskGroup) -> Connector:
        host = self._host
        if host is None:
            host = _host_from_environment() or None
        if host is None:
            from lmstudio_async._transport import DEFAULT_API_PORTS, find_default_local_api_host

            host = await find_default_local_api_host()
            if host is None:
                raise LMStudioUnreachableError(
                    "No LM Studio found on this machine. Tried 127.0.0.1 at the ports "
                    f"{', '.join(map(str, (*DEFAULT_API_PORTS, 1234)))}.\n"
                    "Start LM Studio and its server, or say where it is: api_host='host:port', or LMSTUDIO_HOST.\n"
                    'Without LM Studio: pip install "lmstudio-async[embedded]" and api_host="embedded".'
                )
        if host == EMBEDDED:
            from lmstudio_async.embedded import EmbeddedServer

            if find_spec("xllamacpp") is None:
                raise LMStudioMissingRuntimeError(
                    "The embedded server's engine is not installed.\n"
                    'Install it with pip install "lmstudio-async[embedded]", or give the api_host of an LM Studio.'
                )
            host = EmbeddedServer()
        if isinstance(host, str):
            from lmstudio_async._transport import WebSocketConnector

            address = parse_api_host(host)
            self._check_verifiable(address, secure=address.secure)
            self._own_connector = WebSocketConnector(address, verify=self._verify)
            return self._own_connector
        self._check_verifiable("an embedded server", secure=False)
        if not host.is_running:
            self._own_server = _OwnServer(host)
            await tasks.start(self._own_server.run)
        return host

    def _check_verifiable(self, where: object, *, secure: bool) -> None:
        if self._verify is not None and not secure:
            raise LMStudioValueError(
                f"verify is for https and wss, but {where} is spoken to without TLS. Leave it out, or write the "
                "api_host as https://..."
            )

    # -- its rooms

    @property
    def llm(self) -> AsyncLlmNamespace:
        """The language models."""
        from lmstudio_async._llm import AsyncLlmNamespace

        return AsyncLlmNamespace(self._session("llm"), self._session("system"), self._loads)

    @property
    def embedding(self) -> AsyncEmbeddingNamespace:
        """The embedding models."""
        from lmstudio_async._embedding import AsyncEmbeddingNamespace

        return AsyncEmbeddingNamespace(self._session("embedding"), self._session("system"), self._loads)

    @property
    def system(self) -> AsyncSystemNamespace:
        """The server itself."""
        from lmstudio_async._system import AsyncSystemNamespace

        return AsyncSystemNamespace(self._session("system"), self.llm, self.embedding)

    @property
    def repository(self) -> AsyncRepositoryNamespace:
        """The models that can be downloaded."""
        from lmstudio_async._repository import AsyncRepositoryNamespace

        return AsyncRepositoryNamespace(self._session("repository"))

    @property
    def files(self) -> AsyncFilesNamespace:
        """The files for messages."""
        from lmstudio_async._files import AsyncFilesNamespace

        return AsyncFilesNamespace(self._session("files"))

    @property
    def api_host(self) -> str:
        """Where the server is, as it was given or found.

        :raises LMStudioRuntimeError: before the client is entered.
        """
        if self._connector is None:
            raise LMStudioRuntimeError(
                "The client has not been entered: use 'async with AsyncClient() as client'."
            )
        return self._connector.address

    @overload
    async def list_loaded_models(self, namespace: Literal["llm"]) -> list[AsyncLLM]: ...

    @overload
    async def list_loaded_models(self, namespace: Literal["embedding"]) -> list[AsyncEmbeddingModel]: ...

    @overload
    async def list_loaded_models(
        self, namespace: Literal["llm", "embedding"] | None = None
    ) -> list[AsyncLLM | AsyncEmbeddingModel]: ...

    async def list_loaded_models(
        self, namespace: Literal["llm", "embedding"] | None = None
    ) -> Sequence[AsyncLLM | AsyncEmbeddingModel]:
        """List the loaded instances.

        :param namespace: ``"llm"`` or ``"embedding"`` for those only; None for both.
        :return: their handles, language models first.

        ::

            for model in await client.list_loaded_models():
                print(model.identifier)
        """
        check_namespace(namespace)
        handles: list[AsyncLLM | AsyncEmbeddingModel] = []
        if namespace != "embedding":
            handles += await self.llm.list_loaded()
        if namespace != "llm":
            handles += await self.embedding.list_loaded()
        return handles

    @overload
    async def list_downloaded_models(self, namespace: Literal["llm"]) -> list[AsyncDownloadedLlm]: ...

    @overload
    async def list_downloaded_models(
        self, namespace: Literal["embedding"]
    ) -> list[AsyncDownloadedEmbeddingModel]: ...

    @overload
    async def list_downloaded_models(
        self, namespace: Literal["llm", "embedding"] | None = None
    ) -> list[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel]: ...

    async def list_downloaded_models(
        self, namespace: Literal["llm", "embedding"] | None = None
    ) -> Sequence[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel]:
        """List the models that are there to be loaded.

        :param namespace: ``"llm"`` or ``"embedding"`` for those only; None for both.
        :return: each of them, with what the server said about it.

        ::

            for model in await client.list_downloaded_models("llm"):
                print(model.model_key)
        """
        check_namespace(namespace)
        models = await self.system.list_downloaded_models()
        return [model for model in models if namespace is None or model.type == namespace]

    async def prepare_image(self, src: LocalFileInput, name: str | None = None) -> FileHandle:
        """Upload an image, for a message to a model with vision. JPEG and PNG are understood, by LM Studio WebP too.

        :param src: a path, the content itself, or a file that is open for reading bytes, from where it stands.
        :param name: what to call it; None for the file's own name, or any for bytes.
        :return: the handle, for `Chat.add_user_message`. It is known to this client alone.
        :raises LMStudioOSError: if the file cannot be read.
        :raises LMStudioValueError: if an argument makes no sense, or the file is empty.

        ::

            image = await client.prepare_image("cat.png")
            chat = Chat()
            chat.add_user_message("What is this?", images=[image])
            print(await llm.respond(chat))
        """
        return await self.files.prepare_image(src, name)

    async def prepare_file(self, src: LocalFileInput, name: str | None = None) -> FileHandle:
        """Upload a file of any kind.

        :param src: a path, the content itself, or a file that is open for reading bytes, from where it stands.
        :param name: what to call it; None for the file's own name, or any for bytes.
        :return: the handle. It is known to this client alone.
        :raises LMStudioOSError: if the file cannot be read.
        :raises LMStudioValueError: if an argument makes no sense, or the file is empty.
        """
        return await self.files.prepare_file(src, name)

    async def call(self, namespace: str, endpoint: str, parameter: Any = None) -> Any:
        """Make any call of LM Studio's protocol: for what this SDK has no method for.

        :param namespace: such as ``"llm"``, ``"system"`` or ``"runtime"``.
        :param endpoint: its name on the wire, such as ``"listEngines"``; one that this SDK does not know, too.
        :param parameter: plain JSON, with the names that the wire has; None for none.
        :return: the answer, as plain JSON; None if there is none.
        :raises LMStudioValueError: if there is no such namespace, the endpoint is no call, or the parameter is no JSON.
        :raises LMStudioServerError: if the server refuses, fails, or does not know the endpoint.

        ::

            for engine in await client.call("runtime", "listEngines"):
                print(engine["name"], engine["version"])
        """
        from lmstudio_async._calling import any_call, check_session

        session = self._session(check_session(namespace))
        return await session.call(any_call(namespace, endpoint, parameter), parameter)

    @classmethod
    async def is_valid_api_host(cls, api_host: str) -> bool:
        """Find out if LM Studio answers at a place. Takes a second at most.

        :param api_host: ``host``, ``host:port``, or a URL.
        :return: whether it does.
        :raises LMStudioValueError: if the place is written wrongly.
        """
        from lmstudio_async._transport import is_valid_api_host

        return await is_valid_api_host(api_host)

    @classmethod
    async def find_default_local_api_host(cls) -> str | None:
        """Look for LM Studio on this machine, at its ports. Takes a second at most.

        :return: ``host:port`` of the first that answers, or None.
        """
        from lmstudio_async._transport import find_default_local_api_host

        return await find_default_local_api_host()

    def _set_timeout(self, timeout: float | None) -> None:
        self._timeout = check_timeout(timeout)
        for session in list(self._sessions.values()):
            session.timeout = self._timeout

    def _session(self, namespace: str) -> Session:
        if self._closed:
            raise LMStudioConnectionClosedError("This client is closed. Make a new one.")
        if self._tasks is None or self._connector is None:
            raise LMStudioRuntimeError(
                "The client has not been entered: use 'async with AsyncClient() as client'."
            )
        session = self._sessions.get(namespace)
        if session is None:
            session = Session(
                namespace, self._connector, self._credentials, self._tasks, self._event_loop, self._timeout
            )
            # Threads other than the event loop's may come here, too: whoever is first has made it.
            session = self._sessions.setdefault(namespace, session)
        return session

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle()

    def __repr__(self) -> str:
        where = self._connector.address if self._connector is not None else self._host
        return f"{type(self).__name__}(api_host={str(where)!r})"


class _OwnServer:
    """An embedded server that runs as long as its client."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        try:
            with self._scope:
                await self._server.run(task_status=task_status)
        finally:
            self._ended.set()

    async def aclose(self) -> None:
        """Stop it, and wait until its models are unloaded, for which it has limits of its own."""
        self._scope.cancel()
        await self._ended.wait()


async def _end(tasks: TaskGroup) -> None:
    """Leave a task group. Ctrl-C may have hit any of its tasks, and is to come out as nothing else."""
    try:
        await tasks.__aexit__(None, None, None)
    except BaseExceptionGroup as group:
        from lmstudio_async._protocol._errors import only_one

        raise only_one(group) from None


def _host_from_environment() -> str | None:
    host = os.environ.get(HOST_VARIABLE)
    if host and host != EMBEDDED:
        try:
            parse_api_host(host)
        except LMStudioValueError as error:
            raise LMStudioValueError(f"{HOST_VARIABLE} is wrong: {error}") from error
    return host


def _check_host(host: str | EmbeddedServer | None) -> str | EmbeddedServer | None:
    if isinstance(host, str) and host != EMBEDDED:
        parse_api_host(host)
    if host is None or isinstance(host, str) or hasattr(host, "is_running"):
        return host
    raise LMStudioValueError(f"api_host must be a text or an EmbeddedServer, not {host!r:.80}")
