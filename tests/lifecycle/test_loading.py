"""Loading and getting models with a client, in process and over a socket."""

from __future__ import annotations

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    LMStudioDomainMismatchError,
    LMStudioIdentifierInUseError,
    LMStudioModelNotFoundError,
)
from tests.processes import workers

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


async def test_two_instances_of_a_model_answer_side_by_side(client: AsyncClient) -> None:
    llama = await client.llm.load_new_instance(LLAMA)
    another_llama = await client.llm.load_new_instance(LLAMA, "second-llama")

    assert [llm.identifier for llm in await client.llm.list_loaded()] == [LLAMA, "second-llama"]
    assert llama != another_llama
    assert llama.info.model_key == another_llama.info.model_key == LLAMA
    assert str(await llama.respond("Why?")) == str(await another_llama.respond("Why?"))
    assert len(workers()) == 2


async def test_an_identifier_in_use_is_refused_and_its_instance_stays(client: AsyncClient) -> None:
    llama = await client.llm.load_new_instance(LLAMA, "mine")

    with pytest.raises(LMStudioIdentifierInUseError, match="mine"):
        await client.llm.load_new_instance(QWEN, "mine")

    assert await client.llm.list_loaded() == [llama]


async def test_without_an_identifier_the_server_numbers_the_instances(client: AsyncClient) -> None:
    names = [(await client.llm.load_new_instance(QWEN)).identifier for _ in range(3)]

    assert names == [QWEN, f"{QWEN}:2", f"{QWEN}:3"]


async def test_an_identifier_is_free_again_after_unloading(client: AsyncClient) -> None:
    first = await client.llm.load_new_instance(QWEN)
    await first.unload()
    second = await client.llm.load_new_instance(QWEN)

    assert first.identifier == second.identifier == QWEN
    assert first != second


async def test_model_without_a_key_returns_a_loaded_instance(client: AsyncClient) -> None:
    await client.embedding.load_new_instance(NOMIC)
    llama = await client.llm.load_new_instance(LLAMA, "mine")

    assert await client.llm.model() == llama


async def test_model_without_a_key_never_loads(client: AsyncClient) -> None:
    await client.embedding.load_new_instance(NOMIC)

    with pytest.raises(LMStudioModelNotFoundError, match="without a key loads none"):
        await client.llm.model()

    assert await client.llm.list_loaded() == []


async def test_model_loads_a_model_without_instances(client: AsyncClient) -> None:
    llama = await client.llm.model(LLAMA)

    assert llama.identifier == LLAMA
    assert await client.llm.list_loaded() == [llama]


async def test_model_returns_a_loaded_instance_unchanged(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(LLAMA, ttl=7200, config={"context_length": 512})

    same = await client.llm.model(LLAMA, ttl=60, config={"context_length": 1024})

    assert same == mine
    assert same.info.ttl == 7200
    assert await same.get_context_length() == 512


async def test_model_finds_an_instance_by_its_identifier(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(LLAMA, "second-llama")

    assert await client.llm.model("second-llama") == mine


async def test_concurrent_calls_of_model_share_one_load(client: AsyncClient) -> None:
    handles = []

    async def get() -> None:
        handles.append(await client.llm.model(LLAMA))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(get)
        tasks.start_soon(get)

    assert handles[0] == handles[1]
    assert len(workers()) == 1


async def test_a_just_in_time_load_evicts_the_previous_one(client: AsyncClient) -> None:
    stays = await client.llm.load_new_instance(QWEN, "explicit")
    goes = await client.llm.model(LLAMA)

    embedding = await client.embedding.model(NOMIC)

    assert await client.list_loaded_models() == [stays, embedding]
    with pytest.raises(LMStudioModelNotFoundError):
        await goes.get_info()


@pytest.mark.parametrize("method", ["load_new_instance", "model"])
async def test_a_model_of_the_other_kind_is_refused(client: AsyncClient, method: str) -> None:
    with pytest.raises(LMStudioDomainMismatchError, match="Use the embedding namespace"):
        await getattr(client.llm, method)(NOMIC)
    with pytest.raises(LMStudioDomainMismatchError, match="Use the llm namespace"):
        await getattr(client.embedding, method)(LLAMA)


@pytest.mark.parametrize("method", ["load_new_instance", "model"])
async def test_error_for_an_unknown_key_lists_the_known_ones(client: AsyncClient, method: str) -> None:
    with pytest.raises(LMStudioModelNotFoundError, match="llama-3.2-1b-instrukt") as caught:
        await getattr(client.llm, method)("llama-3.2-1b-instrukt")

    assert LLAMA in caught.value.candidates
    assert LLAMA in str(caught.value)
