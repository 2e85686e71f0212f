"""The client: everything that one asks of a server begins here.

What a short script waits for is the making of classes. So here and in the domain an import stands at the top if
every use of the module needs it, in the function that needs it if only some do, and under ``TYPE_CHECKING`` if only
annotations do. ``tests/test_cost.py`` counts what a script loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

import anyio

from lmstudio_async._arguments import check_namespace, check_timeout, check_verify
from lmstudio_async._preload import preload
from lmstudio_async._protocol._auth import Credentials
from lmstudio_async._server_access import ServerAccess
from lmstudio_async._session import Session, refuse_to_pickle
from lmstudio_async._sharing import SharedLoads
from lmstudio_async.errors import LMStudioRuntimeError

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
    from lmstudio_async._wire._history import FileHandle
    from lmstudio_async.embedded import EmbeddedServer

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of one LM Studio server, or of an embedded one.

    Use it from any task, and close it from any task. A connection is made for each namespace when that is first used,
    and made again if it is lost. Leaving the block, or `aclose`, ends everything that is under way, on the server too.
    Enter it, or open it with `open`; one that is used before opens itself.

    :param api_host: where the server is: ``host``, ``host:port``, an ``http``, ``https``, ``ws`` or ``wss`` URL,
        with a path if it is behind a proxy, or the base URL of its OpenAI or REST API; ``"embedded"`` for a server in
        this process; or an `EmbeddedServer`.
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
        self._timeout = check_timeout(timeout)
        self._access = ServerAccess(api_host, Credentials.find(api_token), check_verify(verify))
        self._sessions: dict[str, Session] = {}
        self._loads = SharedLoads()
        self._entered = False

    # -- its life

    @classmethod
    async def open(
        cls,
        api_host: str | EmbeddedServer | None = None,
        api_token: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - of the client, and not of this call
        verify: SSLContext | str | PathLike[str] | None = None,
    ) -> Self:
        """Make a client and find its server: for notebooks, and for objects that keep a client. To be closed by `aclose`.

        :param api_host: see `AsyncClient`.
        :param api_token: see `AsyncClient`.
        :param timeout: see `AsyncClient`.
        :param verify: see `AsyncClient`.
        :return: the client.
        :raises LMStudioUnreachableError: if no server was named and none was found.
        :raises LMStudioValueError: if an argument makes no sense.

        ::

            client = await AsyncClient.open()
            llm = await client.llm.model("llama-3.2-1b-instruct")
            await client.aclose()
        """
        client = cls(api_host, api_token, timeout=timeout, verify=verify)
        await client._access.open()
        return client

    async def __aenter__(self) -> Self:
        """Find the server. Nothing is connected yet.

        :raises LMStudioUnreachableError: if no server was named and none was found.
        """
        if self._entered:
            raise LMStudioRuntimeError("A client can be entered once. Make a new one.")
        self._entered = True
        await self._access.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. What is under way ends with an error here, and is cancelled on the server.

        Idempotent, and legal in any state and from any task.
        """
        self._access.refuse()
        try:
            with anyio.CancelScope(shield=True):
                # All at once: each takes leave of the server, within limits of its own.
                sessions = list(self._sessions.values()) if self._access.is_in_this_loop() else []
                for session in sessions:
                    session.close_soon()
                for session in sessions:
                    await session.wait_closed()
        finally:
            with anyio.CancelScope(shield=True):
                await self._access.aclose()

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

        :raises LMStudioRuntimeError: before the client is opened.
        """
        if self._access.connector is None:
            raise LMStudioRuntimeError(
                "The client has not been opened, and its server has not been found yet: use "
                "'async with AsyncClient() as client', or 'client = await AsyncClient.open()'."
            )
        return self._access.address

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
        await preload("_calling")
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
        await preload("_transport._discovery")
        from lmstudio_async._transport import is_valid_api_host

        return await is_valid_api_host(api_host)

    @classmethod
    async def find_default_local_api_host(cls) -> str | None:
        """Look for LM Studio on this machine, at its ports. Takes a second at most.

        :return: ``host:port`` of the first that answers, or None.
        """
        await preload("_transport._discovery")
        from lmstudio_async._transport import find_default_local_api_host

        return await find_default_local_api_host()

    def _set_timeout(self, timeout: float | None) -> None:
        self._timeout = check_timeout(timeout)
        for session in list(self._sessions.values()):
            session.timeout = self._timeout

    def _session(self, namespace: str) -> Session:
        self._access.check_not_closed()
        session = self._sessions.get(namespace)
        if session is None:
            session = Session(namespace, self._access, self._timeout)
            # Threads other than the event loop's may come here, too: whoever is first has made it.
            session = self._sessions.setdefault(namespace, session)
        return session

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._access.address!r})"
