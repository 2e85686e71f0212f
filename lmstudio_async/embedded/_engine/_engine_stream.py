"""Stream of one answer of the engine: the server-sent events of an HTTP response, one frame each."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias

from lmstudio_async._wire._json import loads
from lmstudio_async.embedded._engine._engine_http_client import EngineConnectionLost, Exchange, request_error

__all__ = ["EngineStream", "Frame"]

#: One JSON object of an answer of the engine, or a JSON object within one.
Frame: TypeAlias = Mapping[str, Any]


class EngineStream:
    """The frames of one answer, as they arrive. At the end of the block the engine stops generating.

    :param begin: sends the request.
    :param raise_gone: raises the reason why the connection ended before the answer was complete.

    ::

        async with engine.complete({"prompt": "Once"}) as frames:
            async for frame in frames:
                print(frame["content"], end="")
    """

    def __init__(
        self,
        begin: Callable[[], Awaitable[Exchange]],
        raise_gone: Callable[[EngineConnectionLost | None], Awaitable[NoReturn]],
    ) -> None:
        self._begin = begin
        self._raise_gone = raise_gone
        self._exchange: Exchange | None = None
        self._frames: deque[dict[str, Any]] = deque()
        self._pending = b""
        self._complete = False

    async def __aenter__(self) -> Self:
        self._exchange = await self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; the engine stops generating for it. Idempotent."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._frames:
            if self._complete or self._exchange is None:
                raise StopAsyncIteration
            try:
                piece = await self._exchange.receive()
            except EngineConnectionLost as error:
                await self._raise_gone(error)
            if piece is None:
                await self._raise_gone(None)
            self._feed(piece)
        frame = self._frames.popleft()
        if "error" in frame:
            raise request_error(500, frame)
        return frame

    def _feed(self, chunk: bytes) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: "):
                continue  # the empty line after an event, or a comment that keeps the connection alive
            if line.startswith(b"data: [DONE]"):
                self._complete = True
                continue
            frame = loads(line[6:].decode())
            self._frames.append(frame)
            self._complete = frame.get("stop") is True or "error" in frame
