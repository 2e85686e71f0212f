"""Context variables of the calling thread: callbacks and tools see them, wherever the caller itself runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
import trio

import lmstudio_sync as lms

pytestmark = pytest.mark.usefixtures("nothing_loaded")

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


def add_in(seen: list[str]) -> Callable[[int, int], int]:
    """Return a tool that records the `request_id` of its caller."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        seen.append(request_id.get())
        return a + b

    return add


def add_asynchronously_in(seen: list[str]) -> Callable[..., object]:
    """Return an async tool that records the `request_id` of its caller."""

    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        await anyio.lowlevel.checkpoint()
        seen.append(request_id.get())
        return a + b

    return add


@pytest.mark.parametrize("make_tool", [add_in, add_asynchronously_in])
def test_a_tool_sees_the_context_of_the_caller(
    client: lms.Client, make_tool: Callable[[list[str]], Callable[..., object]]
) -> None:
    seen: list[str] = []
    tool = make_tool(seen)
    llm = client.llm.model("tools")

    def act(request: str) -> None:
        request_id.set(request)
        llm.act("What is 1 + 2?", [tool])

    for request in ("first", "second"):
        contextvars.copy_context().run(act, request)
    llm.act("What is 1 + 2?", [tool])

    assert seen == ["first", "second", "none"]


def test_plain_and_async_callbacks_see_the_context_of_the_caller(client: lms.Client) -> None:
    seen: list[str] = []

    def note(_: object) -> None:
        seen.append(request_id.get())

    async def note_asynchronously(_: object) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(request_id.get())

    def call() -> None:
        request_id.set("mine")
        client.llm.load_new_instance("llama-3.2-1b-instruct", on_progress=note_asynchronously)
        llm = client.llm.model("llama-3.2-1b-instruct", on_progress=note)
        llm.respond("hi", on_prediction_fragment=note_asynchronously, on_message=note)
        for _ in llm.respond_stream("hi", on_prediction_fragment=note_asynchronously):
            pass

    contextvars.copy_context().run(call)
    assert set(seen) == {"mine"}


def test_each_thread_has_its_own_context(client: lms.Client) -> None:
    llm = client.llm.model("tools")
    together = threading.Barrier(2)

    def act(request: str) -> list[str]:
        request_id.set(request)
        seen: list[str] = []
        together.wait()
        for _ in range(5):
            llm.act("What is 1 + 2?", [add_in(seen)])
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(act, ["one", "two"])) == [["one"] * 5, ["two"] * 5]


def test_a_variable_set_by_an_async_callback_is_unknown_to_the_caller_and_to_the_next_call(
    client: lms.Client,
) -> None:
    async def on_progress(_: float) -> None:
        await anyio.lowlevel.checkpoint()
        request_id.set("the callback's")

    async def look() -> str:
        return request_id.get()

    client.llm.load_new_instance("llama-3.2-1b-instruct", on_progress=on_progress)
    assert request_id.get() == "none"
    assert client._bridge.call(look()) == "none"


def test_a_context_is_not_kept_after_its_call(client: lms.Client) -> None:
    async def look() -> str:
        return request_id.get()

    def call() -> str:
        request_id.set("mine")
        return client._bridge.call(look())

    assert contextvars.copy_context().run(call) == "mine"
    assert client._bridge.call(look()) == "none"


@pytest.mark.parametrize("program", ["asyncio", "trio"])
@pytest.mark.parametrize("place", ["the event loop", "a worker thread"])
def test_a_call_inside_another_event_loop_uses_the_context_of_the_caller(
    client: lms.Client, program: str, place: str
) -> None:
    def call() -> list[str]:
        seen: list[str] = []
        request_id.set("mine")
        client.llm.model("tools").act("What is 1 + 2?", [add_asynchronously_in(seen), add_later])
        return seen

    def add_later(text: str) -> str:
        """Never asked for."""
        return text

    async def main() -> list[str]:
        if place == "the event loop":
            return call()
        return await anyio.to_thread.run_sync(call)

    assert anyio.run(main, backend=program) == ["mine"]
    run = asyncio.run(main()) if program == "asyncio" else trio.run(main)
    assert run == ["mine"]
