"""A downloaded model, which can be loaded: base class of the ones that ``list_downloaded`` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lmstudio_async._arguments import DEFAULT_TTL, check_text
from lmstudio_async._handles import AsyncModelHandle
from lmstudio_async._model_namespace import AsyncModelNamespace, ModelLoadingCallback
from lmstudio_async._printable import short_members
from lmstudio_async._session import Session

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import ModelInfo

__all__ = ["AsyncDownloadedModel"]

HandleT = TypeVar("HandleT", bound="AsyncModelHandle[Any]")
ModelT = TypeVar("ModelT", bound="ModelInfo")
ConfigT = TypeVar("ConfigT")


class AsyncDownloadedModel(Generic[HandleT, ModelT, ConfigT]):
    """A downloaded model, as returned by `AsyncModelNamespace.list_downloaded`."""

    def __init__(
        self, namespace: AsyncModelNamespace[HandleT, Any, Any, ConfigT], session: Session, info: ModelT
    ) -> None:
        self._namespace = namespace
        self._session = session
        self._info = info

    @property
    def info(self) -> ModelT:
        """Info that the server sent about the model."""
        return self._info

    @property
    def model_key(self) -> str:
        """Key to load the model by."""
        return self._info.model_key

    @property
    def path(self) -> str:
        """Path of the model below the models folder."""
        return self._info.path

    @property
    def type(self) -> str:
        """``llm`` or ``embedding``."""
        return self._info.type

    def has_key(self, key: str) -> bool:
        """Return whether a key means this model. A server may know several models of the key, and prefer another one.

        Upper and lower case are the same.

        :param key: a model key, with or without ``@quantization`` or ``publisher/``; the path of the model's file, or its
            repository.
        :return: True if it does. The mere beginning of a key or a path does not count.
        :raises LMStudioValueError: if the key is no text.

        ::

            downloaded = await client.llm.list_downloaded()
            print([model.path for model in downloaded if model.has_key("llama-3.2-1b-instruct")])
        """
        from lmstudio_async._model_keys import is_key_of

        return is_key_of(check_text(key, "key"), self._info)

    async def model(
        self,
        *,
        ttl: float | None = DEFAULT_TTL,
        config: ConfigT | None = None,
        device: str | None = None,
        on_progress: ModelLoadingCallback | None = None,
    ) -> HandleT:
        """Return a handle of an instance of this model, see `AsyncModelNamespace.model`.

        :param ttl: idle seconds after which the instance is unloaded, if this call loads it; None leaves it to the
            server, whose default for just-in-time loads is an hour. For no TTL, use `load_new_instance`.
        :param config: load config, a config object or a dict. Applied only if this call loads the instance.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :param on_progress: plain or async function, called with the progress of the load, from 0.0 to 1.0;
            ``progress_bar()`` returns one that draws.
        :return: the handle.
        """
        return await self._namespace.model(
            self.model_key, ttl=ttl, config=config, device=device, on_progress=on_progress
        )

    async def load_new_instance(
        self,
        *,
        instance_identifier: str | None = None,
        ttl: float | None = DEFAULT_TTL,
        config: ConfigT | None = None,
        device: str | None = None,
        on_progress: ModelLoadingCallback | None = None,
    ) -> HandleT:
        """Load a new instance of this model, see `AsyncModelNamespace.load_new_instance`.

        :param instance_identifier: the new instance's name; None lets the server choose one.
        :param ttl: idle seconds after which the instance is unloaded; None for never.
        :param config: load config, a config object or a dict.
        :param device: identifier of the LM Link device to use; None leaves it to the server.
        :param on_progress: plain or async function, called with the progress of the load, from 0.0 to 1.0;
            ``progress_bar()`` returns one that draws.
        :return: a handle of the new instance.
        """
        return await self._namespace.load_new_instance(
            self.model_key,
            instance_identifier,
            ttl=ttl,
            config=config,
            device=device,
            on_progress=on_progress,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AsyncDownloadedModel):
            return NotImplemented
        return self._session is other._session and bool(self._info == other._info)

    def __hash__(self) -> int:
        return hash((self._session, self._info))

    def __repr__(self) -> str:
        names = ("model_key", "display_name", "architecture", "vision")
        return short_members(type(self).__name__, [(name, getattr(self._info, name, None)) for name in names])
