"""Known faults of the official package in what answers are about, one test for each, showing that we do not have it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    LMStudioCancelledError,
    LMStudioChannelClosedError,
    LMStudioConfigError,
)
from tests.chat.shapes import Shelf
from tests.scripted_server import ScriptedServer, loaded_llm

Both = tuple[AsyncClient, ScriptedServer]


async def break_out(llm: AsyncLLM) -> None:
    with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031
        async for _ in llm.respond_stream("Hi"):
            break
        gc.collect()


async def leave_the_block(llm: AsyncLLM) -> None:
    async with llm.complete_stream("Hi") as stream:
        await anext(stream)


async def run_out_of_time(llm: AsyncLLM) -> None:
    with anyio.move_on_after(3600) as scope:
        await llm.respond("Hi", on_first_token=scope.cancel)
    assert scope.cancelled_caught


async def raise_in_the_loop(llm: AsyncLLM) -> None:
    with pytest.raises(KeyError):
        async with llm.respond_stream("Hi") as stream:
            async for _ in stream:
                raise KeyError


@pytest.mark.parametrize("leave", [break_out, leave_the_block, run_out_of_time, raise_in_the_loop])
async def test_1_whoever_leaves_an_answer_stops_it_on_the_server(
    both: Both, leave: Callable[[AsyncLLM], Coroutine[Any, Any, None]]
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave, llm)
            channel = await server.next_message()
            await server.packet(channel, type="fragment", fragment={"content": "Hi"})
            assert (await server.next_message())["message"] == {"type": "cancel"}
            await server.packet(channel, type="success", stats={"stopReason": "userStopped"})


async def test_1_an_answer_that_was_left_says_so_in_an_error_of_ours(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = llm.respond_stream("Hi")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.start)
        channel = await server.next_message()
        tasks.start_soon(stream.aclose)
        await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "userStopped"})

    # The official one raises the loop's own GeneratorExit, which no `except Exception` catches.
    with pytest.raises(LMStudioCancelledError):
        stream.result()


@pytest.mark.parametrize("typo", ["temprature", "maxTokns", "raw_tool"])
async def test_12_a_misspelt_setting_is_refused(both: Both, typo: str) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with pytest.raises(LMStudioConfigError, match="Did you mean"):
        await llm.respond("Hi", config={typo: 1})  # type: ignore[arg-type]


async def test_13_false_switches_a_setting_off(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    config: Any = {
        "max_tokens": False,
        "topPSampling": False,
        "repeat_penalty": False,
        "min_p_sampling": False,
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: llm.respond("Hi", config=config))
        channel = await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})

    (layer,) = channel["creationParameter"]["predictionConfigStack"]["layers"]
    assert len(layer["config"]["fields"]) == len(config)
    for field in layer["config"]["fields"]:
        assert field["value"]["checked"] is False
        assert field["value"]["value"] is not False


async def test_16_an_answer_that_the_server_ends_without_a_result_is_its_own_error(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:

        async def respond() -> None:
            with pytest.raises(LMStudioChannelClosedError, match="without a result"):
                await llm.respond("Hi")

        tasks.start_soon(respond)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hi"})
        await server.close(channel)


async def test_21_what_a_schema_refers_to_is_sent_with_it(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = llm.respond_stream("Hi", response_format=Shelf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.wait_for_result)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": '{"books": [], "color": "green"}'})
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})

    (layer,) = channel["creationParameter"]["predictionConfigStack"]["layers"]
    (field,) = layer["config"]["fields"]
    schema = field["value"]["jsonSchema"]
    assert schema["properties"]["books"]["items"] == {"$ref": "#/$defs/Book"}
    assert schema["$defs"].keys() == {"Book", "Author"}
    assert schema["properties"]["color"]["enum"] == ["red", "green"]
    # And what comes back is the enum, not its value.
    assert stream.result().parsed.color.name == "GREEN"
