"""A consumer of an answer that stops reading."""

from __future__ import annotations

import anyio

from lmstudio_async import AsyncLLM

__all__ = ["SleepingConsumer"]


class SleepingConsumer:
    """Sleeps after each fragment of its answer, until ``awake`` is set."""

    def __init__(self) -> None:
        self.asleep = anyio.Event()
        self.awake = anyio.Event()
        #: The number of fragments that it has read.
        self.fragments = 0

    async def read(self, llm: AsyncLLM) -> None:
        async for _ in llm.respond_stream("Hello"):
            self.fragments += 1
            self.asleep.set()
            await self.awake.wait()
