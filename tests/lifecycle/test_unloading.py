"""Unloading: by handle, by identifier, twice, and during an answer."""

from __future__ import annotations

import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    LMStudioDomainMismatchError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioValueError,
)
from tests.lifecycle.conftest import ROOM
from tests.processes import workers

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


async def test_a_handle_unloads_its_instance(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA)
    llm = await client.llm.model()

    await llm.unload()

    assert await client.llm.list_loaded() == []
    assert workers() == set()


async def test_instances_are_unloaded_by_identifier_without_a_handle(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA)
    await client.llm.load_new_instance(LLAMA, "second-llama")
    await client.embedding.load_new_instance(NOMIC, "vectors")

    await client.llm.unload(LLAMA)
    assert [model.identifier for model in await client.list_loaded_models()] == ["second-llama", "vectors"]
    await client.llm.unload("second-llama")
    await client.embedding.unload("vectors")

    assert await client.list_loaded_models() == []
    assert workers() == set()


async def test_unloading_twice_raises(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA)
    await llm.unload()

    with pytest.raises(LMStudioInstanceUnloadedError):
        await llm.unload()
    with pytest.raises(LMStudioModelNotFoundError, match=LLAMA):
        await client.llm.unload(LLAMA)


async def test_error_for_an_unknown_identifier_lists_the_loaded_ones(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA, "second-llama")

    with pytest.raises(LMStudioModelNotFoundError, match="third-llama") as caught:
        await client.llm.unload("third-llama")

    assert caught.value.candidates == ["second-llama"]


async def test_an_instance_of_the_other_kind_is_not_unloaded(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA)

    with pytest.raises(LMStudioDomainMismatchError):
        await client.embedding.unload(LLAMA)

    assert await client.llm.list_loaded() == [llm]


async def test_error_of_unload_with_a_handle_names_the_method_of_the_handle(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA)

    with pytest.raises(LMStudioValueError, match=r"A handle has an unload\(\) of its own"):
        await client.llm.unload(llm)  # type: ignore[arg-type]


async def test_a_handle_never_drives_another_instance_with_its_identifier(client: AsyncClient) -> None:
    old = await client.llm.load_new_instance(LLAMA, "assistant")
    await old.unload()
    new = await client.llm.load_new_instance(QWEN, "assistant")

    with pytest.raises(LMStudioInstanceUnloadedError):
        await old.respond("Why?")
    with pytest.raises(LMStudioInstanceUnloadedError):
        await old.unload()

    assert str(await new.respond("Who are you?")) == "Hello there"


async def test_every_call_on_an_unloaded_instance_raises(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA)
    await llm.unload()

    for call in (
        lambda: llm.respond("Why?"),
        lambda: llm.complete("Once"),
        lambda: llm.tokenize("Once"),
        lambda: llm.count_tokens("Once"),
        llm.get_info,
        llm.get_load_config,
        llm.get_context_length,
    ):
        with pytest.raises(LMStudioInstanceUnloadedError):
            await call()
    assert llm.identifier == LLAMA


async def test_unloading_ends_an_answer_with_the_content_so_far(client: AsyncClient) -> None:
    talker = await client.llm.load_new_instance("talker", config=ROOM)
    async with talker.respond_stream("Go") as stream:
        first = await anext(stream)
        await client.llm.unload("talker")
        async for _ in stream:
            pass
        result = await stream.wait_for_result()

    assert result.content.startswith(first.content)
    assert result.stats.stop_reason == "modelUnloaded"
    assert await client.llm.list_loaded() == []


async def test_leaving_the_block_of_a_finished_load_keeps_the_instance(client: AsyncClient) -> None:
    async with client.llm.load_new_instance_stream(LLAMA) as loading:
        llm: AsyncLLM = await loading.wait_for_result()

    assert await client.llm.list_loaded() == [llm]
