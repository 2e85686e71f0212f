"""The async official client, also with concurrent calls."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import anyio
import anyio.to_thread
import pytest
from lmstudio import AsyncClient, LMStudioModelNotFoundError, LMStudioServerError

from tests.official.conftest import ROOM
from tests.official.serving import Served, wait_for_exit, watches_processes


async def loaded(client: AsyncClient) -> list[str]:
    return [model.identifier for model in await client.list_loaded_models()]


async def test_models_are_listed_loaded_described_and_unloaded(async_client: AsyncClient) -> None:
    client = async_client
    assert len(await client.llm.list_downloaded()) == 9
    assert len(await client.embedding.list_downloaded()) == 1
    progress: list[float] = []
    mine = await client.llm.load_new_instance(
        "tiny", "mine", config={"contextLength": 512}, on_load_progress=progress.append
    )
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert (await mine.get_info()).identifier == "mine"
    assert await mine.get_context_length() == 512
    assert (await mine.get_load_config()).to_dict()["contextLength"] == 512
    with pytest.raises(LMStudioServerError, match=r"Model load error.*already exists"):
        await client.llm.load_new_instance("tiny", "mine")
    assert (await client.llm.load_new_instance("tiny")).identifier == "tiny"
    assert (await client.llm.load_new_instance("tiny")).identifier == "tiny:2"
    assert await loaded(client) == ["mine", "tiny", "tiny:2"]
    await mine.unload()
    await client.llm.unload("tiny")
    assert await loaded(client) == ["tiny:2"]
    with pytest.raises(LMStudioModelNotFoundError):
        await mine.unload()


async def test_model_gets_or_loads_an_instance_and_evicts_the_previous_one(async_client: AsyncClient) -> None:
    client = async_client
    tiny = await client.llm.model("tiny")
    assert await client.llm.model("tiny") == tiny == await client.llm.model()
    await client.embedding.model("text-embedding-embed")
    assert await loaded(client) == ["text-embedding-embed"]
    with pytest.raises(LMStudioServerError, match="no-such-model"):
        await client.llm.model("no-such-model")
    with pytest.raises(LMStudioServerError):
        await client.embedding.model("tiny")


async def test_concurrent_calls_of_model_share_one_load(async_client: AsyncClient) -> None:
    async def get() -> None:
        identifiers.append((await async_client.llm.model("big")).identifier)

    identifiers: list[str] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(get)
    assert identifiers == ["big"] * 4
    assert await loaded(async_client) == ["big"]


async def test_instances_loaded_concurrently_get_different_identifiers(async_client: AsyncClient) -> None:
    async def load() -> None:
        identifiers.append((await async_client.llm.load_new_instance("tiny")).identifier)

    identifiers: list[str] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(load)
    assert sorted(identifiers) == sorted(await loaded(async_client)) == ["tiny", "tiny:2", "tiny:3"]


@watches_processes
async def test_an_idle_instance_is_unloaded_after_its_ttl(async_client: AsyncClient, server: Served) -> None:
    before = server.workers()
    await async_client.llm.load_new_instance("tiny", ttl=1)
    # A worker that is not found any more has already ended.
    await anyio.to_thread.run_sync(wait_for_exit, server.workers() - before)
    assert await loaded(async_client) == []


async def test_a_model_responds_in_fragments_completes_and_tokenizes(async_client: AsyncClient) -> None:
    tiny = await async_client.llm.model("tiny")
    async with await tiny.respond_stream("hi") as stream:
        fragments = [fragment.content async for fragment in stream]
    assert "".join(fragments) == stream.result().content == "Hello there, old friend"
    assert (await tiny.complete("Once")).content == "Hello there, old friend"
    assert await tiny.tokenize(["ab", "c"]) == [[97, 98], [99]]
    assert await tiny.count_tokens("abc") == 3
    assert "hi" in await tiny.apply_prompt_template("hi")


async def test_a_cancelled_answer_has_the_stop_reason_user_stopped(async_client: AsyncClient) -> None:
    talker = await async_client.llm.load_new_instance("talker", config=ROOM)
    stream = await talker.respond_stream("hi")
    async for _ in stream:
        await stream.cancel()
    assert stream.result().stats.stop_reason == "userStopped"


async def test_one_instance_answers_concurrently(async_client: AsyncClient) -> None:
    async def ask() -> None:
        answers.append((await tiny.respond("hi")).content)

    tiny = await async_client.llm.load_new_instance("tiny")
    answers: list[str] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(ask)
    assert answers == ["Hello there, old friend"] * 6


async def test_models_act_with_a_tool_and_follow_a_json_schema(async_client: AsyncClient) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    caller = await async_client.llm.load_new_instance("caller")
    messages: list[object] = []
    assert (await caller.act("1 + 2?", [add], on_message=messages.append)).rounds == 2
    assert "The sum is 3." in str(messages[-1])
    dice = await async_client.llm.load_new_instance("dice")
    schema = {
        "type": "object",
        "properties": {"count": {"enum": [1, 2, 3]}},
        "required": ["count"],
        "additionalProperties": False,
    }
    assert (await dice.respond("hi", response_format=schema)).parsed["count"] in (1, 2, 3)


async def test_texts_are_embedded(async_client: AsyncClient) -> None:
    embed = await async_client.embedding.model("text-embedding-embed")
    one, other = await embed.embed(["hello", "goodbye"])
    assert await embed.embed("hello") == pytest.approx(one)
    assert one != pytest.approx(other)
    assert len(await embed.tokenize("abc")) == await embed.count_tokens("abc") + 2


def send_all(processes: Iterable[int], number: int) -> None:
    for process in processes:
        os.kill(process, number)


@watches_processes
async def test_server_cancels_a_load_after_its_client_disconnects(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    before = server.workers()

    async def leave_a_load() -> bool:
        begun = anyio.Event()

        async def load() -> None:
            await client.llm.load_new_instance(
                "huge", on_load_progress=lambda progress: begun.set() if progress > 0 else None
            )

        async with AsyncClient(server.address) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(load)
            await begun.wait()
            # A stopped worker cannot finish the load.
            send_all(workers := server.workers() - before, signal.SIGSTOP)
            in_time = await loaded(other) == []
            tasks.cancel_scope.cancel()
        if in_time:
            assert workers
            await anyio.to_thread.run_sync(wait_for_exit, workers)
        else:
            send_all(workers, signal.SIGCONT)
            await other.llm.unload("huge")
        return in_time

    with anyio.fail_after(60):
        async with AsyncClient(server.address) as other:
            while not await leave_a_load():
                pass
            assert await loaded(other) == []
    # A cancelled task sends no cancel message, so the server reports progress until the connection is closed.
    assert all("already closed channel" in message for message in caplog.messages)
    caplog.clear()
