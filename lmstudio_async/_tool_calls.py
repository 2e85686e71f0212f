"""The tool calls of one round: started in the order of the requests, a limited number of them at once."""

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
from lmstudio_async._tool_call_reporter import ToolCallReporter
from lmstudio_async._tools import PreparedTool, plain_function, result_text
from lmstudio_async._wire._predict import ToolCallRequest
from lmstudio_async.errors import LMStudioPredictionError, LMStudioValueError

__all__ = ["GuardToolCallHandler", "InvalidToolRequestHandler", "ToolCalls"]

InvalidToolRequestHandler = Callable[
    [LMStudioPredictionError, ToolCallRequest | None], Awaitable[str | None] | str | None
]
"""Called when a tool call is invalid or fails. May be plain or async; an exception in it ends the call of ``act``.

Its arguments are the error, whose ``__cause__`` is the tool's exception, and the request. A text that it returns is
sent to the model instead of the usual one. If the request is None, nothing can be sent to the model, and ``act`` raises
the error next.
"""

GuardToolCallHandler = Callable[
    [ToolCallRequest, int], Awaitable[bool | str | Mapping[str, Any]] | bool | str | Mapping[str, Any]
]
"""Called before a tool runs. May be plain or async; an exception in it ends the call of ``act``.

Its arguments are the request and the number of the round, counted from 0. It returns `True` to run the tool, or a dict
to run it with these arguments instead. `False` refuses the call. A text refuses it as well, and is sent to the model
as the reason.
"""


_ToolResult: TypeAlias = tuple[str, LMStudioPredictionError | None]
"""Text for the model, and the error if it is not the result of the tool."""


class ToolCalls:
    """The tool calls of one round.

    :param tools: the tools by name.
    :param limit: maximum number of tools that run at once; None for no limit.
    :param handler: see `InvalidToolRequestHandler`.
    :param guard: see `GuardToolCallHandler`.
    :param reporter: reports the steps of each call.
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
        # Unlimited, because `_limit` is enforced here: a tool must not wait for threads that other code uses.
        self._threads = anyio.CapacityLimiter(math.inf)

    def begin(self, request: ToolCallRequest, tasks: TaskGroup) -> None:
        """Run the requested tool as soon as the limit allows it."""
        self._waiting.append(len(self.requests))
        self.requests.append(request)
        self.results.append("")
        if self._running < self._limit:
            self._running += 1
            tasks.start_soon(self._work, tasks.cancel_scope)

    async def _work(self, scope: anyio.CancelScope) -> None:
        # Tools are user code: a model that a tool has loaded stays loaded if an interrupt ends this call.
        deliveries.set(None)
        try:
            while self._waiting:
                index = self._waiting.popleft()
                await self._run_call(index)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised by `Act`, because a task group would wrap it
            self.failure = self.failure or error
            scope.cancel()
        finally:
            self._running -= 1

    async def _run_call(self, index: int) -> None:
        text, error = await self._result_of(index)
        self.results[index] = text
        await self._reporter.on_end(index, self.requests[index], text, error)

    async def _result_of(self, index: int) -> _ToolResult:
        """Run the tool, and return its result for the model, or an error message."""
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
            return await self._fail(request, f"These arguments do not fit {request.name!r}: {reason}", error)
        if self._guard is not None:
            verdict = await tell("guard_tool_call", self._guard, request)
            if isinstance(verdict, Mapping):
                request = self.requests[index] = attrs.evolve(request, arguments=dict(verdict))
                arguments = _checked(tool, verdict)
            elif verdict is not True:
                return _refused_result(request, verdict)
        await self._reporter.on_start(index, request)
        try:
            return result_text(await self._call_function(tool.implementation, arguments)), None
        except anyio.get_cancelled_exc_class() as error:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # This task is not cancelled; an operation that the tool awaited is.
            return await self._tell_failure(request, error)
        except Exception as error:  # noqa: BLE001 - the model may recover from any error of a tool
            return await self._tell_failure(request, error)

    async def _call_function(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(plain_function(function)):
            return await function(**arguments)
        # A thread cannot be stopped, so a cancelled call does not wait for it, and its result is dropped.
        # The result is boxed, because trio accepts no coroutine as the result of a thread.
        (outcome,) = await anyio.to_thread.run_sync(
            lambda: (function(**arguments),), abandon_on_cancel=True, limiter=self._threads
        )
        return await outcome if inspect.isawaitable(outcome) else outcome

    async def _tell_failure(self, request: ToolCallRequest, error: BaseException) -> _ToolResult:
        note_origin(error, f"the tool {request.name!r}")
        text = json.dumps(f"Unhandled Python exception: {error!r}", ensure_ascii=False)
        return await self._fail(request, f"The tool {request.name!r} failed: {error!r}", error, text)

    async def _fail(
        self, request: ToolCallRequest, message: str, cause: BaseException | None = None, default: str = ""
    ) -> _ToolResult:
        error = LMStudioPredictionError(message)
        error.__cause__ = cause
        text = await tell("handle_invalid_tool_request", self._handler, error, request)
        if text is not None:
            return check_text(text, "the return value of handle_invalid_tool_request"), error
        return default or message, error


def _checked(tool: PreparedTool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return tool.arguments(arguments)
    except ValueError as error:
        raise LMStudioValueError(
            f"guard_tool_call returned arguments that do not fit {tool.name!r}: {error}"
        ) from error


def _refused_result(request: ToolCallRequest, verdict: object) -> _ToolResult:
    """Return the text for the model and the error of a refused call. A guard that returns None is an error."""
    if verdict is not False and not (isinstance(verdict, str) and verdict):
        raise LMStudioValueError(
            "guard_tool_call must return True to allow the call, a dict to change its arguments, and False or the "
            f"reason to refuse it, not {verdict!r:.80}"
        )
    reason = verdict if isinstance(verdict, str) else f"The call of {request.name!r} was refused."
    return reason, LMStudioPredictionError(f"The call of the tool {request.name!r} was refused: {reason}")
