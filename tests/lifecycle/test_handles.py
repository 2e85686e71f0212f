"""Handles and lists: their info, their equality, and the instances that they refer to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncDownloadedEmbeddingModel,
    AsyncDownloadedLlm,
    AsyncEmbeddingModel,
    AsyncLLM,
    EmbeddingModelInstanceInfo,
    LlmInstanceInfo,
    LMStudioModelNotFoundError,
    LMStudioValueError,
    ModelQuery,
)
from tests.lifecycle.conftest import NewClient, in_process
from tests.scripted_server import INSTANCE, ScriptedServer

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


# -- handles


async def test_handles_of_one_instance_from_any_call_are_equal(
    client: AsyncClient, new_client: NewClient
) -> None:
    loaded = await client.llm.load_new_instance(LLAMA)
    async with new_client() as other_client:
        handles = {
            loaded,
            await client.llm.model(),
            await client.llm.model(LLAMA),
            *await client.llm.list_loaded(),
            *await other_client.llm.list_loaded(),
        }

    assert handles == {loaded}
    assert loaded != await client.llm.load_new_instance(LLAMA)
    assert loaded != loaded.identifier


@in_process
async def test_repr_of_a_handle_shows_its_identifier(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine")
    embedding = await client.embedding.load_new_instance(NOMIC)

    assert repr(llm) == "AsyncLLM(identifier='mine')"
    assert repr(embedding) == f"AsyncEmbeddingModel(identifier={NOMIC!r})"


async def test_a_handle_holds_the_info_from_the_server(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine", config={"context_length": 512})

    info = llm.info
    assert isinstance(info, LlmInstanceInfo)
    assert (info.type, info.identifier, info.model_key) == ("llm", "mine", LLAMA)
    assert info.path.endswith("Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    assert info.quantization is not None
    assert info.quantization.name == "Q4_K_M"
    assert (info.context_length, info.max_context_length) == (512, 2048)
    assert info == await llm.get_info()


# -- lists


async def test_loaded_models_are_listed_by_kind_and_together(client: AsyncClient) -> None:
    assert await client.list_loaded_models() == []
    llama = await client.llm.load_new_instance(LLAMA)
    embedding = await client.embedding.load_new_instance(NOMIC)

    assert await client.llm.list_loaded() == await client.list_loaded_models("llm") == [llama]
    assert await client.embedding.list_loaded() == await client.list_loaded_models("embedding") == [embedding]
    assert await client.list_loaded_models() == [llama, embedding]
    assert isinstance(llama, AsyncLLM)
    assert isinstance(embedding, AsyncEmbeddingModel)


async def test_downloaded_models_are_listed_by_kind_and_together(client: AsyncClient) -> None:
    llms = await client.llm.list_downloaded()
    embeddings = await client.embedding.list_downloaded()
    everything = await client.system.list_downloaded_models()

    assert {model.model_key for model in llms} == {LLAMA, QWEN, "talker", "big"}
    assert [model.model_key for model in embeddings] == [NOMIC]
    assert set(everything) == {*llms, *embeddings}
    assert everything == await client.list_downloaded_models()
    assert set(await client.list_downloaded_models("llm")) == set(llms)
    assert await client.list_downloaded_models("embedding") == embeddings
    assert {type(model) for model in everything} == {AsyncDownloadedLlm, AsyncDownloadedEmbeddingModel}


async def test_a_downloaded_model_can_be_loaded(client: AsyncClient) -> None:
    downloaded = {model.model_key: model for model in await client.llm.list_downloaded()}

    mine = await downloaded[LLAMA].load_new_instance(instance_identifier="mine", ttl=60)
    same = await downloaded[LLAMA].model()

    assert mine == same
    assert (mine.identifier, mine.info.ttl) == ("mine", 60)
    assert mine.info.path == downloaded[LLAMA].path


@in_process
async def test_an_unknown_namespace_is_refused(client: AsyncClient) -> None:
    with pytest.raises(LMStudioValueError, match="'llm', 'embedding' or None"):
        await client.list_loaded_models("llms")  # type: ignore[call-overload]


# -- info


@in_process
@pytest.mark.parametrize(
    "specifier",
    [
        "mine",
        ModelQuery(identifier="mine"),
        {"identifier": "mine"},
        {"domain": "llm", "path": "lmstudio-community/Llama-3.2-1B-Instruct-GGUF"},
        {"type": "query", "query": {"identifier": "mine"}},
    ],
    ids=str,
)
async def test_get_model_info_takes_any_form_of_specifier(client: AsyncClient, specifier: Any) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine")
    await client.llm.load_new_instance(QWEN)

    assert await client.llm.get_model_info(specifier) == llm.info


@in_process
async def test_embedding_instances_have_an_info_of_their_own(client: AsyncClient) -> None:
    await client.embedding.load_new_instance(NOMIC)

    info = await client.embedding.get_model_info(NOMIC)

    assert isinstance(info, EmbeddingModelInstanceInfo)
    assert info.type == "embedding"


async def test_error_for_an_unknown_instance_lists_the_loaded_ones(
    client: AsyncClient,
) -> None:
    await client.llm.load_new_instance(LLAMA, "mine")

    with pytest.raises(LMStudioModelNotFoundError, match="(?s)yours.*mine"):
        await client.llm.get_model_info("yours")


# -- device: with a scripted server, because the embedded server has no devices


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda client: client.llm.load_new_instance("qwen3-4b", device="desk"), ["creationParameter"]),
        (lambda client: client.llm.model("qwen3-4b", device="desk"), ["creationParameter"]),
        (lambda client: client.llm.model(device="desk"), ["parameter", "specifier", "query"]),
        (lambda client: client.llm.unload("qwen3-4b", device="desk"), ["parameter"]),
        (
            lambda client: client.llm.get_model_info("qwen3-4b", device="desk"),
            ["parameter", "specifier", "query"],
        ),
    ],
    ids=["load_new_instance", "model", "model without a key", "unload", "get_model_info"],
)
async def test_a_device_is_sent_to_the_server(call: Callable[[AsyncClient], Any], where: list[str]) -> None:
    async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:

        async def make() -> None:
            await call(client)

        tasks.start_soon(make)
        message = await server.next_message()
        if message["type"] == "channelCreate":
            success = "success" if message["endpoint"] == "loadModel" else "loadSuccess"
            await server.packet(message, type=success, info=INSTANCE)
        else:
            await server.answer(message, None if message["endpoint"] == "unloadModel" else INSTANCE)
        for name in where:
            message = message[name]
        assert message["deviceIdentifier"] == "desk"
