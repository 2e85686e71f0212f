"""Base class of the model handles, and the lists that the client returns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload

from lmstudio_async._arguments import check_text
from lmstudio_async._instance_journal import instance_key
from lmstudio_async._preload import preload
from lmstudio_async._printable import printable, short_members
from lmstudio_async._protocol._endpoints.models import (
    COUNT_TOKENS,
    GET_INSTANCE_PROCESSING_STATE,
    GET_LOAD_CONFIG,
    GET_MODEL_INFO,
    LIST_LOADED,
    TOKENIZE,
    UNLOAD_MODEL,
)
from lmstudio_async._session import Session
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioModelNotFoundError,
    LMStudioValueError,
    LMStudioWebsocketError,
)

if TYPE_CHECKING:
    from lmstudio_async._scoped_instance import ScopedInstance
    from lmstudio_async._wire._infos import ModelInstanceInfo
    from lmstudio_async._wire._models import ModelSpecifier
    from lmstudio_async._wire._usage import ProcessingState

__all__ = [
    "LIST_INSTANCES",
    "AsyncModelHandle",
    "ModelList",
    "UnreadInfo",
    "expect_scopes",
    "mark_loaded_here",
    "to_texts",
]

InfoT = TypeVar("InfoT", bound="ModelInstanceInfo")
ItemT = TypeVar("ItemT")


class ModelList(list[ItemT]):
    """A list of instances or models, which notebooks show as a table."""

    def _repr_html_(self) -> str | None:
        from lmstudio_async._model_table import model_table

        return model_table(self)


logger = logging.getLogger("lmstudio_async")


class UnreadInfo:
    """Info about an instance, kept as the JSON that the server sent.

    Many handles need no more than these members, and creating the classes for the others takes milliseconds.
    """

    __slots__ = ("_json",)

    def __init__(self, json: dict[str, Any]) -> None:
        self._json = json

    @property
    def type(self) -> str:
        """``llm``, ``embedding``, or a kind that this SDK does not know."""
        return self._text("type")

    @property
    def identifier(self) -> str:
        """Name of the instance, unique on its server."""
        return self._text("identifier")

    @property
    def model_key(self) -> str:
        """Key of the model."""
        return self._text("modelKey")

    @property
    def instance_reference(self) -> str:
        """Reference to this one instance, never to another one."""
        return self._text("instanceReference")

    @property
    def ttl_ms(self) -> float | None:
        """Idle time in milliseconds after which the instance is unloaded, or None for never."""
        value = self._json.get("ttlMs")
        return cast("float", value) if type(value) in (int, float) else None

    def is_same(self, other: UnreadInfo) -> bool:
        """Return whether the server sent the same about the instance another time."""
        return self._json == other._json

    def read(self) -> ModelInstanceInfo:
        """Return the full info. Never raises: a malformed member becomes its default."""
        from lmstudio_async._wire._infos import AnyInstanceInfo
        from lmstudio_async._wire._struct import read

        return cast("ModelInstanceInfo", read(AnyInstanceInfo, self._json))

    def _text(self, key: str) -> str:
        value = self._json.get(key)
        return value if isinstance(value, str) else ""


def _unread_infos(answer: Any) -> list[UnreadInfo]:
    """Check that the answer is a list of infos, and wrap each of them."""
    if type(answer) is not list or not all(type(each) is dict for each in answer):
        raise TypeError("expected a list of objects")
    return [UnreadInfo(each) for each in answer]


#: The loaded instances, with infos that are read when they are needed.
LIST_INSTANCES = LIST_LOADED.read_by(_unread_infos)


class AsyncModelHandle(Generic[InfoT]):
    """A loaded instance of a model.

    A handle refers to exactly one instance. After that instance is unloaded, every call raises an
    `LMStudioInstanceUnloadedError`, even if another instance has taken its identifier. The error says why the instance is
    gone, if that is known.

    Handles are equal, with equal hashes, if they refer to the same instance of the same server.

    A block with the handle of a load unloads the instance at its end. If several blocks with one instance are open in
    the client, the last one that ends unloads it. A handle of an instance that was loaded before, as from `list_loaded`
    or from a `model` that found one, unloads nothing. Nor does a handle of `ensure_instance`, whose callers share the
    instance by its name.

    ::

        async with await client.llm.load_new_instance("qwen3-4b") as llm:
            print(await llm.respond("Hello"))
    """

    def __init__(self, session: Session, info: InfoT | UnreadInfo) -> None:
        self._session = session
        self._info = info
        self._is_loaded_here = False
        session.journal.see(info.instance_reference, info.identifier)
        session.records.see(info.instance_reference, info.ttl_ms)

    async def __aenter__(self) -> Self:
        """Begin a block whose end unloads the instance, if this handle is that of a load.

        Makes a request only if the instance may be gone, as after an earlier block.

        :return: the handle itself.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        """
        self._session.check()
        # No checkpoint before this line: another task that leaves its block must see that this one has begun.
        scoped = _scoped_instance(self)
        scoped.open(self._unload_at_end if self._is_loaded_here else None)
        if scoped.is_unloading or self._session.journal.departure(instance_key(self._info)) is not None:
            try:
                await scoped.wait_unloaded()
                await self.get_info()
            except BaseException:
                await scoped.close(can_raise=False)
                raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End a block. The last one with an instance of a load unloads it, also after an exception.

        Takes ten seconds at most. No error if the instance is gone, the connection is lost or the client is closed.

        :raises LMStudioTimeoutError: if the server did not confirm the unload, unless the block has raised.
        :raises LMStudioServerError: if the server refused the unload, unless the block has raised.
        """
        await _scoped_instance(self).close(can_raise=exc is None)

    async def _abandon(self) -> None:
        """End a block that an interrupt has kept from its beginning, in the blocking facade."""
        await _scoped_instance(self).close(can_raise=False)

    @property
    def identifier(self) -> str:
        """Name of the instance, unique on its server."""
        return self._info.identifier

    @property
    def info(self) -> InfoT:
        """Info that the server sent when this handle was made; makes no request. For current info, see `get_info`."""
        info = self._info
        if isinstance(info, UnreadInfo):
            info = self._info = cast("InfoT", info.read())
        return info

    async def get_info(self) -> InfoT:
        """Request current info about the instance.

        :return: the info; TTL and last use included.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.

        ::

            info = await llm.get_info()
            print(info.identifier, info.context_length, info.ttl, info.last_used)
        """
        await preload("_wire._infos", "_wire._models")
        from lmstudio_async._wire._models import GetModelInfoParameter

        parameter = GetModelInfoParameter(specifier=self._specifier, throw_if_not_found=True)
        info = await self._session.call(GET_MODEL_INFO, parameter)
        mine = self._info.instance_reference
        if info is None or (mine and info.instance_reference not in (mine, "")):
            raise self._unloaded_error(GET_MODEL_INFO.label)
        return cast("InfoT", info)

    async def get_context_length(self) -> int:
        """Return how many tokens the context of the instance holds.

        :return: number of tokens.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        """
        return (await self.get_info()).context_length

    async def get_processing_state(self) -> ProcessingState:
        """Request the processing state of the instance. Older servers do not support this.

        :return: whether the instance is idle or busy, and how many requests wait for it.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.

        ::

            state = await llm.get_processing_state()
            print(state.status, state.queued)
        """
        await preload("_wire._models", "_wire._usage")
        from lmstudio_async._wire._models import GetModelInfoParameter

        parameter = GetModelInfoParameter(specifier=self._specifier, throw_if_not_found=True)
        return await self._session.call(GET_INSTANCE_PROCESSING_STATE, parameter)

    async def unload(self) -> None:
        """Unload the instance and free its memory. Its running predictions end early.

        :raises LMStudioInstanceUnloadedError: if the instance is gone already.

        ::

            llm = await client.llm.model()
            await llm.unload()
        """
        await preload("_wire._infos", "_wire._models")
        tracing = self._session.tracing()
        if tracing is None:
            await self._unload()
            return
        with tracing.unload(self._session.namespace, self.identifier, self._info.model_key):
            await self._unload()

    async def _unload(self) -> None:
        from lmstudio_async._wire._models import UnloadModelParameter

        # Check first: the server unloads by identifier, which another instance may have by now, here or on another
        # device.
        info = await self.get_info()
        parameter = UnloadModelParameter(identifier=info.identifier, device_identifier=info.device_identifier)
        journal, kind = self._session.journal, self._session.namespace
        try:
            with journal.unloading(kind, info.identifier, info.instance_reference, info.device_identifier):
                await self._session.call(UNLOAD_MODEL, parameter)
        except LMStudioModelNotFoundError as error:
            # The instance was unloaded after get_info().
            raise self._unloaded_error(UNLOAD_MODEL.label) from error

    async def _unload_at_end(self) -> None:
        """Unload the instance, unless it is gone or cannot be reached."""
        try:
            try:
                await self.unload()
            except LMStudioConnectionBrokenError:
                # Safe to repeat, because unload() checks that the identifier still belongs to this instance.
                await self.unload()
        except LMStudioModelNotFoundError:
            logger.debug("%s was unloaded before the end of its block", printable(self.identifier))
        except LMStudioConnectionClosedError:
            logger.debug(
                "the client of %s was closed before the end of its block", printable(self.identifier)
            )
        except LMStudioWebsocketError as error:
            logger.warning(
                "%s could not be unloaded at the end of its block, and stays loaded until its TTL expires: %s",
                printable(self.identifier),
                error,
            )

    @overload
    async def tokenize(self, input: str) -> Sequence[int]: ...  # type: ignore[overload-overlap]

    @overload
    async def tokenize(self, input: Iterable[str]) -> Sequence[Sequence[int]]: ...

    async def tokenize(self, input: str | Iterable[str]) -> Sequence[int] | Sequence[Sequence[int]]:  # noqa: A002
        """Split text into the model's tokens.

        :param input: a text, or several.
        :return: the token ids of the text; for several texts a list of such lists.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.

        ::

            tokens = await llm.tokenize("Hello, world!")
        """
        await preload("_wire._models", "_wire._texts")
        from lmstudio_async._wire._texts import InputStringParameter

        texts = to_texts(input)
        parameters = [InputStringParameter(specifier=self._specifier, input_string=text) for text in texts]
        answers = await self._session.call_each(TOKENIZE, parameters)
        tokens = [answer.tokens for answer in answers]
        return tokens[0] if isinstance(input, str) else tokens

    async def count_tokens(self, input: str) -> int:  # noqa: A002 - the documented name
        """Count the tokens of a text.

        :param input: the text.
        :return: number of tokens.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        """
        await preload("_wire._models", "_wire._texts")
        from lmstudio_async._wire._texts import InputStringParameter

        text = check_text(input, "input")
        parameter = InputStringParameter(specifier=self._specifier, input_string=text)
        return (await self._session.call(COUNT_TOKENS, parameter)).token_count

    async def _load_config_fields(self) -> dict[str, Any]:
        await preload("_wire._models", "_wire._predict", "_config")
        from lmstudio_async._wire._models import SpecifierParameter
        from lmstudio_async._wire._struct import write

        config = await self._session.call(GET_LOAD_CONFIG, SpecifierParameter(specifier=self._specifier))
        return cast("dict[str, Any]", write(config))

    @cached_property
    def _specifier(self) -> ModelSpecifier:
        from lmstudio_async._wire._models import InstanceReferenceSpecifier, ModelQuery, QuerySpecifier

        if self._info.instance_reference:
            return InstanceReferenceSpecifier(instance_reference=self._info.instance_reference)
        return QuerySpecifier(query=ModelQuery(identifier=self._info.identifier))

    def _unloaded_error(self, label: str) -> LMStudioError:
        """Make the server's error for an unloaded instance, where the server has not sent it."""
        from lmstudio_async._protocol._errors import error_from_wire, instance_unloaded

        known = self._session.records.departure(self._info.instance_reference)
        return error_from_wire(instance_unloaded().server_error, label, known=known)

    @property
    def _key(self) -> tuple[str, str, str]:
        return self._session.address, self._session.namespace, instance_key(self._info)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, AsyncModelHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return short_members(type(self).__name__, [("identifier", self.identifier)])


def mark_loaded_here(handle: object) -> None:
    """Mark a handle as that of a load of this client, so that the end of its block unloads the instance."""
    assert isinstance(handle, AsyncModelHandle)
    handle._is_loaded_here = True


def expect_scopes(handle: object, tasks: int) -> ScopedInstance | None:
    """Keep the instance of a handle for tasks that are about to receive the handle. Each calls ``arrive`` of the result.

    :return: None if no other task can unload the instance meanwhile.
    """
    assert isinstance(handle, AsyncModelHandle)
    if tasks <= 1 and handle._key not in handle._session.journal.scoped:
        return None
    scoped = _scoped_instance(handle)
    scoped.expect(tasks)
    return scoped


def _scoped_instance(handle: AsyncModelHandle[Any]) -> ScopedInstance:
    """Return the instance of a handle, with the scopes of it that are open in the client."""
    from lmstudio_async._scoped_instance import ScopedInstance

    session, key = handle._session, handle._key
    registry = session.journal.scoped
    return registry.get(key) or ScopedInstance(
        registry, key, handle.identifier, session.start_soon, session.limits.undo_seconds
    )


def to_texts(value: str | Iterable[str]) -> list[str]:
    """Return one text or several as a list."""
    if not isinstance(value, Iterable):
        raise LMStudioValueError(f"input must be a text or several, not {value!r:.80}")
    texts = [value] if isinstance(value, str) else list(value)
    return [check_text(text, "input") for text in texts]
