"""Packets for the tool calls that the engine has parsed, and for those that were found in the text."""

from __future__ import annotations

import json
import math
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmstudio_async._protocol._errors import error_to_wire, server_error
from lmstudio_async._wire._predict import (
    ToolCallGenerationArgumentFragmentGenerated,
    ToolCallGenerationEnd,
    ToolCallGenerationFailed,
    ToolCallGenerationNameReceived,
    ToolCallGenerationStart,
    ToolCallRequest,
)
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._prediction._call_finder import BrokenCall, CallArguments, CallEnd, CallName
from lmstudio_async.embedded._prediction._template_messages import ToolNames

__all__ = ["ToolCallPackets"]

Delta = Mapping[str, Any]


class ToolCallPackets:
    """The tool calls of an answer, one after the other, with their arguments in pieces.

    :ivar any: whether there was a call.
    :ivar any_whole: whether there was a call with valid arguments.
    """

    def __init__(self, names: ToolNames) -> None:
        self.any = self.any_whole = False
        self._names = names
        # The index, the identifier and the name of the open call.
        self._open: tuple[int | None, str | None, str] | None = None
        self._arguments = ""

    def feed(self, deltas: Sequence[Delta]) -> Iterator[WireObject]:
        """Add parts of calls that the engine has streamed."""
        for delta in deltas:
            function = delta.get("function") or {}
            index = int(delta.get("index", 0))
            if self._open is None or self._open[0] != index:
                yield from self._begin(index, delta.get("id"), str(function.get("name", "")))
            if piece := function.get("arguments"):
                yield self._add(piece)

    def feed_found(self, found: CallName | CallArguments | CallEnd | BrokenCall) -> Iterator[WireObject]:
        """Add a part of a call that was found in the text."""
        match found:
            case CallName(name):
                yield from self._begin(None, _new_id(), name)
            case CallArguments(text):
                yield self._add(text)
            case CallEnd(raw):
                yield from self.finish(raw)
            case BrokenCall(raw) if self._open is None:
                yield ToolCallGenerationStart()
                yield self._failure(
                    "The model made a tool call that fits none of the tools in the request.", raw
                )
            case BrokenCall(raw):
                yield self._broken_off(self._open[2], raw)
                self._open, self._arguments = None, ""

    def finish(self, raw: str | None = None) -> Iterator[WireObject]:
        """End the open call, whether it is complete or not.

        :param raw: the text of the call, if that is more than its arguments.
        """
        if self._open is None:
            return
        (_, call_id, name), text = self._open, self._arguments
        self._open, self._arguments = None, ""
        raw = text if raw is None else raw
        try:
            arguments = json.loads(text or "{}", parse_float=_finite, parse_constant=_finite)
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            self.any_whole = True
            request = ToolCallRequest(id=call_id, name=name, arguments=arguments)
            yield ToolCallGenerationEnd(tool_call_request=request, raw_content=raw)
        else:
            yield self._broken_off(name, raw)

    def _begin(self, index: int | None, call_id: str | None, renamed: str) -> Iterator[WireObject]:
        yield from self.finish()
        name = self._names.original(renamed)
        self._open = (index, call_id, name)
        self.any = True
        yield ToolCallGenerationStart(tool_call_id=call_id)
        yield ToolCallGenerationNameReceived(name=name)

    def _add(self, piece: str) -> WireObject:
        self._arguments += piece
        return ToolCallGenerationArgumentFragmentGenerated(content=piece)

    def _broken_off(self, name: str, raw: str) -> WireObject:
        return self._failure(
            f'The call of the tool "{name}" broke off: its arguments are not a JSON object.', raw
        )

    def _failure(self, title: str, raw: str) -> WireObject:
        return ToolCallGenerationFailed(error=error_to_wire(server_error(title)), raw_content=raw)


def _new_id() -> str:
    """Make an identifier that all chat templates accept: some require exactly nine letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


def _finite(number: str) -> float:
    """Return a number; reject one such as 1e999, because JSON cannot represent infinity.

    :raises ValueError: the number is not finite.
    """
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not finite")
    return value
