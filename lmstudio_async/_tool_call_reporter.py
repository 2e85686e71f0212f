"""Progress of the tool calls of ``act``, for callbacks that show it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import attrs

from lmstudio_async._callbacks import tell
from lmstudio_async._printable import ShortRepr
from lmstudio_async._wire._predict import (
    ToolCallGenerationArgumentFragmentGenerated,
    ToolCallGenerationEnd,
    ToolCallGenerationNameReceived,
    ToolCallGenerationStart,
    ToolCallRequest,
)
from lmstudio_async.errors import LMStudioPredictionError

__all__ = ["ToolCallProgress", "ToolCallProgressCallback", "ToolCallReporter", "WritingPacket"]

WritingPacket: TypeAlias = (
    ToolCallGenerationStart | ToolCallGenerationNameReceived | ToolCallGenerationArgumentFragmentGenerated
)
"""A packet about a request that the model is still generating."""

_Phase: TypeAlias = Literal["started", "named", "arguments", "requested", "running", "finished", "failed"]


@attrs.frozen(kw_only=True, repr=False)
class ToolCallProgress(ShortRepr):
    """One step of a tool call.

    The phases come in this order:

    - ``started``: the model begins a request for a tool;
    - ``named``: the name of the tool is known;
    - ``arguments``: a piece of the arguments has arrived. This phase comes any number of times, or never;
    - ``requested``: the request is complete. The tool waits if the maximum number of tools is running;
    - ``running``: the tool starts, with the arguments in ``request``, which ``guard_tool_call`` may have changed;
    - ``finished``: there is a result for the model, which may be an error message;
    - ``failed``: the model generated no valid request, or requested a tool in the last round. There is no result, and
      ``act`` ends with an error.

    :param phase: the step.
    :param call_id: number of the call, counted from 0 through all rounds. (The model's own id for it, if there is one,
        is ``request.id``.)
    :param round_index: number of the round, counted from 0.
    :param name: name of the tool, from ``named`` on.
    :param fragment: the piece of the arguments, in the model's own format, in the phase ``arguments``.
    :param request: the complete request, from ``requested`` on.
    :param raw_content: the model's own text of the request, in the phases ``requested`` and ``failed``, if known.
    :param result: the text that is sent to the model, in the phase ``finished``.
    :param error: why the tool did not run or failed, in the phase ``finished``, and in ``failed``.

    ::

        def add(a: int, b: int) -> int:
            '''Add two numbers.'''
            return a + b

        await llm.act("What is 1 + 2?", [add], on_tool_call=lambda call: print(call.phase, call.name, call.result))
    """

    _shown = "phase call_id round_index name fragment request result error"

    phase: _Phase
    call_id: int
    round_index: int
    name: str = ""
    fragment: str = ""
    request: ToolCallRequest | None = None
    raw_content: str | None = attrs.field(default=None, repr=False)
    result: str | None = None
    error: LMStudioPredictionError | None = None


ToolCallProgressCallback: TypeAlias = Callable[[ToolCallProgress], Awaitable[object] | object]
"""Called with each step of a tool call. May be plain or async; an exception in it ends the call of ``act``."""


class ToolCallReporter:
    """Reports one round's tool calls to a callback.

    :param callback: the callback; None reports nothing.
    :param round_index: number of the round.
    :param call_id: number of the round's first call.
    """

    def __init__(self, callback: ToolCallProgressCallback | None, round_index: int, call_id: int) -> None:
        self.first_id = call_id
        self.next_id = call_id
        self._callback = callback
        self._round_index = round_index
        self._has_started = False
        self._name = ""

    async def on_fragment(self, packet: WritingPacket) -> None:
        """Report a packet of a request that the model is generating."""
        match packet:
            case ToolCallGenerationStart():
                await self._start()
            case ToolCallGenerationNameReceived():
                await self._start()
                self._name = packet.name
                await self._tell("named", self.next_id, name=packet.name)
            case ToolCallGenerationArgumentFragmentGenerated():
                await self._tell("arguments", self.next_id, name=self._name, fragment=packet.content)

    async def on_request(self, packet: ToolCallGenerationEnd) -> None:
        """Report a complete request."""
        request = packet.tool_call_request
        await self._start()
        if not self._name:
            await self._tell("named", self.next_id, name=request.name)
        await self._tell(
            "requested", self.next_id, name=request.name, request=request, raw_content=packet.raw_content
        )
        self.next_id += 1
        self._has_started, self._name = False, ""

    async def on_invalid(self, raw_content: str | None, error: LMStudioPredictionError) -> None:
        """Report a request that is invalid, or came in the last round."""
        await self._start()
        await self._tell("failed", self.next_id, name=self._name, error=error, raw_content=raw_content)

    async def on_start(self, index: int, request: ToolCallRequest) -> None:
        """Report the start of a tool."""
        await self._tell("running", self.first_id + index, name=request.name, request=request)

    async def on_end(
        self, index: int, request: ToolCallRequest, result: str, error: LMStudioPredictionError | None
    ) -> None:
        """Report the result that the model gets."""
        await self._tell(
            "finished",
            self.first_id + index,
            name=request.name,
            request=request,
            result=result,
            error=error,
        )

    async def _start(self) -> None:
        if not self._has_started:
            self._has_started = True
            await self._tell("started", self.next_id)

    async def _tell(self, phase: _Phase, call_id: int, **members: Any) -> None:
        if self._callback is not None:
            progress = ToolCallProgress(
                phase=phase, call_id=call_id, round_index=self._round_index, **members
            )
            await tell("on_tool_call", self._callback, progress)
