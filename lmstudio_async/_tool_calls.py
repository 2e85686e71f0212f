"""The tool calls of one round: begun in the order of the requests, a limited number of them at once."""

from __future__ import annotations

import inspect
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from lmstudio_async._arguments import check_text
from lmstudio_async._callbacks import tell
from lmstudio_async._tools import PreparedTool, plain_function, result_text
from lmstudio_async._wire._predict import ToolCallRequest
from lmstudio_async.errors import LMStudioPredictionError

__all__ = ["InvalidToolRequestHandler", "ToolCalls"]

InvalidToolRequestHandler = Callable[
    [LMStudioPredictionError, ToolCallRequest | None], Awaitable[str | None] | str | None
]
"""Told of a tool call that cannot be made or failed. May be plain or async; what it raises ends the call of ``act``.

It gets the error, whose ``__cause__`` is what a tool raised, and the request. A text that it returns goes to the
model instead of the usual one. Without a request nothing can be told to the model: ``act`` raises the error next.
"""


class ToolCalls:
    """The tool calls of one round.

    :param tools: by name.
    :param limit: how many run at once; None for all.
    :param handler: see `InvalidToolRequestHandler`.
    """

    def __init__(
        self, tools: Mapping[str, PreparedTool], limit: int | None, handler: InvalidToolRequestHandler | None
    ) -> None:
        self.requests: list[ToolCallRequest] = []
        self.results: list[str] = []
        self.failure: BaseException | None = None
        self._tools = tools
        self._limit = math.inf if limit is None else limit
        self._handler = handler
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
        try:
            while self._waiting:
                index = self._waiting.popleft()
                self.results[index] = await self._answer(self.requests[index])
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits, which a task group would wrap
            self.failure = self.failure or error
            scope.cancel()
        finally:
            self._running -= 1

    async def _answer(self, request: ToolCallRequest) -> str:
        """What the model is told: what the tool gave, or what was wrong."""
        tool = self._tools.get(request.name)
        if tool is None:
            names = ", ".join(self._tools)
            return await self._fail(request, f"There is no tool called {request.name!r}. There are: {names}.")
        try:
            arguments = tool.arguments(request.arguments)
        except ValueError as error:
            return await self._fail(request, f"These are no arguments for {request.name!r}: {error}", error)
        try:
            return result_text(await self._run(tool.implementation, arguments))
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

    async def _tell_failure(self, request: ToolCallRequest, error: BaseException) -> str:
        answer = json.dumps(f"Unhandled Python exception: {error!r}", ensure_ascii=False)
        return await self._fail(request, f"The tool {request.name!r} failed: {error!r}", error, answer)

    async def _fail(
        self, request: ToolCallRequest, message: str, cause: BaseException | None = None, answer: str = ""
    ) -> str:
        error = LMStudioPredictionError(message)
        error.__cause__ = cause
        text = await tell(self._handler, error, request)
        if text is not None:
            return check_text(text, "what handle_invalid_tool_request returns")
        return answer or message
