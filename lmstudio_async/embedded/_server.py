"""The server and its lifetime."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from lmstudio_async._call_site import call_site
from lmstudio_async._owned_task_group import OwnedTaskGroup
from lmstudio_async._preload import preload
from lmstudio_async._protocol._endpoints import NAMESPACES
from lmstudio_async._protocol._errors import server_error, unwrap_group
from lmstudio_async._transport import ClientTransport, FrameTransport, memory_pair
from lmstudio_async._wire._json import real_number, whole_number
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._catalog._embedding_names import EmbeddingNames
from lmstudio_async.embedded._catalog._model_places import ModelPlaces
from lmstudio_async.embedded._connections._clients import Client, Clients
from lmstudio_async.embedded._connections._logs import Logs
from lmstudio_async.embedded._connections._origins import Origins
from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.embedded._running_server import RunningServer
from lmstudio_async.embedded._timing import DEFAULT_TIMING, ServerTiming
from lmstudio_async.errors import LMStudioRuntimeError, LMStudioUnreachableError, LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async.embedded._catalog._catalog import Catalog
    from lmstudio_async.embedded._catalog._models_scan import ModelsScan
    from lmstudio_async.embedded._instances._departures import Departures

__all__ = [
    "EmbeddedServer",
    "clients_of",
    "origins_of",
    "places_of",
    "state_of",
    "timing_of",
]


class EmbeddedServer:
    """A server of LM Studio's protocol in this process. It loads GGUF models with llama.cpp, each in its own process.

    ::

        async with EmbeddedServer(models="~/models") as server:
            async with AsyncClient(server) as client:
                llm = await client.llm.model("smollm2-135m-instruct")

    Leaving the block closes all connections, cancels responses in progress, and unloads every model. An object that
    keeps a server uses `start` and `aclose` instead of the block. A server that is never closed ends with its event
    loop.

    The worker processes of the models get the environment variables that Python, the engine and the GPU drivers use,
    and no tokens or passwords. ``LMSTUDIO_WORKER_ENV`` is a comma-separated list of further variables that they get:
    ``LMSTUDIO_WORKER_ENV=MY_DRIVER_PATH,ASAN_OPTIONS``.

    :param models: the models folder, with the same layout as LM Studio's: ``publisher/repository/file.gguf``; or a GGUF
        file, which brings the other parts of its model and the projectors (``mmproj``) beside it; or a list of folders
        and files. Downloads go to the first folder; if several have a file of the same path, that of the first one
        counts. None: LM Studio's own folder if it exists, else a folder of this package, which is created.
    :param api_tokens: tokens (``sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy``) of which every client must send one. If there
        are none, every client may connect.
    :param allowed_origins: web pages and apps that may use the server besides pages of this machine, by the origins
        that browsers send: ``https://chat.example``, ``app://obsidian``. Programs have no origin and need none.
    :param embedding_models: models that embed texts although their files look like those of an LLM: model keys or
        paths, with ``*`` and ``?``, such as ``*-encoder`` or ``acme/*``. They embed with their last token unless the
        file says otherwise. Names such as Qwen3-Embedding, e5-mistral and gte-Qwen2 are known.
    :param auto_evict: before a just-in-time load, unload the models that were loaded just in time before. Models that
        were loaded explicitly stay.
    :param jit_ttl: default TTL of a just-in-time load: idle seconds after which the model is unloaded. None: never.
    :param threads: CPU threads for each model; None: one less than the number of physical cores.
    :param limits: limits on the requests and data of clients; None: the defaults of `ServerLimits`.
    :raises LMStudioValueError: if a parameter is invalid, or one of the models is neither a folder nor a GGUF file.
    :raises LMStudioOSError: if one of the models cannot be read.
    """

    def __init__(
        self,
        models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        api_tokens: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        embedding_models: Collection[str] = (),
        auto_evict: bool = True,
        jit_ttl: float | None = 3600,
        threads: int | None = None,
        limits: ServerLimits | None = None,
        _timing: ServerTiming | None = None,
    ) -> None:
        seconds, count = real_number(jit_ttl), whole_number(threads)
        if jit_ttl is not None and (seconds is None or not 0 < seconds < float("inf")):
            raise LMStudioValueError("jit_ttl is a number of seconds above 0, or None for never")
        if threads is not None and (count is None or count < 1):
            raise LMStudioValueError(
                "threads is a whole number of at least 1, or None for one less than the physical cores"
            )
        if limits is not None and not isinstance(limits, ServerLimits):
            raise LMStudioValueError(f"limits is a ServerLimits, not {limits!r:.80}")
        self._limits = ServerLimits() if limits is None else limits
        self._timing = _timing or DEFAULT_TIMING
        self._given_models = None if models is None else ModelPlaces.checked(models)
        self._auto_evict = auto_evict
        self._jit_ttl_ms = None if seconds is None else max(round(seconds * 1000), 1)
        self._threads = count
        self._clients = Clients(api_tokens, self._limits)
        self._origins = Origins(allowed_origins)
        self._embedding_names = EmbeddingNames(embedding_models)
        self._logs = Logs()
        #: Kept when the server is started again, because clients may still have handles of the instances.
        self._departures: Departures | None = None
        self._running: RunningServer | None = None
        self._tasks: OwnedTaskGroup | None = None
        self._made_at = call_site()

    def __repr__(self) -> str:
        # Without the default places, because their look-up reads files.
        given = "" if self._given_models is None else f"{str(self._given_models)!r}, "
        return f"{type(self).__name__}({given}is_running={self.is_running})"

    @property
    def address(self) -> str:
        """The name of this server in error messages."""
        return "embedded"

    @property
    def is_running(self) -> bool:
        """Whether clients can connect to the server."""
        return self._running is not None

    @property
    def limits(self) -> ServerLimits:
        """The limits on the requests and data of its clients."""
        return self._limits

    @property
    def models(self) -> tuple[Path, ...]:
        """The folders and files with the models. A default folder is created when the server starts."""
        return places_of(self).given

    @property
    def models_folder(self) -> Path | None:
        """The folder that gets downloads: the first one. None if the server was given only files."""
        return places_of(self).folder

    @property
    def hub_cache(self) -> Path | None:
        """The cache of Hugging Face's tools, in which the server finds models too. None if the server was given models.

        It need not exist. The server reads the models there, and never changes it.
        """
        return places_of(self).cache

    def scan_models(self) -> ModelsScan:
        """Look for models in the folders and files of this server, and say which files it skips.

        The server need not run, and nothing is created. Blocks for as long as the disks take, so that an async program
        calls it in a thread. Clients get the models from ``client.system.list_downloaded_models()``.

        :return: the models, and the skipped files with the reasons.

        ::

            import anyio.to_thread

            from lmstudio_async.testing import ModelsFolder

            models = ModelsFolder("models-to-scan")
            models.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "bad magic")
            found = await anyio.to_thread.run_sync(EmbeddedServer(models.folder).scan_models)
            print([model.model_key for model in found.models])
            for path, reason in found.skipped.items():
                print(f"Skipped {path}: {reason}.")
        """
        from lmstudio_async.embedded._catalog._models_scan import scan_catalog

        return scan_catalog(self._catalog())

    def _catalog(self) -> Catalog:
        """Return the catalog of the server. Blocks."""
        from lmstudio_async.embedded._catalog._catalog import Catalog

        running = self._running
        return Catalog(places_of(self), self._embedding_names) if running is None else running.catalog

    async def delete_model(self, model_key: str) -> int:
        """Delete the files of a downloaded model, and return the number of bytes that this frees.

        The server need not run. It deletes only models of its own folders: models in Hugging Face's cache, behind
        links and given as single files stay, and the error says how to delete them. Clients cannot delete models,
        because LM Studio's protocol has no such request.

        :param model_key: the model's key, or its path. A key that means several models is refused.
        :return: the number of bytes; 0 for links.
        :raises LMStudioModelNotFoundError: if no model has this key.
        :raises LMStudioServerError: if the key means several models, the model is in another place, this server or
            another one of this machine has loaded it, or a file cannot be deleted.

        ::

            from lmstudio_async.testing import ModelsFolder

            models = ModelsFolder("models-to-clean-up")
            models.add_llm("qwen3-0.6b")
            freed = await EmbeddedServer(models.folder).delete_model("qwen3-0.6b")
            print(f"{freed:,} bytes are free again")
        """
        await preload("embedded._catalog._deletion")
        from lmstudio_async.embedded._catalog._deletion import delete_files, model_to_delete

        running = self._running
        catalog = await anyio.to_thread.run_sync(self._catalog)
        entry = await anyio.to_thread.run_sync(model_to_delete, catalog, model_key)
        for instance in running.instances.loaded() if running is not None else ():
            if instance.entry.path == entry.path:
                raise server_error(f'"{model_key}" is loaded as "{instance.identifier}".', "Unload it first.")
        return await anyio.to_thread.run_sync(delete_files, catalog, entry)

    async def start(self) -> Self:
        """Start the server. Legal from any task, and so is `aclose`.

        :return: the server itself.
        :raises LMStudioRuntimeError: if the server runs already.

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
        """Close all connections, cancel responses in progress, and unload every model.

        Idempotent. Legal from any task.
        """
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
        """Run the server until this task is cancelled, for programs with their own task group.

        ::

            import anyio

            server = EmbeddedServer("~/models")
            async with anyio.create_task_group() as task_group:
                await task_group.start(server.run)
                async with AsyncClient(server) as client:
                    print(await client.list_downloaded_models())
                task_group.cancel_scope.cancel()

        :param task_status: its ``started`` is called when clients can connect. ``start`` of a task group passes it.
        :raises LMStudioRuntimeError: if the server runs already.
        """
        self._check_not_running()
        places = await anyio.to_thread.run_sync(self._prepare)
        from lmstudio_async.embedded._catalog._catalog import Catalog
        from lmstudio_async.embedded._engine._pulse import Pulse
        from lmstudio_async.embedded._instances._departures import Departures
        from lmstudio_async.embedded._instances._registry import Instances

        if self._departures is None:
            self._departures = Departures()
        catalog = Catalog(places, self._embedding_names)
        instances = Instances(
            catalog,
            auto_evict=self._auto_evict,
            default_jit_ttl_ms=self._jit_ttl_ms,
            threads=self._threads,
            queued_predictions=self._limits.queued_predictions,
            new_pulse=lambda: Pulse(
                load_seconds=self._limits.load_stall_seconds,
                answer_seconds=self._limits.answer_stall_seconds,
                kill_seconds=self._timing.kill_seconds,
            ),
            timing=self._timing,
            departures=self._departures,
        )
        try:
            async with AsyncExitStack() as clean_up, anyio.create_task_group() as task_group:
                await task_group.start(instances.run)
                self._running = running = RunningServer(
                    catalog, instances, self._clients, self._logs, task_group, self._timing
                )
                clean_up.push_async_callback(running.aclose)
                task_status.started()
                try:
                    await wait_until_cancelled()
                finally:
                    self._running = None
                    # Cancel the connections that tasks outside of the task group serve (see `serve`).
                    for scope in running.served:
                        scope.cancel()
        except BaseExceptionGroup as group:
            raise unwrap_group(group) from None

    def _check_not_running(self) -> None:
        if self._running is not None:
            raise LMStudioRuntimeError("this server runs already; make another one, or use the one that runs")

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[ClientTransport]:
        """Connect to a namespace within this process, without a socket or a port.

        :param namespace: the name of the namespace, such as ``llm``.
        :raises LMStudioUnreachableError: if the server does not run, runs in another event loop, or has no namespace
            of this name.
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
        """Serve a connection that was established elsewhere, until it closes or the server ends.

        :param transport: the server's side of the connection. It is closed at the end.
        :param namespace: the namespace that the client connected to, one of LM Studio's.
        """
        running = self._running
        if running is None:
            await transport.aclose()
            return
        from lmstudio_async.embedded._connections._connection import Connection

        with anyio.CancelScope() as scope:
            running.served.add(scope)
            try:
                await Connection(
                    transport, namespace, self._clients, self._handlers, self._limits, self._timing
                ).run()
            finally:
                running.served.discard(scope)

    def _prepare(self) -> ModelPlaces:
        """Return where the models are. In the same thread, import the server, and fill caches that are read from files."""
        import lmstudio_async.embedded._connections._connection
        import lmstudio_async.embedded._instances._registry  # noqa: F401
        from lmstudio_async.embedded._engine._engine_spec import default_threads
        from lmstudio_async.embedded._instances._load_config import may_lock_all_memory
        from lmstudio_async.embedded._requirements import engine_remedy
        from lmstudio_async.embedded._versions import engine_version, package_version

        for find in (default_threads, engine_remedy, engine_version, may_lock_all_memory, package_version):
            find()
        places = places_of(self)
        if self._given_models is None:
            places.prepare()
        return places

    @property
    def _state(self) -> RunningServer:
        if self._running is None:
            raise LMStudioUnreachableError("The embedded server does not run any more.")
        return self._running

    async def _handlers(self, namespace: str, client: Client) -> object:
        return await self._state.handlers(namespace, client)


def clients_of(server: EmbeddedServer) -> Clients:
    """Return the clients of a server, and the tokens that they need."""
    return server._clients


def origins_of(server: EmbeddedServer) -> Origins:
    """Return the web pages that may use a server."""
    return server._origins


def places_of(server: EmbeddedServer) -> ModelPlaces:
    """Return the places where a server looks for models. The default ones are looked up each time, in files."""
    return ModelPlaces.default() if server._given_models is None else server._given_models


def timing_of(server: EmbeddedServer) -> ServerTiming:
    """Return the durations of a server."""
    return server._timing


def state_of(server: EmbeddedServer) -> RunningServer:
    """Return the state of a server that runs.

    :raises LMStudioUnreachableError: the server does not run.
    """
    return server._state
