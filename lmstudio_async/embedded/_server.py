"""The server: what its connections share, and how long everything lives."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from lmstudio_async._call_site import call_site
from lmstudio_async._owned_task_group import OwnedTaskGroup
from lmstudio_async._preload import preload
from lmstudio_async._protocol._endpoints import NAMESPACES
from lmstudio_async._protocol._errors import only_one
from lmstudio_async._transport import FrameTransport, memory_pair
from lmstudio_async._wire._json import real_number, whole_number
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._clients import Client, Clients
from lmstudio_async.embedded._embedding_names import EmbeddingNames
from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.embedded._logs import Logs
from lmstudio_async.embedded._models_folder import default_models_folder
from lmstudio_async.embedded._origins import Origins
from lmstudio_async.errors import LMStudioRuntimeError, LMStudioUnreachableError, LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async.embedded._catalog import Catalog
    from lmstudio_async.embedded._hardware import Hardware
    from lmstudio_async.embedded._instances import Instances
    from lmstudio_async.embedded._repository import RepositoryHandlers

__all__ = ["EmbeddedServer"]

#: The modules with the handlers of a namespace; those of the others are in `_misc`.
_HANDLERS = {
    "llm": "embedded._predict",
    "embedding": "embedded._models",
    "files": "embedded._files",
    "repository": "embedded._repository",
    "runtime": "embedded._runtime",
}


class EmbeddedServer:
    """A server of LM Studio's protocol in this process. It loads GGUF models with llama.cpp, each in its own process.

    ::

        async with EmbeddedServer(models="~/models") as server:
            async with AsyncClient(server) as client:
                llm = await client.llm.model("smollm2-135m-instruct")

    Leaving the block ends everything: connections, answers on their way, and every loaded model. For objects that keep
    a server there are `start` and `aclose`. A server that is never closed ends with its event loop.

    The processes of the models get the environment variables that Python, the engine and the drivers of GPUs look at,
    and no tokens or passwords. ``LMSTUDIO_WORKER_ENV`` names more variables that they are to get, with commas between
    them: ``LMSTUDIO_WORKER_ENV=MY_DRIVER_PATH,ASAN_OPTIONS``.

    :param models: the models folder, laid out as LM Studio's: ``publisher/repository/file.gguf``. None: LM Studio's
        own folder if there is one, else a folder of this package's.
    :param api_tokens: tokens (``sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy``) one of which every client must have;
        none: everybody may connect.
    :param allowed_origins: web pages and apps that may use the server besides pages of this machine, by the origins
        that browsers send: ``https://chat.example``, ``app://obsidian``. Programs have no origin and need none.
    :param embedding_models: models that embed texts, though their files are like those of any LLM: model keys or paths,
        with ``*`` and ``?``, such as ``*-encoder`` or ``acme/*``. They embed with their last token unless the file says
        otherwise. Names such as Qwen3-Embedding, e5-mistral and gte-Qwen2 are known.
    :param auto_evict: before a model is loaded on demand (JIT), unload those that were loaded that way before.
        Models that were loaded explicitly stay.
    :param jit_ttl: idle seconds after which a model that was loaded on demand is unloaded, unless the client says
        otherwise; None: never.
    :param threads: CPU threads for each model; None: the physical cores but one.
    :param limits: how much it takes from its clients; None: the defaults of `ServerLimits`.
    :raises LMStudioValueError: if a parameter makes no sense.
    """

    def __init__(
        self,
        models: str | os.PathLike[str] | None = None,
        *,
        api_tokens: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        embedding_models: Collection[str] = (),
        auto_evict: bool = True,
        jit_ttl: float | None = 3600,
        threads: int | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        if models is not None and not isinstance(models, str | os.PathLike):
            raise LMStudioValueError(f"models is the path of a folder, not {models!r:.80}")
        if models is not None and "\0" in os.fsdecode(models):
            raise LMStudioValueError("models is the path of a folder, and no path has a zero byte")
        seconds, count = real_number(jit_ttl), whole_number(threads)
        if jit_ttl is not None and (seconds is None or not 0 < seconds < float("inf")):
            raise LMStudioValueError("jit_ttl is a number of seconds above 0, or None for never")
        if threads is not None and (count is None or count < 1):
            raise LMStudioValueError(
                "threads is a whole number of at least 1, or None for the physical cores but one"
            )
        if limits is not None and not isinstance(limits, ServerLimits):
            raise LMStudioValueError(f"limits is a ServerLimits, not {limits!r:.80}")
        self._limits = ServerLimits() if limits is None else limits
        self._models = None if models is None else Path(models).expanduser()
        self._auto_evict = auto_evict
        self._jit_ttl_ms = None if seconds is None else max(round(seconds * 1000), 1)
        self._threads = count
        self._clients = Clients(api_tokens, self._limits)
        self._origins = Origins(allowed_origins)
        self._embedding_names = EmbeddingNames(embedding_models)
        self._logs = Logs()
        self._running: _Running | None = None
        self._tasks: OwnedTaskGroup | None = None
        self._made_at = call_site()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.models_folder)!r}, is_running={self.is_running})"

    @property
    def address(self) -> str:
        """What error messages call this server."""
        return "embedded"

    @property
    def is_running(self) -> bool:
        """Whether it can be connected to."""
        return self._running is not None

    @property
    def limits(self) -> ServerLimits:
        """How much it takes from its clients."""
        return self._limits

    @property
    def models_folder(self) -> Path:
        """Where the models are looked for. It need not exist."""
        return default_models_folder() if self._models is None else self._models

    async def start(self) -> Self:
        """Start to serve. Legal from any task, and so is `aclose`.

        :return: the server itself.
        :raises LMStudioRuntimeError: if it runs already.

        ::

            server = await EmbeddedServer("~/models").start()
            client = await AsyncClient.open(server)
            await client.aclose()
            await server.aclose()
        """
        self._check_not_running()
        if self._tasks is not None:
            raise LMStudioRuntimeError("this server is being started or closed by another task")
        tasks = self._tasks = OwnedTaskGroup("server", repr(self), self._made_at)
        try:
            await tasks.open()
            await tasks.start(self.run)
            # Another task may have closed the server meanwhile.
            tasks.check()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """End everything: connections, answers on their way, and every loaded model. Idempotent, legal from any task."""
        tasks = self._tasks
        if tasks is None:
            return
        try:
            await tasks.aclose()
        finally:
            if self._tasks is tasks:
                self._tasks = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until this task is cancelled: for those who have a task group of their own.

        ::

            await task_group.start(server.run)

        :param task_status: told when clients can connect; ``start`` gives it.
        :raises LMStudioRuntimeError: if it runs already.
        """
        self._check_not_running()
        models_folder = await anyio.to_thread.run_sync(self._look_around)
        from lmstudio_async.embedded._catalog import Catalog
        from lmstudio_async.embedded._instances import Instances
        from lmstudio_async.embedded._pulse import Pulse

        catalog = Catalog(models_folder, self._embedding_names)
        instances = Instances(
            catalog,
            auto_evict=self._auto_evict,
            default_jit_ttl_ms=self._jit_ttl_ms,
            threads=self._threads,
            queued_predictions=self._limits.queued_predictions,
            new_pulse=lambda: Pulse(
                load_seconds=self._limits.load_stall_seconds,
                answer_seconds=self._limits.answer_stall_seconds,
            ),
        )
        try:
            async with AsyncExitStack() as clean_up, anyio.create_task_group() as task_group:
                await task_group.start(instances.run)
                self._running = running = _Running(catalog, instances, task_group)
                clean_up.push_async_callback(running.aclose)
                task_status.started()
                try:
                    await wait_until_cancelled()
                finally:
                    self._running = None
                    # Those that other people's tasks serve are not in the task group.
                    for scope in running.served:
                        scope.cancel()
        except BaseExceptionGroup as group:
            raise only_one(group) from None

    def _check_not_running(self) -> None:
        if self._running is not None:
            raise LMStudioRuntimeError("this server runs already; make another one, or use the one that runs")

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[FrameTransport]:
        """Connect to a namespace, in this process: no socket, no port.

        :param namespace: such as ``llm``.
        :raises LMStudioUnreachableError: if the server does not run, or has no such namespace.
        """
        running = self._running
        if running is None:
            raise LMStudioUnreachableError(
                "The embedded server does not run. Connect inside its block: async with EmbeddedServer() as server: ..."
            )
        if running.loop != anyio.lowlevel.current_token():
            raise LMStudioUnreachableError(
                "The embedded server runs in another event loop. Use it in the loop that runs it, or through a port."
            )
        if namespace not in NAMESPACES:
            raise LMStudioUnreachableError(f"The embedded server has no namespace {namespace!r}.")
        theirs, ours = memory_pair()
        running.task_group.start_soon(self.serve, ours, namespace)
        try:
            yield theirs
        finally:
            await theirs.aclose()

    async def serve(self, transport: FrameTransport, namespace: str) -> None:
        """Serve a connection that was made by other means, until it ends or the server does.

        :param transport: this side of it; it is closed in the end.
        :param namespace: what the other side connected to, one of LM Studio's namespaces.
        """
        running = self._running
        if running is None:
            await transport.aclose()
            return
        from lmstudio_async.embedded._connection import Connection

        with anyio.CancelScope() as scope:
            running.served.add(scope)
            try:
                await Connection(transport, namespace, self._clients, self._handlers, self._limits).run()
            finally:
                running.served.discard(scope)

    def _look_around(self) -> Path:
        """Give the models folder. In the same thread, import the server, and read once what else is in files."""
        import lmstudio_async.embedded._connection
        import lmstudio_async.embedded._instances  # noqa: F401
        from lmstudio_async.embedded._engine_spec import default_threads
        from lmstudio_async.embedded._load_config import may_lock_all_memory
        from lmstudio_async.embedded._versions import engine_version, package_version

        for find in (default_threads, engine_version, may_lock_all_memory, package_version):
            find()
        return self.models_folder

    @property
    def _state(self) -> _Running:
        if self._running is None:
            raise LMStudioUnreachableError("The embedded server does not run any more.")
        return self._running

    async def _handlers(self, namespace: str, client: Client) -> object:
        await preload(_HANDLERS.get(namespace, "embedded._misc"))
        running = self._state
        if namespace == "llm":
            from lmstudio_async.embedded._predict import LlmHandlers

            return LlmHandlers(running.instances, client, self._logs)
        if namespace == "repository":
            return running.repository
        if namespace == "runtime":
            from lmstudio_async.embedded._runtime import RuntimeHandlers

            return RuntimeHandlers(running.hardware)
        if namespace == "embedding":
            from lmstudio_async.embedded._models import EmbeddingHandlers

            return EmbeddingHandlers(running.instances)
        if namespace == "files":
            from lmstudio_async.embedded._files import FileHandlers

            return FileHandlers(self._clients, client, running.instances)
        from lmstudio_async.embedded import _misc

        match namespace:
            case "system":
                return _misc.SystemHandlers(running.catalog, self._logs)
            case "diagnostics":
                return _misc.DiagnosticsHandlers(self._logs)
        return None


class _Running:
    """What there is only while the server runs."""

    def __init__(self, catalog: Catalog, instances: Instances, task_group: anyio.abc.TaskGroup) -> None:
        self.catalog = catalog
        self.instances = instances
        self.task_group = task_group
        self.loop: Any = anyio.lowlevel.current_token()
        self.served: set[anyio.CancelScope] = set()

    @cached_property
    def hardware(self) -> Hardware:
        """What looks at this machine."""
        from lmstudio_async.embedded._hardware import Hardware

        return Hardware()

    @cached_property
    def repository(self) -> RepositoryHandlers:
        """What answers about models that could be downloaded: one for all clients, for they share downloads."""
        from lmstudio_async.embedded._repository import RepositoryHandlers

        return RepositoryHandlers(self.catalog, self.hardware, self.task_group)

    async def aclose(self) -> None:
        """Let go of what the tasks used, which have ended."""
        if "repository" in vars(self):
            await self.repository.aclose()
