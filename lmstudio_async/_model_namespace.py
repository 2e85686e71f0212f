"""Namespaces of models: list, load and unload them. Base classes of ``client.llm`` and ``client.embedding``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast

from lmstudio_async._arguments import DEFAULT_TTL, check_name, optional_name, ttl_to_ms
from lmstudio_async._callbacks import check_callback
from lmstudio_async._handles import LIST_INSTANCES, AsyncModelHandle, ModelList, UnreadInfo
from lmstudio_async._missing_models import MissingModels
from lmstudio_async._preload import preload
from lmstudio_async._protocol._endpoints.models import ESTIMATE_MODEL_USAGE
from lmstudio_async._session import Session
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._ensure_stream import AsyncEnsureStream
    from lmstudio_async._load import AsyncLoadStream
    from lmstudio_async._repository_namespace import DownloadProgressCallback
    from lmstudio_async._shared_load import SharedLoads
    from lmstudio_async._wire._infos import ModelInfo, ModelInstanceInfo
    from lmstudio_async._wire._models import ModelQuery
    from lmstudio_async._wire._usage import ModelUsage

__all__ = ["AsyncModelNamespace", "ModelLoadingCallback", "downloaded_model"]

HandleT = TypeVar("HandleT", bound="AsyncModelHandle[Any]")
InfoT = TypeVar("InfoT", bound="ModelInstanceInfo")
DownloadedT = TypeVar("DownloadedT")
ConfigT = TypeVar("ConfigT")

ModelLoadingCallback = Callable[[float], Awaitable[object] | object]
"""Called with the progress of a load, from 0.0 to 1.0. May be plain or async; an exception in it ends the load."""


class AsyncModelNamespace(ABC, Generic[HandleT, InfoT, DownloadedT, ConfigT]):
    """The models of one kind: `AsyncClient.llm` for language models, `AsyncClient.embedding` for embedding models."""

    _domain: ClassVar[Literal["llm", "embedding"]]
    # Modules that a handle of this kind needs, imported in a worker thread before the load begins.
    _handle_modules: ClassVar[tuple[str, ...]]

    def __init__(
        self, session: Session, other: Session, system: Session, repository: Session, loads: SharedLoads
    ) -> None:
        self._session = session
        self._other_session = other
        self._system = system
        self._loads = loads
        self._missing = MissingModels(repository, system)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._session.address!r})"

    @abstractmethod
    def _make_handle(self, info: ModelInstanceInfo | UnreadInfo) -> HandleT:
        """Make a handle of this kind."""

    @abstractmethod
    def _make_downloaded(self, info: ModelInfo) -> DownloadedT:
        """Make a downloaded model of this kind."""

    async def model(
        self,
        model_key: str | None = None,
        /,
        *,
        ttl: float | None = DEFAULT_TTL,
        config: ConfigT | None = None,
        device: str | None = None,
        on_progress: ModelLoadingCallback | None = None,
        download: bool = False,
        on_download_progress: DownloadProgressCallback | None = None,
    ) -> HandleT:
        """Return a handle of a loaded instance of a model, or load one if there is none.

        A load by this call is a just-in-time load: the server may unload the instance when it is idle, to make room
        for the next one (auto-evict). For an instance that stays, use `load_new_instance`.

        Concurrent calls of one client for the same model, with equal arguments, share one load. A call that ends
        early leaves the load to the others; if all of them end early, the load is cancelled.

        :param model_key: a model key, or the identifier of a loaded instance. None for any loaded model, without
            loading one.
        :param ttl: idle seconds after which the instance is unloaded, if this call loads it; None leaves it to the
            server, whose default for just-in-time loads is an hour. For no TTL, use `load_new_instance`.
        :param config: load config, a config object or a dict. Applied only if this call loads the instance.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :param on_progress: plain or async function, called with the progress of the load, from 0.0 to 1.0;
            ``progress_bar()`` returns one that draws.
        :param download: whether to download a model that the server does not have, by its key or as ``owner/repo``: see
            `AsyncRepositoryNamespace.download`.
        :param on_download_progress: plain or async function, called with the progress of that download; None leaves it to
            ``on_progress`` if that is a ``progress_bar()``.
        :return: the handle.
        :raises LMStudioModelNotFoundError: if there is no such model, also none to download, or, without a key, none is
            loaded.
        :raises LMStudioDomainMismatchError: if the model is of another kind.
        :raises LMStudioConfigError: if the config has an unknown key or an impossible value.

        ::

            llm = await client.llm.model("llama-3.2-1b-instruct", ttl=3600)
        """
        await self._preload_loading(config)
        if model_key is None:
            check_callback(on_download_progress, "on_download_progress")
            from lmstudio_async._specifiers import any_loaded_info

            return self._make_handle(await any_loaded_info(self.get_model_info, self._domain, device))

        async def load(key: str) -> HandleT:
            stream = self.model_stream(key, ttl=ttl, config=config, device=device)
            return await self._loads.wait_for(self._session, stream, on_progress)

        return await self._missing.load(load, model_key, download, on_download_progress, on_progress)

    def model_stream(
        self,
        model_key: str,
        /,
        *,
        ttl: float | None = DEFAULT_TTL,
        config: ConfigT | None = None,
        device: str | None = None,
    ) -> AsyncLoadStream[HandleT]:
        """Load like `model`, as a stream. Other calls never share its load, so cancelling it does not affect them.

        A stream of a load does not download, because its items are those of one load. For a model that may be missing, run
        `AsyncRepositoryNamespace.download_stream` first, which has no items if the model is there.

        :param model_key: a model key, or the identifier of a loaded instance.
        :param ttl: see `model`.
        :param config: see `model`.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :return: the stream; nothing is sent before it is entered, iterated over or awaited.

        ::

            async with client.llm.model_stream("llama-3.2-1b-instruct") as loading:
                async for progress in loading:
                    print(progress.phase, progress.fraction)
                llm = await loading.wait_for_result()
        """
        from lmstudio_async._load import AsyncLoadStream
        from lmstudio_async._wire._models import GetOrLoadCreation

        creation = GetOrLoadCreation(
            identifier=check_name(model_key, "the model key"),
            device_identifier=optional_name(device, "device"),
            load_ttl_ms=ttl_to_ms(ttl),
            load_config_stack=self._config_stack(config),
        )
        return AsyncLoadStream(self._session, creation, self._make_handle)

    async def load_new_instance(
        self,
        model_key: str,
        instance_identifier: str | None = None,
        *,
        ttl: float | None = DEFAULT_TTL,
        config: ConfigT | None = None,
        device: str | None = None,
        on_progress: ModelLoadingCallback | None = None,
        download: bool = False,
        on_download_progress: DownloadProgressCallback | None = None,
    ) -> HandleT:
        """Load a new instance of a model, whether or not another one is loaded.

        :param model_key: the model key.
        :param instance_identifier: the new instance's name; None lets the server choose one (``key``, ``key:2``, ...).
        :param ttl: idle seconds after which the instance is unloaded; None for never.
        :param config: load config, a config object or a dict.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :param on_progress: plain or async function, called with the progress of the load, see `model`.
        :param download: whether to download a model that the server does not have, see `model`.
        :param on_download_progress: plain or async function, called with the progress of that download, see `model`.
        :return: a handle of the new instance.
        :raises LMStudioIdentifierInUseError: if another instance has this identifier.
        :raises LMStudioModelNotFoundError: if there is no such model.
        :raises LMStudioDomainMismatchError: if the model is of another kind.
        :raises LMStudioConfigError: if the config has an unknown key or an impossible value.

        ::

            llama = await client.llm.load_new_instance("llama-3.2-1b-instruct")
            another = await client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama", ttl=7200)
        """
        await self._preload_loading(config)
        from lmstudio_async._load import follow_load

        check_callback(on_progress, "on_progress")

        async def load(key: str) -> HandleT:
            stream = self.load_new_instance_stream(
                key, instance_identifier, ttl=ttl, config=config, device=device
            )
            return await follow_load(stream, on_progress)

        return await self._missing.load(load, model_key, download, on_download_progress, on_progress)

    def load_new_instance_stream(
        self,
        model_key: str,
        instance_identifier: str | None = None,
        *,
        ttl: float | None = DEFAULT_TTL,
        config: ConfigT | None = None,
        device: str | None = None,
    ) -> AsyncLoadStream[HandleT]:
        """Load a new instance like `load_new_instance`, as a stream.

        :param model_key: the model key.
        :param instance_identifier: the new instance's name; None lets the server choose one (``key``, ``key:2``, ...).
        :param ttl: idle seconds after which the instance is unloaded; None for never.
        :param config: load config, a config object or a dict.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :return: the stream; nothing is sent before it is entered, iterated over or awaited.

        ::

            async with client.llm.load_new_instance_stream("qwen3-4b", "second-qwen") as loading:
                async for progress in loading:
                    print(progress.phase, progress.fraction)
                qwen = await loading.wait_for_result()
        """
        from lmstudio_async._load import AsyncLoadStream
        from lmstudio_async._wire._models import LoadModelCreation

        creation = LoadModelCreation(
            model_key=check_name(model_key, "the model key"),
            identifier=optional_name(instance_identifier, "the instance identifier"),
            device_identifier=optional_name(device, "device"),
            ttl_ms=ttl_to_ms(ttl),
            load_config_stack=self._config_stack(config),
        )
        return AsyncLoadStream(self._session, creation, self._make_handle)

    async def ensure_instance(
        self,
        model_key: str,
        instance_identifier: str | None = None,
        *,
        config: ConfigT | None = None,
        ttl: float | None = DEFAULT_TTL,
        device: str | None = None,
        on_mismatch: Literal["error", "use", "replace"] = "error",
        on_progress: ModelLoadingCallback | None = None,
        download: bool = False,
        on_download_progress: DownloadProgressCallback | None = None,
    ) -> HandleT:
        """Return a handle of the instance of a name, with the settings that are asked for; load it if there is none.

        Any number of callers, in any processes and on any machines, may do this at once: one loads, and the others wait for
        that load, with its progress. A call that ends early leaves the load to the others, and the last one cancels it. All
        of them use the instance by its name, so a block with the handle does not unload it, even after a load of this
        call. Nor does auto-evict, unless `model` has loaded it.

        :param model_key: the model key.
        :param instance_identifier: the instance's name; None for the model key.
        :param config: settings that the instance must have, a config object or a dict. Other settings and the TTL may
            differ, and a context length may be rounded up by less than 256.
        :param ttl: idle seconds after which the instance is unloaded, if this call loads it; None for never.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :param on_mismatch: treatment of an instance with other settings, or on another device: ``"error"`` raises;
            ``"use"`` takes it as it is, unless it is of another model; ``"replace"`` waits until it is idle, and reloads.
        :param on_progress: plain or async function, called with the progress of the load, see `model`.
        :param download: whether to download a model that the server does not have, see `model`. The instance has the name
            that it has without the download, so that later calls find it.
        :param on_download_progress: plain or async function, called with the progress of that download, see `model`.
        :return: the handle.
        :raises LMStudioConfigMismatchError: if the instance is not as asked, also after a load whose settings the server or
            its machine did not apply. Its ``mismatches`` has each setting.
        :raises LMStudioInstanceUnloadedError: if instances of the name are unloaded before their check, five in a row.
        :raises LMStudioModelNotFoundError: if there is no such model.
        :raises LMStudioDomainMismatchError: if the model is of another kind.
        :raises LMStudioConfigError: if the config has an unknown key or an impossible value.

        ::

            qwen = await client.llm.ensure_instance("qwen3-4b", "my-qwen", config={"context_length": 8192})
        """
        await self._preload_loading(config, "_ensure_stream")
        name = model_key if instance_identifier is None else instance_identifier

        async def load(key: str) -> HandleT:
            stream = self.ensure_instance_stream(
                key, name, config=config, ttl=ttl, device=device, on_mismatch=on_mismatch
            )
            return await self._loads.wait_for(self._session, stream, on_progress)

        return await self._missing.load(load, model_key, download, on_download_progress, on_progress)

    def ensure_instance_stream(
        self,
        model_key: str,
        instance_identifier: str | None = None,
        *,
        config: ConfigT | None = None,
        ttl: float | None = DEFAULT_TTL,
        device: str | None = None,
        on_mismatch: Literal["error", "use", "replace"] = "error",
    ) -> AsyncEnsureStream[HandleT]:
        """Find or load an instance like `ensure_instance`, as a stream.

        :param model_key: the model key.
        :param instance_identifier: the instance's name; None for the model key.
        :param config: settings that the instance must have, a config object or a dict; see `ensure_instance`.
        :param ttl: idle seconds after which the instance is unloaded, if this call loads it; None for never.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :param on_mismatch: see `ensure_instance`.
        :return: the stream; nothing is sent before it is entered, iterated over or awaited.

        ::

            async for progress in client.llm.ensure_instance_stream("qwen3-4b", "my-qwen"):
                print(progress.phase, progress.fraction)
        """
        from lmstudio_async._ensure_stream import ensure_stream

        return ensure_stream(
            self._session,
            self._other_session,
            self._system,
            self._make_handle,
            model_key,
            instance_identifier,
            config=config,
            load_config_stack=self._config_stack(config),
            ttl=ttl,
            device=device,
            on_mismatch=on_mismatch,
        )

    async def unload(self, model_identifier: str, *, device: str | None = None) -> None:
        """Unload an instance by its identifier, without a handle.

        :param model_identifier: the instance's identifier (which is the model key, unless another was chosen).
        :param device: identifier of the LM Link device that runs it; None leaves it to the server.
        :raises LMStudioModelNotFoundError: if no instance has this identifier.
        :raises LMStudioValueError: if it is not an identifier.

        ::

            await client.llm.unload("second-llama")
        """
        if hasattr(model_identifier, "unload"):
            raise LMStudioValueError("unload() takes an identifier. A handle has an unload() of its own.")
        await preload("_instance_requests")
        from lmstudio_async._instance_requests import unload_by_name

        await unload_by_name(self._session, self._domain, model_identifier, device)

    async def list_loaded(self) -> Sequence[HandleT]:
        """List the loaded instances.

        :return: their handles, each with the info that the server sent.

        ::

            for llm in await client.llm.list_loaded():
                print(llm.identifier, llm.info.ttl)
        """
        infos = await self._session.call(LIST_INSTANCES)
        return ModelList(self._make_handle(info) for info in infos if info.type == self._domain)

    async def list_downloaded(self) -> Sequence[DownloadedT]:
        """List the downloaded models.

        :return: the models, each with the info that the server sent.

        ::

            for model in await client.llm.list_downloaded():
                print(model.model_key, model.info.size_bytes)
        """
        await preload("_protocol._endpoints.system", "_wire._infos")
        from lmstudio_async._protocol._endpoints.system import LIST_DOWNLOADED_MODELS

        infos = await self._system.call(LIST_DOWNLOADED_MODELS)
        return ModelList(self._make_downloaded(info) for info in infos if info.type == self._domain)

    async def get_model_info(
        self, model_specifier: str | ModelQuery | dict[str, Any], *, device: str | None = None
    ) -> InfoT:
        """Request info about a loaded instance.

        :param model_specifier: its identifier, a `ModelQuery`, or a query as a dict.
        :param device: identifier of the LM Link device that runs it; None leaves it to the server.
        :return: the info.
        :raises LMStudioModelNotFoundError: if no loaded instance matches.

        ::

            info = await client.llm.get_model_info("second-llama")
        """
        await preload("_instance_requests", "_wire._infos")
        from lmstudio_async._instance_requests import request_info

        return cast("InfoT", await request_info(self._session, model_specifier, device))

    async def estimate_resources(
        self, model_key: str, config: ConfigT | None = None, *, device: str | None = None
    ) -> ModelUsage:
        """Estimate how much memory a model would take, without loading it. Older servers do not support this.

        :param model_key: the model key.
        :param config: load config, a config object or a dict: a longer context takes more.
        :param device: identifier of the LM Link device to load it on; None leaves it to the server.
        :return: the memory, and whether the server would load the model at all.
        :raises LMStudioModelNotFoundError: if there is no such model.
        :raises LMStudioConfigError: if the config has an unknown key or an impossible value.

        ::

            usage = await client.llm.estimate_resources("qwen3-4b", {"context_length": 32768})
            print(f"{usage.memory.total_bytes / 2**30:.1f} GiB", usage.passes_guardrails)
        """
        await preload("_config", "_wire._kv", "_wire._usage")
        from lmstudio_async._wire._usage import EstimateModelUsageParameter

        parameter = EstimateModelUsageParameter(
            model_key=check_name(model_key, "the model key"),
            load_config_stack=self._config_stack(config),
            device_identifier=optional_name(device, "device"),
        )
        return await self._session.call(ESTIMATE_MODEL_USAGE, parameter)

    async def _preload_loading(self, config: ConfigT | None, *modules: str) -> None:
        rare = () if config is None else ("_config",)
        await preload("_load", "_wire._kv", *self._handle_modules, *modules, *rare)

    def _config_stack(self, config: ConfigT | None) -> dict[str, Any]:
        from lmstudio_async._wire._kv import stack, to_fields

        if config is None:
            return stack(to_fields({}))
        from lmstudio_async._config import load_config_fields

        return stack(load_config_fields(config, self._domain))


def downloaded_model(
    namespace: AsyncModelNamespace[Any, Any, DownloadedT, Any], info: ModelInfo
) -> DownloadedT:
    """Make a downloaded model of the namespace's kind from the info that the server sent."""
    return namespace._make_downloaded(info)
