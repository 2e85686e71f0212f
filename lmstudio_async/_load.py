"""Load of a model: an operation whose result is a model handle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

from lmstudio_async._callbacks import tell, used_once
from lmstudio_async._deliveries import deliveries
from lmstudio_async._handles import mark_loaded_here
from lmstudio_async._load_feed import LoadFeed, LoadProgress
from lmstudio_async._operations import AsyncOperation
from lmstudio_async._printable import printable
from lmstudio_async._protocol._endpoints import ChannelEndpoint
from lmstudio_async._protocol._endpoints.models import (
    GET_MODEL_INFO,
    GET_OR_LOAD,
    LIST_LOADED,
    LOAD_MODEL,
)
from lmstudio_async._session import Session
from lmstudio_async._wire._infos import ModelInstanceInfo
from lmstudio_async._wire._models import (
    GetModelInfoParameter,
    GetOrLoadCreation,
    LoadModelCreation,
    ModelQuery,
    QuerySpecifier,
)
from lmstudio_async.errors import (
    LMStudioCancelledError,
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioModelNotFoundError,
)

if TYPE_CHECKING:
    from lmstudio_async._tracing import LoadSpan

__all__ = [
    "AsyncLoadStream",
    "TracedLoad",
    "begin_span",
    "follow_load",
    "is_same_request",
    "loading_identifier",
    "span_of",
]

HandleT = TypeVar("HandleT")


class AsyncLoadStream(AsyncOperation[LoadProgress, HandleT], Generic[HandleT]):
    """A load: iterate over its progress, await its handle.

    A load that has not ended is cancelled on the server by each of these: `cancel`, leaving the block, a timeout,
    cancellation of the task, closing the client, and dropping the stream.

    If the connection is lost during the load, the stream reconnects and looks for the instance. An instance that it
    finds is the result; otherwise an `LMStudioConnectionBrokenError` reports the outcome of the search.

    ::

        async with client.llm.load_new_instance_stream("qwen3-4b", "second-qwen", ttl=3600) as loading:
            async for progress in loading:
                print(f"{progress.phase}: {progress.fraction:.0%}")
            qwen = await loading.wait_for_result()
    """

    def __init__(
        self,
        session: Session,
        creation: LoadModelCreation | GetOrLoadCreation,
        make_handle: Callable[[ModelInstanceInfo], HandleT],
        *,
        is_step: bool = False,
    ) -> None:
        endpoint: ChannelEndpoint[Any, Any]
        if isinstance(creation, LoadModelCreation):
            endpoint, name = LOAD_MODEL, creation.identifier or creation.model_key
        else:
            endpoint, name = GET_OR_LOAD, creation.identifier
        # A step of `ensure_instance` has the span of the whole call. Its instance is for all callers, who may have found it
        # already: it is not taken back once it is loaded, and no block unloads it.
        makes_instance = endpoint is LOAD_MODEL and not is_step
        record = session.journal.begin_load(session.namespace, name)
        self._progress = LoadFeed(endpoint.label, makes_instance=makes_instance, record=record)
        super().__init__(session, endpoint, creation, self._progress)
        self._wanted = creation
        self._make_handle = make_handle
        self._is_step = is_step
        self._handle: HandleT | None = None

    @property
    def fraction(self) -> float:
        """Progress of the load, from 0.0 to 1.0."""
        return self._progress.fraction

    def _begin_span(self) -> None:
        if not self._is_step:
            begin_span(self)

    async def __anext__(self) -> LoadProgress:
        return self._delivered(await super().__anext__())

    def _take_nowait(self) -> LoadProgress | None:
        if self._taken and self._taken[0].phase == "loaded":
            # This item hands over the instance, which must be recorded in the event loop.
            return None
        return super()._take_nowait()

    def _delivered(self, item: LoadProgress) -> LoadProgress:
        """Hand over an item. With the ``loaded`` item, the consumer takes the instance."""
        if item.phase == "loaded":
            if self._progress.error is not None:
                # Another task has cancelled the load before the consumer read this item.
                raise self._progress.error
            self._claim()
        return item

    def _result(self) -> HandleT:
        if self._handle is None:
            assert self._progress.instance is not None
            self._handle = self._make_handle(self._progress.instance)
            if self._progress.has_loaded and not self._is_step:
                mark_loaded_here(self._handle)
        self._claim()
        return self._handle

    def _claim(self) -> None:
        if self._progress.makes_instance and not self._progress.is_claimed:
            delivered = deliveries.get()
            if delivered is not None:
                delivered.append(self._take_back)
        self._progress.is_claimed = True

    async def _take_back(self) -> None:
        """Take back a result that was handed to a task but did not reach the task's caller."""
        self._progress.is_claimed = False
        await self._undo(f"{self._feed.label}: interrupted before its handle was taken.")

    async def _wait_for_change(self) -> None:
        if self._progress.lost is None:
            await super()._wait_for_change()

    async def _look_up_outcome(self) -> None:
        feed = self._progress
        # Only one task must look, and a task that cancels the load may wait beside the consumer.
        lost, feed.lost = feed.lost, None
        if lost is None:
            return
        unknown = "Could not find out whether the instance was loaded"
        seconds = self._session.limits.lookup_seconds
        why = f"{unknown}: no answer within {seconds:g} seconds."
        try:
            with anyio.move_on_after(seconds):
                await self._session.back_off()
                found, certain = await self._possible_instances()
                if certain and len(found) == 1:
                    feed.has_loaded = feed.makes_instance
                    feed.finish(found[0])
                    return
                names = printable(", ".join(repr(info.identifier) for info in found))
                why = "No such instance is loaded. Load it again."
                if found:
                    why = f"It may be {names}, unless another program loaded that. model() returns a handle of it."
        except LMStudioError as error:
            why = f"{unknown}: {error}"
        except BaseException:
            feed.lost = lost
            raise
        failure = LMStudioConnectionBrokenError(f"{feed.label}{self._latest_progress()}: {lost}\n{why}")
        failure.__cause__ = lost
        feed.fail(failure)

    async def _possible_instances(self) -> tuple[list[ModelInstanceInfo], bool]:
        """Return the instances that may be the result of this load, and whether a single one must be it."""
        wanted, feed, kind = self._wanted, self._progress, self._session.namespace
        if isinstance(wanted, GetOrLoadCreation):
            # Any instance with this identifier is a valid result, as it was before the loss.
            query = ModelQuery(
                domain=kind, identifier=wanted.identifier, device_identifier=wanted.device_identifier
            )
            parameter = GetModelInfoParameter(specifier=QuerySpecifier(query=query), throw_if_not_found=False)
            try:
                info = await self._session.call(GET_MODEL_INFO, parameter)
            except LMStudioModelNotFoundError:
                info = None
            return [] if info is None else [info], True
        loaded = await self._session.call(LIST_LOADED)
        key = feed.model.model_key if feed.model is not None else wanted.model_key
        found = [info for info in loaded if info.type == kind and info.model_key == key]
        if wanted.identifier is not None:
            found = [info for info in found if info.identifier == wanted.identifier]
        else:
            # A new instance has never been used, and this client has no handle of it.
            found = [
                info
                for info in found
                if info.last_used_time is None
                and info.ttl_ms == wanted.ttl_ms
                and not self._session.journal.has_seen(info.instance_reference)
            ]
        # If no packet had arrived before the loss, the server may not have received the load request.
        return found, feed.heard

    async def _stop(self) -> None:
        await super()._stop()
        await self._undo(
            f"{self._feed.label}: cancelled when the instance had just been loaded, so it was unloaded again."
        )
        if not isinstance(self._feed.error, LMStudioCancelledError):
            # Always the same error, however the server confirms the cancel.
            self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled by this program."))

    async def _abandon(self) -> None:
        if self._handle is None:
            # The consumer may have read the ``loaded`` item, but it has no handle to use the instance.
            self._progress.is_claimed = False
        await super()._abandon()

    def _latest_progress(self) -> str:
        return f", at {self.fraction:.0%}"


async def follow_load(
    load: AsyncOperation[LoadProgress, HandleT], on_progress: Callable[[float], Any] | None
) -> HandleT:
    """Run a load to its end, and return its handle.

    :param on_progress: called with each fraction that is above the last one; 1.0 is the last.
    """
    latest = -1.0
    async with load, used_once(on_progress) as callback:
        async for progress in load:
            if progress.fraction > latest:
                latest = progress.fraction
                await tell("on_progress", callback, latest)
        return load.result()


class TracedLoad(Protocol):
    """A load that has a span, and that other tasks may share: an `AsyncLoadStream` or `AsyncEnsureStream`."""

    _session: Session
    _creation: Any
    _wanted: Any
    _progress: Any


def begin_span(load: TracedLoad) -> None:
    """Begin the span of a load, which has not started, in the context of the caller; if it has none yet."""
    feed, tracing = load._progress, load._session.tracing()
    if tracing is not None and feed.span is None:
        feed.span = tracing.load(load._session.namespace, load._creation)
        feed.report_to(feed.span)


def span_of(load: TracedLoad) -> LoadSpan | None:
    """Return the span of a load; None if there is none."""
    span: LoadSpan | None = load._progress.span
    return span


def is_same_request(load: TracedLoad, other: TracedLoad) -> bool:
    """Return whether two loads would end in the same handle."""
    return load._session is other._session and bool(load._wanted == other._wanted)


def loading_identifier(load: AsyncLoadStream[Any]) -> str:
    """Return the name of the instance that is being loaded, as far as the server has told it."""
    return load._progress.identifier
