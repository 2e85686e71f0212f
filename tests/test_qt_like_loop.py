"""Event loops with only the guarantees of asyncio's documentation."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import Any

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async.testing import ModelsFolder
from tests.faults.socket_server import SocketServer, serve_well


class QtLikeLoop(asyncio.SelectorEventLoop):
    """An event loop with timers like qasync's: plain `asyncio.Handle` objects, and no timer at infinity."""

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if when == math.inf:
            raise OverflowError("cannot convert float infinity to integer")
        handle = asyncio.Handle(callback, args, self, context)

        def run_unless_cancelled() -> None:
            if not handle.cancelled():
                handle._run()

        super().call_at(when, run_unless_cancelled)
        return handle


def test_a_connection_works_in_an_event_loop_with_plain_timer_handles() -> None:
    async def use(api_host: str) -> None:
        async with asyncio.timeout(20), AsyncClient(api_host) as client:
            llm = await client.llm.load_new_instance("qwen3-4b")
            assert "".join([piece.content async for piece in llm.respond_stream("Hello")]) == "Hi"
            async with llm.respond_stream("Hello") as answer:
                async for _ in answer:
                    break
            assert await client.llm.list_loaded() == [llm]

    with SocketServer(serve_well) as server, asyncio.Runner(loop_factory=QtLikeLoop) as runner:
        runner.run(use(server.api_host))
    # Only a second connection would show a failed read, because calls and loads are retried on it.
    assert server.connections == 1


def test_an_embedded_server_runs_in_an_event_loop_without_endless_timers(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm("tiny", script="Hello there")

    async def use() -> None:
        async with asyncio.timeout(60), AsyncClient(EmbeddedServer(models.folder, threads=1)) as client:
            llm = await client.llm.load_new_instance("tiny")
            assert str(await llm.respond("Hello")) == "Hello there"
            assert [model.model_key for model in await client.llm.list_downloaded()] == ["tiny"]

    with asyncio.Runner(loop_factory=QtLikeLoop) as runner:
        runner.run(use())
