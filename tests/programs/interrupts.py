"""Programs that are ended by Ctrl-C in the middle of their work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import anyio

from lmstudio_async import AsyncClient, LlmLoadModelConfigDict
from tests.programs.answers import Place

ROOM: LlmLoadModelConfigDict = {"context_length": 65536}


def press_ctrl_c() -> None:
    """Press Ctrl-C as a terminal does: the signal goes to the process, and the main thread has not sent it."""
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()


async def read_an_answer(place: Place) -> None:
    async with AsyncClient(place) as client:
        llm = await client.llm.model("talker", config=ROOM)
        is_first = True
        async for _ in llm.respond_stream("Go"):
            if is_first:
                press_ctrl_c()
            is_first = False


async def keep_an_answer_and_wait_for_something_else(place: Place) -> None:
    async with AsyncClient(place) as client:
        llm = await client.llm.model("talker", config=ROOM)
        stream = await llm.respond_stream("Go")
        await anext(stream)
        press_ctrl_c()
        await anyio.sleep_forever()


def ctrl_c_half_way() -> Callable[[float], None]:
    """Return a callback for the progress of a load that presses Ctrl-C once, when the load has advanced."""
    pressed: list[float] = []

    def look(fraction: float) -> None:
        if fraction and not pressed:
            pressed.append(fraction)
            press_ctrl_c()

    return look


async def wait_for_a_load(place: Place) -> None:
    async with AsyncClient(place) as client:
        await client.llm.load_new_instance("big", on_progress=ctrl_c_half_way())


async def wait_for_a_load_that_another_task_waits_for_as_well(place: Place) -> None:
    async with AsyncClient(place) as client:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.llm.model, "big")
                await client.llm.model("big", on_progress=ctrl_c_half_way())
        except* KeyboardInterrupt:
            # trio raises it in one of the group's tasks, asyncio out of its event loop.
            pass
    raise KeyboardInterrupt
