"""Prediction: an operation whose result is a generated text."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias
from weakref import WeakSet

import attrs

from lmstudio_async._callbacks import check_callbacks, tell
from lmstudio_async._messages import answer_message
from lmstudio_async._operation_feed import OperationFeed
from lmstudio_async._operations import AsyncOperation
from lmstudio_async._preload import preload
from lmstudio_async._protocol._endpoints import ChannelEndpoint
from lmstudio_async._protocol._endpoints.llm import PREDICT
from lmstudio_async._protocol._errors import error_from_wire
from lmstudio_async._response_format import ParsedT, ResponseReader
from lmstudio_async._session import Session
from lmstudio_async._wire._history import AssistantResponse
from lmstudio_async._wire._infos import LlmInstanceInfo
from lmstudio_async._wire._predict import (
    CompleteRawTextCreation,
    FragmentPacket,
    LlmPredictionFragment,
    LlmPredictionStats,
    PredictCreation,
    PredictSuccess,
    PromptProcessingProgressPacket,
    TokenInfo,
    ToolCallGenerationEnd,
    ToolCallGenerationFailed,
    ToolCallRequest,
)
from lmstudio_async._wire._reasoning_marker import has_marker, without_marker
from lmstudio_async._wire._struct import WireObject, write
from lmstudio_async.errors import (
    LMStudioCancelledError,
    LMStudioError,
    LMStudioPredictionError,
    LMStudioProtocolError,
)

if TYPE_CHECKING:
    from lmstudio_async._prediction_result import PredictionResult
    from lmstudio_async._tracing import NamedInstance, PredictionSpan

__all__ = [
    "AsyncPredictionStream",
    "PredictionCallbacks",
    "PredictionFirstTokenCallback",
    "PredictionFragmentCallback",
    "PredictionMessageCallback",
    "PromptProcessingCallback",
]

logger = logging.getLogger("lmstudio_async")

PredictionMessageCallback: TypeAlias = Callable[[AssistantResponse], Awaitable[object] | object]
"""Callback for the complete answer, as a message. Plain or async; an exception in it ends the prediction."""

PredictionFirstTokenCallback: TypeAlias = Callable[[], Awaitable[object] | object]
"""Callback for the beginning of the answer. Plain or async; an exception in it ends the prediction."""

PredictionFragmentCallback: TypeAlias = Callable[[LlmPredictionFragment], Awaitable[object] | object]
"""Callback for each fragment of the answer. Plain or async; an exception in it ends the prediction."""

PromptProcessingCallback: TypeAlias = Callable[[float], Awaitable[object] | object]
"""Callback for the processed share of the prompt, 0 to 1. Plain or async; an exception in it ends the prediction."""

# Sessions whose server is too old to know `completeRawText`, so that each session tries it only once.
_without_raw_completion: WeakSet[Session] = WeakSet()


@attrs.frozen(kw_only=True)
class PredictionCallbacks:
    """Callbacks of a prediction."""

    on_message: PredictionMessageCallback | None = None
    on_first_token: PredictionFirstTokenCallback | None = None
    on_prediction_fragment: PredictionFragmentCallback | None = None
    on_prompt_processing_progress: PromptProcessingCallback | None = None

    def __attrs_post_init__(self) -> None:
        check_callbacks(self)


class PredictionFeed(OperationFeed[Any]):
    """State of a prediction: its unread fragments, and all text so far.

    :param watches_prompt: whether to queue the processed fraction of the prompt too, as plain numbers.
    """

    def __init__(self, label: str, *, watches_prompt: bool = False) -> None:
        super().__init__(label)
        self.texts: list[str] = []
        self.answer: list[str] = []
        self.reasoning: list[str] = []
        self.tokens: list[TokenInfo] = []
        self.tool_call_requests: list[ToolCallRequest] = []
        self.prompt_progress = 0.0
        self.success: PredictSuccess | None = None
        self.span: PredictionSpan | None = None
        #: The endpoint of the request, if the stream sends another request to a server that does not know it.
        self.replaceable: ChannelEndpoint[Any, Any] | None = None
        self._watches_prompt = watches_prompt
        if watches_prompt:
            self.items.append(0.0)

    @property
    def content(self) -> str:
        """The whole text, reasoning included."""
        return "".join(self.texts)

    @property
    def non_reasoning_content(self) -> str:
        """The answer alone, without the reasoning."""
        return "".join(self.answer)

    @property
    def reasoning_content(self) -> str:
        """The reasoning alone."""
        return "".join(self.reasoning)

    def fail(self, error: LMStudioError) -> None:
        error.content = self.content
        super().fail(error)

    def take(self, packet: Any) -> None:
        match packet:
            case FragmentPacket():
                if self.prompt_progress < 1.0:
                    self._advance(1.0)
                self._add(packet.fragment)
            case PromptProcessingProgressPacket():
                self._advance(packet.progress)
            case ToolCallGenerationEnd():
                self._advance(1.0)
                self.tool_call_requests.append(packet.tool_call_request)
            case PredictSuccess():
                self.success = packet
                if self.span is not None:
                    self.span.on_success(packet)
                self.succeed()
            case ToolCallGenerationFailed():
                self.fail(error_from_wire(packet.error, "Tool call", LMStudioPredictionError))
            case _:
                logger.debug("%s: ignored a packet of another type", self.label)

    def _add(self, fragment: LlmPredictionFragment) -> None:
        if has_marker(fragment.content):
            # Keep the fragment, even without text, because its type marks the end of the reasoning.
            fragment = attrs.evolve(fragment, content=without_marker(fragment.content))
        if self.span is not None and not self.texts:
            self.span.on_first_chunk()
        self.texts.append(fragment.content)
        if fragment.reasoning_type == "reasoning":
            self.reasoning.append(fragment.content)
        elif fragment.reasoning_type == "none" and not fragment.is_structural:
            self.answer.append(fragment.content)
        if fragment.tokens:
            self.tokens += fragment.tokens
        self.queue(fragment, len(fragment.content))

    def _report_end(self, error: LMStudioError | None) -> None:
        span = self.span
        is_last = self.replaceable is None or self.is_cancelled or not _is_unknown(self.replaceable, self)
        if span is None or is_last:
            super()._report_end(error)
            return
        # The stream sends another request, and the span covers both.
        self.reports = tuple(report for report in self.reports if report is not span)
        super()._report_end(error)
        self.reports = (span,)

    def _advance(self, progress: float) -> None:
        if self.prompt_progress < progress <= 1.0:
            self.prompt_progress = progress
            if self._watches_prompt:
                self.queue(float(progress), 0)


class AsyncPredictionStream(
    AsyncOperation[LlmPredictionFragment, "PredictionResult[ParsedT]"], Generic[ParsedT]
):
    """A running prediction: iterate over its fragments, await its result.

    `cancel` stops it and keeps the text so far as the result. Leaving the block, a timeout, cancellation
    of the task, closing the client and dropping the stream stop it without a result. Callbacks are called while the
    user iterates or waits.

    A slow consumer delays nothing else: unread fragments wait in memory, which the result needs for their text anyway.

    ::

        async for fragment in llm.respond_stream("Tell me a story"):
            print(fragment.content, end="")
    """

    def __init__(
        self,
        session: Session,
        endpoint: ChannelEndpoint[Any, Any],
        creation: WireObject,
        reader: ResponseReader | None = None,
        callbacks: PredictionCallbacks | None = None,
        fallback: PredictCreation | None = None,
        instance: NamedInstance | None = None,
    ) -> None:
        self._on = callbacks or PredictionCallbacks()
        self._is_silent = self._on == PredictionCallbacks()
        watches = self._on.on_prompt_processing_progress is not None
        self._prediction = PredictionFeed(endpoint.label, watches_prompt=watches)
        super().__init__(session, endpoint, creation, self._prediction)
        self._operation = "chat" if isinstance(creation, PredictCreation) else "text_completion"
        self._reader = reader or ResponseReader(None)
        # The request to send instead if the server does not know the endpoint.
        self._fallback = fallback
        self._instance = instance
        self._has_begun = False
        self._has_reported_message = False
        self._made: PredictionResult[ParsedT] | None = None

    @property
    def content(self) -> str:
        """The text so far, reasoning included."""
        return self._prediction.content

    @property
    def prompt_progress(self) -> float:
        """Processed fraction of the prompt, from 0.0 to 1.0."""
        return self._prediction.prompt_progress

    @property
    def tool_call_requests(self) -> list[ToolCallRequest]:
        """The tool calls that the model has requested so far."""
        return list(self._prediction.tool_call_requests)

    @property
    def stats(self) -> LlmPredictionStats | None:
        """Statistics of the prediction; None until it is complete."""
        success = self._prediction.success
        return None if success is None else success.stats

    @property
    def model_info(self) -> LlmInstanceInfo | None:
        """The instance that runs the prediction; None until the prediction is complete."""
        success = self._prediction.success
        return None if success is None else success.model_info

    async def start(self) -> Self:
        """Start the prediction, if it has not started.

        :return: the stream itself, so that ``stream = await llm.respond_stream(...)`` works as well.
        :raises LMStudioWebsocketError: if the server cannot be reached.
        """
        if self._fallback is not None and self._session in _without_raw_completion:
            self._fall_back()
        return await super().start()

    def _begin_span(self) -> None:
        feed, creation, tracing = self._prediction, self._creation, self._session.tracing()
        if tracing is None or self._instance is None or feed.done or feed.span is not None:
            return
        assert isinstance(creation, PredictCreation | CompleteRawTextCreation)
        span = tracing.prediction(self._operation, self._instance, creation.prediction_config_stack)
        if span is not None:
            feed.span = span
            feed.replaceable = None if self._fallback is None else self._endpoint
            feed.report_to(span)

    async def __anext__(self) -> LlmPredictionFragment:
        if self._taken and self._is_silent:
            return self._taken.popleft()
        while True:
            item: Any = None
            try:
                item = await super().__anext__()
            except StopAsyncIteration:
                pass
            if item is None:
                # Outside the except block, so that StopAsyncIteration is not the context of the callback's exceptions.
                await self._tell_message()
                raise StopAsyncIteration
            if self._is_silent:
                break
            try:
                if isinstance(item, float):
                    await tell("on_prompt_processing_progress", self._on.on_prompt_processing_progress, item)
                    continue
                if not self._has_begun:
                    self._has_begun = True
                    await tell("on_first_token", self._on.on_first_token)
                await tell("on_prediction_fragment", self._on.on_prediction_fragment, item)
            except BaseException:
                await self._abandon()
                raise
            break
        fragment: LlmPredictionFragment = item
        return fragment

    def _take_nowait(self) -> LlmPredictionFragment | None:
        # Callbacks must be called in the event loop.
        return super()._take_nowait() if self._is_silent else None

    async def wait_for_result(self) -> PredictionResult[ParsedT]:
        """Wait for the end and return the result.

        :return: the result; the same one each time.
        :raises LMStudioStructuredOutputError: if the answer does not have the requested format.
        :raises LMStudioCancelledError: if the prediction was left before its end.
        :raises LMStudioTimeoutError: if the server was silent for longer than the client's ``timeout``.
        :raises LMStudioServerError: if the server refused or failed.
        """
        await preload("_prediction_result")
        if self._is_silent or self._was_left:
            if self._fallback is not None:
                await self.start()
                await self._wait_for_item()
            return await super().wait_for_result()
        async for _ in self:
            pass
        return self.result()

    async def aclose(self) -> None:
        """Close the stream; if the prediction is not complete, stop it. Idempotent."""
        was_done = self._feed.done
        await self.cancel()
        if not was_done:
            self._feed.fail(
                LMStudioCancelledError(
                    f"{self._feed.label}: left before its end. To keep the text so far, use cancel() instead."
                )
            )

    async def _wait_for_item(self) -> None:
        await super()._wait_for_item()
        feed = self._prediction
        if self._fallback is not None and not feed.is_cancelled and _is_unknown(self._endpoint, feed):
            _without_raw_completion.add(self._session)
            feed.done, feed.error = False, None
            self._started = False
            await self.start()
            await super()._wait_for_item()

    def _fall_back(self) -> None:
        if self._fallback is not None:
            self._endpoint, self._creation, self._fallback = PREDICT, self._fallback, None
            self._prediction.replaceable = None

    async def _tell_message(self) -> None:
        if not self._feed.succeeded or self._has_reported_message:
            return
        self._has_reported_message = True
        await tell(
            "on_message", self._on.on_message, answer_message(self._prediction, self.tool_call_requests)
        )

    def _result(self) -> PredictionResult[ParsedT]:
        if self._made is None:
            from lmstudio_async._config import load_config_from_fields, prediction_config_from_fields
            from lmstudio_async._prediction_result import PredictionResult

            feed = self._prediction
            success = feed.success
            assert success is not None
            content, answer, reasoning = feed.content, feed.non_reasoning_content, feed.reasoning_content
            # A cancelled answer, and one that requests tools, need not have the requested format.
            stop_reason = success.stats.stop_reason
            is_whole = stop_reason != "userStopped" and not feed.tool_call_requests
            # If the chat template opens the reasoning, LM Studio classifies an answer under a grammar as reasoning.
            read = answer if answer.strip() else reasoning
            parsed: Any = self._reader.read(content, read, stop_reason) if is_whole else content
            self._made = PredictionResult(
                content=content,
                non_reasoning_content=answer,
                reasoning_content=reasoning,
                parsed=parsed,
                tool_call_requests=tuple(feed.tool_call_requests),
                tokens=tuple(feed.tokens),
                stats=success.stats,
                model_info=success.model_info or LlmInstanceInfo(),
                load_config=load_config_from_fields(write(success.load_model_config), "llm"),
                prediction_config=prediction_config_from_fields(write(success.prediction_config)),
            )
        return self._made

    def _latest_progress(self) -> str:
        return f", after {len(self.content)} characters"


def _is_unknown(endpoint: ChannelEndpoint[Any, Any], feed: PredictionFeed) -> bool:
    """Return whether the server does not know the endpoint at all."""
    error = feed.error
    if error is None or feed.heard:
        return False
    # A packet that cannot be read causes an error of the same class, but that error has a cause.
    return endpoint.name in str(error) or (
        isinstance(error, LMStudioProtocolError) and error.__cause__ is None
    )
