"""Stream of ``ensure_instance``: an operation whose result is a handle of an instance that is as asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import anyio

from lmstudio_async._arguments import check_name, optional_name, ttl_to_ms
from lmstudio_async._instance_check import EnsureRequest
from lmstudio_async._instance_ensurer import InstanceEnsurer
from lmstudio_async._load import begin_span
from lmstudio_async._load_feed import LoadProgress
from lmstudio_async._operation_feed import OperationFeed
from lmstudio_async._operations import AsyncOperation
from lmstudio_async._protocol._endpoints.models import LOAD_MODEL
from lmstudio_async._session import Session
from lmstudio_async._wire._infos import ModelInstanceInfo
from lmstudio_async._wire._models import LoadModelCreation
from lmstudio_async.errors import (
    LMStudioCancelledError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioValueError,
)

if TYPE_CHECKING:
    from lmstudio_async._tracing import LoadSpan

__all__ = ["AsyncEnsureStream", "ensure_stream"]

HandleT = TypeVar("HandleT")


class EnsureFeed(OperationFeed[LoadProgress]):
    """State of the stream. Its fraction never decreases, although one load may follow on another.

    Of the unread items of one phase only the latest is kept.
    """

    def __init__(self) -> None:
        super().__init__(LOAD_MODEL.label)
        self.fraction = 0.0
        self.instance: ModelInstanceInfo | None = None
        self.span: LoadSpan | None = None
        self._latest: LoadProgress | None = None

    def take(self, packet: LoadProgress) -> None:
        if packet.phase == "loading":
            if not self.fraction < packet.fraction < 1.0:
                return
            self.fraction = packet.fraction
        item = LoadProgress(packet.phase, self.fraction, packet.info, packet.ambiguous)
        if item == self._latest:
            return
        self._latest = item
        if self.span is not None:
            if item.phase == "loading":
                self.span.on_fraction(item.fraction)
            elif isinstance(item.info, ModelInstanceInfo):
                self.span.on_evicting(item.info)
        if self.items and self.items[-1].phase == item.phase:
            self.items[-1] = item
        else:
            self.items.append(item)

    def finish(self, info: ModelInstanceInfo, *, has_loaded: bool) -> None:
        """End the operation with its instance."""
        if not self.done:
            self.instance, self.fraction = info, 1.0
            if self.span is not None:
                self.span.on_instance(info, has_loaded=has_loaded)
            self.items.append(LoadProgress("loaded", 1.0, info))
            self.succeed()


class EnsureRun:
    """The work of one stream, in a task of the client. It does not refer to the stream, which may be dropped."""

    def __init__(self, session: Session, feed: EnsureFeed, ensurer: InstanceEnsurer) -> None:
        self._session = session
        self._feed = feed
        self._ensurer = ensurer
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Run to the end. Never raises an `LMStudioError`: the feed has it."""
        feed, ensurer = self._feed, self._ensurer
        error: LMStudioError = LMStudioConnectionClosedError("The client was closed.")
        try:
            # The task has no context of its caller.
            with self._scope, nullcontext() if feed.span is None else feed.span.as_current():
                info = await ensurer.run(feed.feed)
                feed.finish(info, has_loaded=ensurer.has_loaded)
            if self._scope.cancelled_caught:
                error = LMStudioCancelledError(f"{feed.label}: cancelled by this program.")
        except LMStudioError as reason:
            error = reason
        finally:
            feed.end(error)

    async def cancel(self) -> None:
        self._scope.cancel()

    def drop_soon(self, receiver: OperationFeed[Any]) -> None:  # noqa: ARG002 - nothing is undone
        self._session.run_soon(self.cancel)


class AsyncEnsureStream(AsyncOperation[LoadProgress, HandleT], Generic[HandleT]):
    """An instance that is found, or loaded: iterate over the progress of its load; `wait_for_result` has the handle.

    An instance that is loaded already has a single progress, ``loaded``. The progress of a load is the same whether this
    stream loads or waits for another caller's load.

    Each of these ends the stream early: `cancel`, leaving the block, a timeout, cancellation of the task, closing the
    client, and dropping the stream. The server then cancels the load, unless other callers wait for it. An instance whose
    load is complete stays, because other callers may have found it by then.

    ::

        async with client.llm.ensure_instance_stream("qwen3-4b", "my-qwen") as ensuring:
            async for progress in ensuring:
                print(f"{progress.phase}: {progress.fraction:.0%}")
            qwen = await ensuring.wait_for_result()
    """

    def __init__(
        self,
        session: Session,
        request: EnsureRequest,
        ensurer: InstanceEnsurer,
        make_handle: Callable[[ModelInstanceInfo], HandleT],
    ) -> None:
        self._progress = EnsureFeed()
        super().__init__(session, LOAD_MODEL, request.creation, self._progress)
        self._wanted = request
        self._ensurer = ensurer
        self._make_handle = make_handle
        self._handle: HandleT | None = None

    @property
    def fraction(self) -> float:
        """Progress of the load, from 0.0 to 1.0."""
        return self._progress.fraction

    def _begin_span(self) -> None:
        begin_span(self)

    def _result(self) -> HandleT:
        if self._handle is None:
            assert self._progress.instance is not None
            self._handle = self._make_handle(self._progress.instance)
        return self._handle

    async def _open_channel(self, creation: LoadModelCreation) -> EnsureRun:  # noqa: ARG002 - the ensurer has it
        run = EnsureRun(self._session, self._progress, self._ensurer)
        self._session.start_soon(run.run)
        return run

    @property
    def _silence_seconds(self) -> float | None:
        # Each step has the time limit for itself, and there are pauses between steps.
        return None


def ensure_stream(
    session: Session,
    other_session: Session,
    system: Session,
    make_handle: Callable[[ModelInstanceInfo], HandleT],
    model_key: str,
    instance_identifier: str | None,
    *,
    config: object,
    load_config_stack: dict[str, Any],
    ttl: float | None,
    device: str | None,
    on_mismatch: Literal["error", "use", "replace"],
) -> AsyncEnsureStream[HandleT]:
    """Check the arguments of ``ensure_instance``, and make its stream.

    :param session: the session of the namespace that the instance should be in.
    :param other_session: the session of the other kind of models.
    :param system: the session that lists the downloaded models.
    :param make_handle: makes the handle of an instance.
    :param load_config_stack: the config as it is sent.
    :raises LMStudioConfigError: the config has an unknown key or an impossible value.
    :raises LMStudioValueError: another argument makes no sense.
    """
    if on_mismatch not in ("error", "use", "replace"):
        raise LMStudioValueError(f"on_mismatch must be 'error', 'use' or 'replace', not {on_mismatch!r:.80}")
    key = check_name(model_key, "the model key")
    name = optional_name(instance_identifier, "the instance identifier") or key
    settings: Mapping[str, Any] = {}
    if config is not None:
        from lmstudio_async._config import load_settings

        settings = load_settings(config, "embedding" if session.namespace == "embedding" else "llm")
    creation = LoadModelCreation(
        model_key=key,
        identifier=name,
        device_identifier=optional_name(device, "device"),
        ttl_ms=ttl_to_ms(ttl),
        load_config_stack=load_config_stack,
    )
    request = EnsureRequest(identifier=name, creation=creation, settings=settings, on_mismatch=on_mismatch)
    ensurer = InstanceEnsurer(session, other_session, system, request)
    return AsyncEnsureStream(session, request, ensurer, make_handle)
