"""Blocks with a handle: the end of the last one unloads the instance, if this client has loaded it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncEmbeddingModel,
    LMStudioInstanceUnloadedError,
)
from tests.lifecycle.conftest import ROOM, NewClient, in_process
from tests.processes import HeldLoads, workers
from tests.spans import collected
from tests.sync.programs import program

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


async def loaded(client: AsyncClient) -> list[str]:
    return [model.identifier for model in await client.list_loaded_models()]


async def test_the_end_of_a_block_unloads_a_new_instance(client: AsyncClient) -> None:
    loading = await client.llm.load_new_instance(LLAMA)
    async with loading as llm:
        assert llm is loading
        assert str(await llm.respond("Why?")) == "Forty-two, as everybody knows."

    assert await loaded(client) == []
    assert workers() == set()


async def test_the_end_of_a_block_unloads_an_embedding_model(client: AsyncClient) -> None:
    async with await client.embedding.load_new_instance(NOMIC, "vectors") as model:
        assert isinstance(model, AsyncEmbeddingModel)
        assert len(await model.embed("Hello")) > 0

    assert await loaded(client) == []


@in_process
async def test_the_end_of_a_block_unloads_the_result_of_a_load_stream(client: AsyncClient) -> None:
    async with client.llm.load_new_instance_stream(LLAMA) as loading:
        llm = await loading.wait_for_result()
    async with llm:
        assert await loaded(client) == [LLAMA]

    assert await loaded(client) == []


@in_process
async def test_the_end_of_a_block_unloads_an_instance_of_a_downloaded_model(client: AsyncClient) -> None:
    [model] = [each for each in await client.llm.list_downloaded() if each.model_key == LLAMA]
    async with await model.load_new_instance(instance_identifier="mine"):
        assert await loaded(client) == ["mine"]

    assert await loaded(client) == []


async def test_model_unloads_at_the_end_what_it_has_loaded(client: AsyncClient) -> None:
    async with await client.llm.model(LLAMA) as llm:
        assert await loaded(client) == [llm.identifier]

    assert await loaded(client) == []


async def test_model_does_not_unload_an_instance_that_it_has_found(new_client: NewClient) -> None:
    async with new_client() as client, new_client() as other:
        await other.llm.load_new_instance(LLAMA)
        async with await client.llm.model(LLAMA):
            pass

        assert await loaded(other) == [LLAMA]


async def get_by_listing(client: AsyncClient) -> Any:
    return (await client.llm.list_loaded())[0]


async def get_by_listing_all(client: AsyncClient) -> Any:
    return (await client.list_loaded_models())[0]


async def get_by_instance(client: AsyncClient) -> Any:
    return (await client.list_instances())[0].handle()


async def get_by_identifier(client: AsyncClient) -> Any:
    return await client.llm.model(LLAMA)


async def get_by_ensuring(client: AsyncClient) -> Any:
    return await client.llm.ensure_instance(LLAMA)


async def get_any(client: AsyncClient) -> Any:
    return await client.llm.model()


@in_process
@pytest.mark.parametrize(
    "get", [get_by_listing, get_by_listing_all, get_by_instance, get_by_identifier, get_by_ensuring, get_any]
)
async def test_only_the_handle_of_the_load_unloads(
    client: AsyncClient, get: Callable[[AsyncClient], Awaitable[Any]]
) -> None:
    mine = await client.llm.load_new_instance(LLAMA)
    async with await get(client) as found:
        assert found == mine
    assert await loaded(client) == [LLAMA]

    async with mine:
        pass
    assert await loaded(client) == []


@in_process
async def test_a_handle_that_is_not_entered_unloads_nothing(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA)

    assert await loaded(client) == [LLAMA]


# -- several blocks


@in_process
async def test_the_last_of_several_blocks_unloads(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(LLAMA)
    async with await client.llm.model(LLAMA), mine:
        async with mine:
            pass
        assert await loaded(client) == [LLAMA]

    assert await loaded(client) == []


@in_process
async def test_the_block_of_a_found_handle_keeps_the_instance_until_its_end(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(LLAMA)
    async with await client.llm.model(LLAMA) as found:
        async with mine:
            pass
        assert str(await found.respond("Why?")) == "Forty-two, as everybody knows."

    assert await loaded(client) == []


async def test_tasks_that_share_a_load_unload_once_at_the_end_of_the_last(client: AsyncClient) -> None:
    answers: list[str] = []

    async def ask(question: str) -> None:
        async with await client.llm.model(LLAMA) as llm:
            answers.append(str(await llm.respond(question)))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, f"Question {number}?")

    assert answers == ["Forty-two, as everybody knows."] * 5
    assert await loaded(client) == []


@in_process
async def test_a_handle_cannot_be_entered_again_after_its_instance_is_gone(client: AsyncClient) -> None:
    async with await client.llm.load_new_instance(LLAMA) as llm:
        pass

    for _ in range(2):
        with pytest.raises(LMStudioInstanceUnloadedError, match="unloaded"):
            async with llm:
                pytest.fail("the block began")


@in_process
async def test_a_found_handle_can_be_entered_again_while_its_instance_is_there(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA)
    llm = await client.llm.model(LLAMA)
    for _ in range(2):
        async with llm:
            assert await loaded(client) == [LLAMA]


# -- exits


async def test_an_exception_of_the_block_is_raised_after_the_unload(client: AsyncClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with await client.llm.load_new_instance(LLAMA):
            raise ZeroDivisionError

    assert await loaded(client) == []


async def test_a_cancellation_in_the_block_unloads(client: AsyncClient) -> None:
    async with anyio.create_task_group() as tasks, await client.llm.load_new_instance(LLAMA):
        tasks.cancel_scope.cancel()
        await anyio.sleep_forever()

    assert await loaded(client) == []


async def test_a_timeout_around_the_block_unloads(client: AsyncClient) -> None:
    with anyio.move_on_after(3600) as limit:
        async with await client.llm.load_new_instance(LLAMA):
            limit.deadline = anyio.current_time()
            await anyio.sleep_forever()

    assert await loaded(client) == []


@in_process
async def test_the_span_of_the_unload_is_below_the_span_of_the_task(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = collected(monkeypatch)
    with spans.own("request"):
        async with await client.llm.load_new_instance(LLAMA):
            pass

    assert spans.parent_of(spans.one("lmstudio.unload")) == "request"


async def test_an_unload_in_the_block_makes_its_end_do_nothing(client: AsyncClient) -> None:
    async with await client.llm.load_new_instance(LLAMA) as llm:
        await llm.unload()

    assert await loaded(client) == []


async def test_the_end_of_a_block_never_unloads_another_instance_of_the_identifier(
    new_client: NewClient,
) -> None:
    async with new_client() as client, new_client() as other:
        async with await client.llm.load_new_instance(LLAMA, "assistant"):
            await other.llm.unload("assistant")
            new = await other.llm.load_new_instance(QWEN, "assistant")

        assert await other.llm.list_loaded() == [new]


async def test_the_end_of_a_block_ends_a_running_prediction_with_the_text_so_far(
    client: AsyncClient,
) -> None:
    async with await client.llm.load_new_instance("talker", config=ROOM) as talker:
        stream = await talker.respond_stream("Go")
        first = await anext(stream)

    result = await stream.wait_for_result()
    assert result.content.startswith(first.content)
    assert result.stats.stop_reason == "modelUnloaded"
    assert await loaded(client) == []
    assert workers() == set()


async def test_a_client_that_closes_unloads_the_instances_of_open_blocks(new_client: NewClient) -> None:
    async with new_client() as other, new_client() as client:
        mine = await client.llm.load_new_instance(LLAMA)
        async with mine, await client.llm.model(LLAMA):
            await client.aclose()
            assert await loaded(other) == []


async def test_a_client_that_closes_keeps_instances_that_it_has_not_loaded(new_client: NewClient) -> None:
    async with new_client() as other, new_client() as client:
        await other.llm.load_new_instance(LLAMA)
        async with await client.llm.model(LLAMA):
            await client.aclose()

        assert await loaded(other) == [LLAMA]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a single process")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_in_the_block_unloads(backend: str) -> None:
    code = """
        import anyio
        from lmstudio_async import AsyncClient

        server = QuietServer(finishes_loads=True)

        async def main():
            async with AsyncClient(server) as client:
                async with await client.llm.load_new_instance("qwen3-4b"):
                    say("in the block")
                    await anyio.sleep_forever()

        try:
            anyio.run(main, backend=sys.argv[1])
        except KeyboardInterrupt:
            say("interrupted", *server.calls())
    """
    with program(code, backend, warnings="error") as running:
        running.wait_for("in the block")
        running.interrupt()
        running.wait_for("interrupted loadModel getModelInfo unloadModel")
        assert running.finish() == (0, []), running.errors()


@in_process
async def test_a_load_that_is_cancelled_in_the_header_of_the_block_leaves_nothing(
    client: AsyncClient, held_loads: HeldLoads
) -> None:
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            async with await client.llm.load_new_instance(LLAMA):
                pytest.fail("the block began")

        tasks.start_soon(work)
        await held_loads.next()
        tasks.cancel_scope.cancel()
    held_loads.let_go()

    assert await loaded(client) == []


@in_process
async def test_no_registry_of_blocks_remains_after_their_end(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(LLAMA)
    async with mine, await client.llm.model(LLAMA):
        assert len(client._journal.scoped) == 1
    with pytest.raises(LMStudioInstanceUnloadedError):
        await mine.__aenter__()

    assert client._journal.scoped == {}
