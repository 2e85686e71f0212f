"""The loop of ``act``: a model answers and calls tools, round after round, until it requests no more tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import anyio
import attrs
from anyio.abc import TaskGroup

from lmstudio_async._arguments import check_whole_number, optional_name
from lmstudio_async._callbacks import check_callbacks, tell
from lmstudio_async._chat import ChatInput, chat_to_wire
from lmstudio_async._config import prediction_config_fields
from lmstudio_async._messages import HasContent, answer_message
from lmstudio_async._operations import AsyncOperation
from lmstudio_async._prediction import AsyncPredictionStream, PredictionFeed
from lmstudio_async._prediction_result import PredictionResult
from lmstudio_async._printable import ShortRepr
from lmstudio_async._protocol._endpoints.llm import PREDICT
from lmstudio_async._protocol._errors import error_from_wire
from lmstudio_async._session import Session
from lmstudio_async._tool_call_reporter import ToolCallProgressCallback, ToolCallReporter, WritingPacket
from lmstudio_async._tool_calls import GuardToolCallHandler, InvalidToolRequestHandler, ToolCalls
from lmstudio_async._tools import ToolDefinition, prepare_tools
from lmstudio_async._wire._history import AssistantResponse, ToolCallResultData, ToolResultMessage
from lmstudio_async._wire._kv import from_fields, stack
from lmstudio_async._wire._models import ModelSpecifier
from lmstudio_async._wire._predict import (
    LlmPredictionFragment,
    PredictCreation,
    ToolCallGenerationEnd,
    ToolCallGenerationFailed,
    ToolCallRequest,
)
from lmstudio_async._wire._struct import write
from lmstudio_async.errors import LMStudioPredictionError, LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._tracing import NamedInstance

__all__ = ["Act", "ActCallbacks", "ActResult", "PredictionRoundResult"]

RoundCallback = Callable[[int], Awaitable[object] | object]
"""Called with the number of a round, counted from 0.

May be plain or async; an exception that it raises ends the call of ``act``.
"""

RoundFragmentCallback = Callable[[LlmPredictionFragment, int], Awaitable[object] | object]
"""Called with each fragment of an answer, and the number of its round."""

RoundProgressCallback = Callable[[float, int], Awaitable[object] | object]
"""Called with the processed part of a prompt, from 0.0 to 1.0, and the number of its round."""

ActMessageCallback = Callable[[AssistantResponse | ToolResultMessage], Awaitable[object] | object]
"""Called with each new message of the chat: answers with their tool call requests, and tool results."""


@attrs.frozen(kw_only=True, repr=False)
class PredictionRoundResult(PredictionResult):
    """The answer of one round of ``act``.

    :param round_index: number of the round, counted from 0.
    """

    round_index: int


RoundResultCallback = Callable[[PredictionRoundResult], Awaitable[object] | object]
"""Called with the answer of each round when it is complete. Tools that it requests may still be running."""


@attrs.frozen(repr=False)
class ActResult(ShortRepr):
    """Result of ``act``.

    :param rounds: number of answers that the model generated.
    :param total_time_seconds: duration of the whole call.
    """

    rounds: int
    total_time_seconds: float


@attrs.frozen(kw_only=True)
class ActCallbacks:
    """Callbacks of ``act``. Each may be plain or async; an exception that one raises ends the call."""

    on_message: ActMessageCallback | None
    on_first_token: RoundCallback | None
    on_prediction_fragment: RoundFragmentCallback | None
    on_round_start: RoundCallback | None
    on_round_end: RoundCallback | None
    on_prediction_completed: RoundResultCallback | None
    on_prompt_processing_progress: RoundProgressCallback | None
    on_tool_call: ToolCallProgressCallback | None
    guard_tool_call: GuardToolCallHandler | None
    handle_invalid_tool_request: InvalidToolRequestHandler | None

    def __attrs_post_init__(self) -> None:
        check_callbacks(self)


class Act:
    """One call of ``act``. The constructor checks all arguments, before a request is sent.

    :param instance: the instance, for spans.
    :param limit: maximum number of tools that run at once; None for no limit.
    :param rounds: maximum number of rounds; None for no limit.
    """

    def __init__(
        self,
        session: Session,
        specifier: ModelSpecifier,
        chat: ChatInput,
        tools: Iterable[ToolDefinition],
        *,
        instance: NamedInstance,
        config: object,
        preset: str | None,
        limit: int | None,
        rounds: int | None,
        callbacks: ActCallbacks,
    ) -> None:
        self._session = session
        self._specifier = specifier
        self._instance = instance
        self._messages: list[dict[str, Any]] = list(chat_to_wire(chat)["messages"])
        self._tools = prepare_tools(tools)
        self._preset = optional_name(preset, "preset")
        self._limit = check_whole_number(limit, "max_parallel_tool_calls", 1, none="no limit")
        self._rounds = check_whole_number(rounds, "max_prediction_rounds", 1, none="no limit")
        self._on = callbacks
        self._next_call_id = 0
        if "llm.prediction.tools" in from_fields(prediction_config_fields(config)):
            raise LMStudioValueError("act() makes raw_tools out of the tools: leave it out of the config")
        array = {"type": "toolArray", "tools": [tool.wire for tool in self._tools.values()]}
        self._with_tools = prediction_config_fields(config, {"raw_tools": array})
        # "required" would leave the model no valid answer in the last round, which offers no tools.
        self._without_tools = prediction_config_fields(
            config, {"raw_tools": {"type": "none"}, "tool_choice": "auto"}
        )

    async def run(self) -> ActResult:
        """Run rounds until the model requests no tools."""
        began = anyio.current_time()
        index, more = 0, True
        while more:
            await tell("on_round_start", self._on.on_round_start, index)
            more = await self._round(index, is_last=self._rounds is not None and index + 1 >= self._rounds)
            await tell("on_round_end", self._on.on_round_end, index)
            index += 1
        return ActResult(index, anyio.current_time() - began)

    async def _round(self, index: int, *, is_last: bool) -> bool:
        """Generate one answer and run the tools that it requests. Return whether it requested any."""
        reporter = ToolCallReporter(self._on.on_tool_call, index, self._next_call_id)
        calls = ToolCalls(
            self._tools, self._limit, self._on.handle_invalid_tool_request, self._guard_of(index), reporter
        )
        error: BaseException | None = None
        answer: HasContent | None = None
        # Tools start while the model is still generating. Errors are raised after the group, which would wrap them.
        async with anyio.create_task_group() as tasks:
            try:
                answer = await self._predict(index, calls, reporter, tasks, is_last=is_last)
                if self._on.guard_tool_call is None:
                    await self._add(answer_message(answer, calls.requests))
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as raised:  # noqa: BLE001 - raised again below
                error = raised
                tasks.cancel_scope.cancel()
        try:
            error = calls.failure or error
            if error is not None:
                raise error
        finally:
            # Break the cycle of error, traceback and this frame, which only the cycle collector could free.
            error = calls.failure = None
        self._next_call_id = reporter.next_id
        if self._on.guard_tool_call is not None:
            # Added only now: the guard may have changed arguments, and the chat must show the calls as they ran.
            assert answer is not None
            await self._add(answer_message(answer, calls.requests))
        if not calls.requests:
            return False
        parts = [
            ToolCallResultData(content=text, tool_call_id=request.id, name=request.name)
            for request, text in zip(calls.requests, calls.results, strict=True)
        ]
        await self._add(ToolResultMessage(content=list(parts)))
        return True

    async def _predict(
        self, index: int, calls: ToolCalls, reporter: ToolCallReporter, tasks: TaskGroup, *, is_last: bool
    ) -> PredictionResult:
        """Generate the answer of a round, and start its tools as their requests arrive."""
        creation = PredictCreation(
            model_specifier=self._specifier,
            history={"messages": self._messages},
            prediction_config_stack=stack(self._without_tools if is_last else self._with_tools),
            fuzzy_preset_identifier=self._preset,
        )
        async with RoundStream(self._session, creation, self._instance) as stream:
            callbacks = _AnswerCallbacks(self._on, index)
            async for event in stream:
                await callbacks.on_event(event)
                match event:
                    case ToolCallGenerationEnd() if is_last:
                        name = event.tool_call_request.name
                        message = f"The model asked for the tool {name!r:.200} in the last round."
                        await self._refuse(message, event.raw_content, reporter)
                    case ToolCallGenerationEnd():
                        await reporter.on_request(event)
                        calls.begin(event.tool_call_request, tasks)
                    case ToolCallGenerationFailed():
                        failure = error_from_wire(event.error, "Tool call", LMStudioPredictionError)
                        await self._refuse(str(failure), event.raw_content, reporter)
                    case _ if isinstance(event, WritingPacket):
                        await reporter.on_fragment(event)
            answer = await stream.wait_for_result()
        members = {field.name: getattr(answer, field.name) for field in attrs.fields(type(answer))}
        await tell(
            "on_prediction_completed",
            self._on.on_prediction_completed,
            PredictionRoundResult(**members, round_index=index),
        )
        return answer

    def _guard_of(self, index: int) -> Callable[[ToolCallRequest], Any] | None:
        guard = self._on.guard_tool_call
        return None if guard is None else lambda request: guard(request, index)

    async def _refuse(self, message: str, raw_content: str | None, reporter: ToolCallReporter) -> None:
        """Report and raise an error that can no longer be sent to the model."""
        error = LMStudioPredictionError(message)
        await reporter.on_invalid(raw_content, error)
        await tell("handle_invalid_tool_request", self._on.handle_invalid_tool_request, error, None)
        raise error

    async def _add(self, message: AssistantResponse | ToolResultMessage) -> None:
        self._messages.append(write(message))
        await tell("on_message", self._on.on_message, message)


class RoundFeed(PredictionFeed):
    """Feed of a round's answer. Tool call packets queue between the fragments, in the order of arrival."""

    def take(self, packet: Any) -> None:
        if isinstance(packet, ToolCallGenerationFailed):
            self.items.append(packet)
            return
        super().take(packet)
        if isinstance(packet, ToolCallGenerationEnd | WritingPacket):
            self.items.append(packet)


class RoundStream(AsyncPredictionStream):
    """Stream of a round's answer. Iteration returns every queued item, tool call packets included."""

    def __init__(self, session: Session, creation: PredictCreation, instance: NamedInstance) -> None:
        super().__init__(session, PREDICT, creation, instance=instance)
        self._feed = self._prediction = RoundFeed(PREDICT.label, watches_prompt=True)

    async def __anext__(self) -> Any:
        return await AsyncOperation.__anext__(self)


class _AnswerCallbacks:
    """Calls the callbacks for one round's answer."""

    def __init__(self, callbacks: ActCallbacks, index: int) -> None:
        self._on = callbacks
        self._index = index
        self._has_begun = False

    async def on_event(self, event: Any) -> None:
        if isinstance(event, float):
            await tell(
                "on_prompt_processing_progress", self._on.on_prompt_processing_progress, event, self._index
            )
            return
        if not self._has_begun:
            self._has_begun = True
            await tell("on_first_token", self._on.on_first_token, self._index)
        if isinstance(event, LlmPredictionFragment):
            await tell("on_prediction_fragment", self._on.on_prediction_fragment, event, self._index)
