"""The client of an LM Studio server, with access to all of its namespaces.

Creating classes takes most of the start-up time of a short script. So, here and in the modules of the namespaces, an
import stands at the top if every use of the module needs it, in a function if only that function needs it, and under
``TYPE_CHECKING`` if only annotations need it. ``tests/test_cost.py`` counts the modules that a script loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

import anyio

from lmstudio_async._arguments import check_interval, check_namespace, check_timeout, check_verify
from lmstudio_async._instance_journal import InstanceJournal
from lmstudio_async._preload import preload
from lmstudio_async._protocol._auth import Credentials
from lmstudio_async._server_access import ServerAccess
from lmstudio_async._session import Session, refuse_to_pickle
from lmstudio_async._shared_load import SharedLoads
from lmstudio_async.errors import LMStudioRuntimeError

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from lmstudio_async._client_limits import ClientLimits
    from lmstudio_async._embedding import (
        AsyncDownloadedEmbeddingModel,
        AsyncEmbeddingModel,
        AsyncEmbeddingNamespace,
    )
    from lmstudio_async._files_namespace import AsyncFilesNamespace, LocalFileInput
    from lmstudio_async._instance_poller import InstancePoller
    from lmstudio_async._instance_status import InstanceStatus
    from lmstudio_async._instance_watch import AsyncInstanceWatch
    from lmstudio_async._llm import AsyncDownloadedLlm, AsyncLLM, AsyncLlmNamespace
    from lmstudio_async._repository_namespace import AsyncRepositoryNamespace
    from lmstudio_async._system_namespace import AsyncSystemNamespace
    from lmstudio_async._wire._history import FileHandle
    from lmstudio_async.embedded import EmbeddedServer

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of one LM Studio server, or of an embedded one.

    Use it from any task, and close it from any task. The client connects to each namespace on its first use, and
    reconnects after a loss. Leaving the block, or `aclose`, cancels all running work, on the server too.
    Enter it, or make it with `open`. A client that is used without either opens itself.

    :param api_host: address of the server: ``host``, ``host:port``, an ``http``, ``https``, ``ws`` or ``wss`` URL,
        with a path if it is behind a proxy, or the base URL of its OpenAI or REST API; ``"embedded"`` for a server in
        this process; or an `EmbeddedServer`.
        None takes the value of ``LMSTUDIO_HOST``, which may be each of these texts, else the first local server found
        on LM Studio's ports. So ``LMSTUDIO_HOST=embedded python program.py`` needs no LM Studio.
    :param api_token: an LM Studio API token. None takes the value of ``LM_API_TOKEN`` or ``LMSTUDIO_API_TOKEN``, if
        one is set.
    :param timeout: seconds without any news from the server after which a call or an operation fails. None, the
        default, waits for ever; connecting always has a limit.
    :param verify: certificate authorities to trust with ``https`` and ``wss``: the path of a PEM file or of a directory
        with their certificates, or an `ssl.SSLContext`, whose own settings decide. None trusts the authorities in the
        file that ``SSL_CERT_FILE`` names, else the usual public ones.
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
        _limits: ClientLimits | None = None,
    ) -> None:
        self._timeout = check_timeout(timeout)
        self._access = ServerAccess(api_host, Credentials.find(api_token), check_verify(verify), _limits)
        self._sessions: dict[str, Session] = {}
        self._loads = SharedLoads()
        self._journal = InstanceJournal(self._access.limits.references_kept)
        # One at most.
        self._pollers: dict[str, InstancePoller] = {}
        self._entered = False

    # -- life cycle

    @classmethod
    async def open(
        cls,
        api_host: str | EmbeddedServer | None = None,
        api_token: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the client's timeout, not that of this call
        verify: SSLContext | str | PathLike[str] | None = None,
    ) -> Self:
        """Create a client and find its server. Close it with `aclose`.

        Meant for notebooks, and for objects that hold a client.

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
        """Find the server. Connections are made later, on the first use of each namespace.

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
        """Close all connections. Running calls and operations fail here, and are cancelled on the server.

        Idempotent, and legal in any state and from any task.
        """
        try:
            if self._journal.scoped and self._access.is_in_this_loop():
                from lmstudio_async._scoped_instance import close_scopes

                with anyio.CancelScope(shield=True):
                    await close_scopes(self._journal.scoped, self._access.limits.clean_up_seconds)
        finally:
            self._access.refuse()
        try:
            with anyio.CancelScope(shield=True):
                # Close the sessions concurrently, because each waits for the server within a time limit of its own.
                sessions = list(self._sessions.values()) if self._access.is_in_this_loop() else []
                for session in sessions:
                    session.close_soon()
                for session in sessions:
                    await session.wait_closed()
        finally:
            with anyio.CancelScope(shield=True):
                await self._access.aclose()

    # -- namespaces

    @property
    def llm(self) -> AsyncLlmNamespace:
        """The language models."""
        from lmstudio_async._llm import AsyncLlmNamespace

        llm, embedding = self._model_sessions()
        return AsyncLlmNamespace(llm, embedding, *self._other_sessions(), self._loads)

    @property
    def embedding(self) -> AsyncEmbeddingNamespace:
        """The embedding models."""
        from lmstudio_async._embedding import AsyncEmbeddingNamespace

        llm, embedding = self._model_sessions()
        return AsyncEmbeddingNamespace(embedding, llm, *self._other_sessions(), self._loads)

    @property
    def system(self) -> AsyncSystemNamespace:
        """The server itself."""
        from lmstudio_async._system_namespace import AsyncSystemNamespace

        return AsyncSystemNamespace(self._session("system"), self.llm, self.embedding)

    @property
    def repository(self) -> AsyncRepositoryNamespace:
        """The models that can be downloaded."""
        from lmstudio_async._repository_namespace import AsyncRepositoryNamespace

        return AsyncRepositoryNamespace(self._session("repository"), self._session("system"))

    @property
    def files(self) -> AsyncFilesNamespace:
        """Uploads of files for messages."""
        from lmstudio_async._files_namespace import AsyncFilesNamespace

        return AsyncFilesNamespace(self._session("files"))

    @property
    def api_host(self) -> str:
        """Address of the server, as given or found.

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
        from lmstudio_async._handles import ModelList

        check_namespace(namespace)
        handles: list[AsyncLLM | AsyncEmbeddingModel] = ModelList()
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
        """List the models that are downloaded on the server.

        :param namespace: ``"llm"`` or ``"embedding"`` for those only; None for both.
        :return: the models, each with the server's description of it.

        ::

            for model in await client.list_downloaded_models("llm"):
                print(model.model_key)
        """
        from lmstudio_async._handles import ModelList

        check_namespace(namespace)
        models = await self.system.list_downloaded_models()
        return ModelList(model for model in models if namespace is None or model.type == namespace)

    async def list_instances(self) -> list[InstanceStatus[AsyncLLM | AsyncEmbeddingModel]]:
        """List the loaded instances, what each of them does, and when the server will unload it.

        The requests go out concurrently. An instance that is unloaded meanwhile is left out.

        Times are computed by the server's clock, if it told its time when the connection was made (in the header ``Date``,
        to about two seconds). Otherwise ``idle_seconds`` and ``unloads_in`` are wrong by the difference of the two clocks.

        :return: the instances, language models first.
        :raises LMStudioUnreachableError: if the server cannot be reached.

        ::

            for instance in await client.list_instances():
                print(instance.identifier, instance.status, instance.unloads_in)
        """
        await preload("_instance_survey", "_instance_status", "_wire._usage", "_llm", "_embedding")
        from lmstudio_async._instance_status import list_statuses

        llm, embedding = self._model_sessions()
        return await list_statuses(llm, embedding, self._journal)

    def watch_instances(self, *, interval: float = 1.0) -> AsyncInstanceWatch:
        """Watch the instances of the server: loads, unloads, and what each instance does.

        The first events are an `InstancePresent` for each loaded instance. See `AsyncInstanceWatch` for what follows, and
        for what may be missed. One look serves all watches of the client, and no look is made while there is none.

        :param interval: seconds between two looks at the server. Loads and unloads by this client are reported at once.
        :return: the watch; it begins when it is entered or iterated over.
        :raises LMStudioValueError: if the interval is not a positive number.
        :raises LMStudioConnectionClosedError: if the client is closed.

        ::

            async with client.watch_instances() as events:
                qwen = await client.llm.load_new_instance("qwen3-4b")
                await qwen.unload()
                async for event in events:
                    print(event.at, type(event).__name__, event.identifier)
                    if isinstance(event, lms.InstanceUnloaded):
                        break
        """
        from lmstudio_async._instance_poller import InstancePoller
        from lmstudio_async._instance_watch import AsyncInstanceWatch

        seconds = check_interval(interval)
        # Another thread may create the poller at the same time. setdefault keeps the first one.
        poller = self._pollers.setdefault("", InstancePoller(self._model_sessions(), self._journal))
        return AsyncInstanceWatch(poller, seconds, self._access.limits.unread_bytes)

    async def prepare_image(self, src: LocalFileInput, name: str | None = None) -> FileHandle:
        """Upload an image for a message to a vision model: JPEG or PNG; LM Studio also accepts WebP.

        :param src: a path, the content as bytes, or an open binary file, which is read from its current position.
        :param name: name of the file; None for the file's own name, or a random one for bytes.
        :return: the handle, for `Chat.add_user_message`. Only this client can use it.
        :raises LMStudioOSError: if the file cannot be read.
        :raises LMStudioValueError: if an argument makes no sense, or the file is empty.

        ::

            llm = await client.llm.model("qwen2-vl-2b-instruct")
            image = await client.prepare_image("cat.png")
            chat = Chat()
            chat.add_user_message("What is this?", images=[image])
            print(await llm.respond(chat))
        """
        return await self.files.prepare_image(src, name)

    async def prepare_file(self, src: LocalFileInput, name: str | None = None) -> FileHandle:
        """Upload a file of any kind.

        :param src: a path, the content as bytes, or an open binary file, which is read from its current position.
        :param name: name of the file; None for the file's own name, or a random one for bytes.
        :return: the handle. Only this client can use it.
        :raises LMStudioOSError: if the file cannot be read.
        :raises LMStudioValueError: if an argument makes no sense, or the file is empty.
        """
        return await self.files.prepare_file(src, name)

    async def call(self, namespace: str, endpoint: str, parameter: Any = None) -> Any:
        """Call any endpoint of LM Studio's protocol, for features that have no method in this SDK.

        :param namespace: namespace of the endpoint, for example ``"llm"``, ``"system"`` or ``"runtime"``.
        :param endpoint: its name on the wire, for example ``"listEngines"``. This SDK need not know the endpoint.
        :param parameter: plain JSON with the names of the wire; None for no parameter.
        :return: the response, as plain JSON; None if it is empty.
        :raises LMStudioValueError: if there is no such namespace, the endpoint is a channel, or the parameter is not
            JSON.
        :raises LMStudioServerError: if the server refuses, fails, or does not know the endpoint.

        ::

            for engine in await client.call("runtime", "listEngines"):
                print(engine["name"], engine["version"])
        """
        await preload("_raw_call")
        from lmstudio_async._raw_call import any_call, check_protocol_namespace

        session = self._session(check_protocol_namespace(namespace))
        return await session.call(any_call(namespace, endpoint, parameter), parameter)

    @classmethod
    async def is_valid_api_host(cls, api_host: str) -> bool:
        """Check whether LM Studio answers at an address. Takes one second at most.

        :param api_host: ``host``, ``host:port``, or a URL.
        :return: whether LM Studio answers.
        :raises LMStudioValueError: if the address is malformed.
        """
        await preload("_transport._discovery")
        from lmstudio_async._transport import is_valid_api_host

        return await is_valid_api_host(api_host)

    @classmethod
    async def find_default_local_api_host(cls) -> str | None:
        """Look for LM Studio on this machine, at its ports. Takes one second at most.

        :return: ``host:port`` of the first server that answers, or None.
        """
        await preload("_transport._discovery")
        from lmstudio_async._transport import find_default_local_api_host

        return await find_default_local_api_host()

    def _other_sessions(self) -> tuple[Session, Session]:
        return self._session("system"), self._session("repository")

    def _model_sessions(self) -> list[Session]:
        return [self._session("llm"), self._session("embedding")]

    def _session(self, namespace: str) -> Session:
        self._access.check_not_closed()
        session = self._sessions.get(namespace)
        if session is None:
            session = Session(namespace, self._access, self._timeout, self._journal)
            # Another thread may create the session at the same time. setdefault keeps the first one.
            session = self._sessions.setdefault(namespace, session)
        return session

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._access.address!r})"


def set_timeout(client: AsyncClient, timeout: float | None) -> None:
    """Change the timeout of a client.

    :raises LMStudioValueError: if the timeout makes no sense.
    """
    client._timeout = check_timeout(timeout)
    for session in list(client._sessions.values()):
        session.timeout = client._timeout
