"""The tool calls of one round: begun in the order of the requests, a limited number of them at once."""

from __future__ import annotations

import inspect
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import attrs
from anyio.abc import TaskGroup

from lmstudio_async._arguments import check_text
from lmstudio_async._callbacks import note_origin, tell
from lmstudio_async._deliveries import deliveries
from lmstudio_async._printable import printable_lines
from lmstudio_async._tool_call_progress import ToolCallReporter
from lmstudio_async._tools import PreparedTool, plain_function, result_text
from lmstudio_async._wire._predict import ToolCallRequest
from lmstudio_async.errors import LMStudioPredictionError, LMStudioValueError

__all__ = ["GuardToolCallHandler", "InvalidToolRequestHandler", "ToolCalls"]

InvalidToolRequestHandler = Callable[
    [LMStudioPredictionError, ToolCallRequest | None], Awaitable[str | None] | str | None
]
"""Told of a tool call that cannot be made or failed. May be plain or async; what it raises ends the call of ``act``.

It gets the error, whose ``__cause__`` is what a tool raised, and the request. A text that it returns goes to the
model instead of the usual one. Without a request nothing can be told to the model: ``act`` raises the error next.
"""

GuardToolCallHandler = Callable[
    [ToolCallRequest, int], Awaitable[bool | str | Mapping[str, Any]] | bool | str | Mapping[str, Any]
]
"""Asked about a tool call before its tool runs. May be plain or async; what it raises ends the call of ``act``.

It gets the request and the number of the round, counted from 0. `True` lets the tool run. A dict lets it run with
these arguments instead. `False` refuses the call, and a text does so and goes to the model as the reason.
"""


_Answer: TypeAlias = tuple[str, LMStudioPredictionError | None]
"""What the model is told, and why it is no result of the tool."""


class ToolCalls:
    """The tool calls of one round.

    :param tools: by name.
    :param limit: how many run at once; None for all.
    :param handler: see `InvalidToolRequestHandler`.
    :param guard: see `GuardToolCallHandler`.
    :param reporter: tells of them.
    """

    def __init__(
        self,
        tools: Mapping[str, PreparedTool],
        limit: int | None,
        handler: InvalidToolRequestHandler | None,
        guard: Callable[[ToolCallRequest], Any] | None,
        reporter: ToolCallReporter,
    ) -> None:
        self.requests: list[ToolCallRequest] = []
        self.results: list[str] = []
        self.failure: BaseException | None = None
        self._tools = tools
        self._limit = math.inf if limit is None else limit
        self._handler = handler
        self._guard = guard
        self._reporter = reporter
        self._waiting: deque[int] = deque()
        self._running = 0
        # The limit is ours to keep: a tool must not wait for threads that others use.
        self._threads = anyio.CapacityLimiter(math.inf)

    def begin(self, request: ToolCallRequest, tasks: TaskGroup) -> None:
        """Run the tool that is asked for, as soon as there is room."""
        self._waiting.append(len(self.requests))
        self.requests.append(request)
        self.results.append("")
        if self._running < self._limit:
            self._running += 1
            tasks.start_soon(self._work, tasks.cancel_scope)

    async def _work(self, scope: anyio.CancelScope) -> None:
        # Tools are users' code: they have got what they load, whatever becomes of this call.
        deliveries.set(None)
        try:
            while self._waiting:
                index = self._waiting.popleft()
                await self._see_to(index)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits, which a task group would wrap
            self.failure = self.failure or error
            scope.cancel()
        finally:
            self._running -= 1

    async def _see_to(self, index: int) -> None:
        text, error = await self._answer(index)
        self.results[index] = text
        await self._reporter.is_over(index, self.requests[index], text, error)

    async def _answer(self, index: int) -> _Answer:
        """What the model is told: what the tool gave, or what was wrong."""
        request = self.requests[index]
        tool = self._tools.get(request.name)
        if tool is None:
            names = ", ".join(self._tools)
            return await self._fail(
                request, f"There is no tool called {request.name!r:.200}. There are: {names}."
            )
        try:
            arguments = tool.arguments(request.arguments)
        except ValueError as error:
            reason = printable_lines(str(error))
            return await self._fail(request, f"These are no arguments for {request.name!r}: {reason}", error)
        if self._guard is not None:
            verdict = await tell("guard_tool_call", self._guard, request)
            if isinstance(verdict, Mapping):
                request = self.requests[index] = attrs.evolve(request, arguments=dict(verdict))
                arguments = _checked(tool, verdict)
            elif verdict is not True:
                return _refusal(request, verdict)
        await self._reporter.runs(index, request)
        try:
            return result_text(await self._run(tool.implementation, arguments)), None
        except anyio.get_cancelled_exc_class() as error:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # Not we are cancelled, but what the tool waited for.
            return await self._tell_failure(request, error)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises, the model may know better than to give up
            return await self._tell_failure(request, error)

    async def _run(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(plain_function(function)):
            return await function(**arguments)
        # A thread cannot be stopped. Whoever is cancelled does not wait for it; its result is dropped.
        # Boxed, because what a thread gives must not be a coroutine.
        (outcome,) = await anyio.to_thread.run_sync(
            lambda: (function(**arguments),), abandon_on_cancel=True, limiter=self._threads
        )
        return await outcome if inspect.isawaitable(outcome) else outcome

    async def _tell_failure(self, request: ToolCallRequest, error: BaseException) -> _Answer:
        note_origin(error, f"the tool {request.name!r}")
        answer = json.dumps(f"Unhandled Python exception: {error!r}", ensure_ascii=False)
        return await self._fail(request, f"The tool {request.name!r} failed: {error!r}", error, answer)

    async def _fail(
        self, request: ToolCallRequest, message: str, cause: BaseException | None = None, answer: str = ""
    ) -> _Answer:
        error = LMStudioPredictionError(message)
        error.__cause__ = cause
        text = await tell("handle_invalid_tool_request", self._handler, error, request)
        if text is not None:
            return check_text(text, "what handle_invalid_tool_request returns"), error
        return answer or message, error


def _checked(tool: PreparedTool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return tool.arguments(arguments)
    except ValueError as error:
        raise LMStudioValueError(
            f"guard_tool_call returned what are no arguments for {tool.name!r}: {error}"
        ) from error


def _refusal(request: ToolCallRequest, verdict: object) -> _Answer:
    """What the model is told of a call that may not be. Whoever forgets to decide has not allowed it."""
    if verdict is not False and not (isinstance(verdict, str) and verdict):
        raise LMStudioValueError(
            "guard_tool_call must return True to allow the call, a dict to change its arguments, and False or the "
            f"reason to refuse it, not {verdict!r:.80}"
        )
    reason = verdict if isinstance(verdict, str) else f"The call of {request.name!r} was refused."
    return reason, LMStudioPredictionError(f"The call of the tool {request.name!r} was refused: {reason}")
