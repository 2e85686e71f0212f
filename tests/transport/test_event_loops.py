"""Event loops that promise no more than asyncio's documentation says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from lmstudio_async import AsyncClient
from tests.faults.socket_server import SocketServer, serve_well


class PlainHandleLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers are `asyncio.Handle` objects, which can be cancelled and nothing else: as qasync's."""

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)

        def run_unless_cancelled() -> None:
            if not handle.cancelled():
                handle._run()

        super().call_at(when, run_unless_cancelled)
        return handle


def test_a_connection_holds_in_an_event_loop_with_plain_timer_handles() -> None:
    async def use(api_host: str) -> None:
        async with asyncio.timeout(20), AsyncClient(api_host) as client:
            llm = await client.llm.load_new_instance("qwen3-4b")
            assert "".join([piece.content async for piece in llm.respond_stream("Hello")]) == "Hi"
            async for _ in llm.respond_stream("Hello"):
                break
            assert await client.llm.list_loaded() == [llm]

    with SocketServer(serve_well) as server, asyncio.Runner(loop_factory=PlainHandleLoop) as runner:
        runner.run(use(server.api_host))
    # A read that fails would show in a second connection only: calls and loads are repeated on it.
    assert server.connections == 1
