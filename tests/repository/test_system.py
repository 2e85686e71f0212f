"""`client.system`, `client.call`, resource estimates and processing states."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioConfigError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
    LMStudioValueError,
)
from lmstudio_async.testing import ModelsFolder
from tests.scripted_server import ScriptedServer

Both = tuple[AsyncClient, ScriptedServer]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf")
    folder.add_llm("acme/pair-GGUF/pair-Q4_0.gguf")
    folder.add_llm("acme/pair-GGUF/pair-Q8_0.gguf")
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


@pytest.fixture
async def client(models: Path) -> AsyncIterator[AsyncClient]:
    with anyio.fail_after(30):
        async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
            yield client


async def test_version_and_info_describe_the_server(client: AsyncClient) -> None:
    version = await client.system.version()
    info = await client.system.info()

    assert version.version == info.version != ""
    assert version.build >= 1
    assert info.pid == os.getpid()
    assert info.is_daemon


async def test_variants_of_a_model_can_be_listed(client: AsyncClient) -> None:
    keys = {model.model_key for model in await client.list_downloaded_models("llm")}
    pair = {key for key in keys if "pair" in key}
    variants = await client.system.list_downloaded_model_variants(min(pair))

    assert {variant.model_key for variant in variants} == pair
    assert all(variant.type == "llm" for variant in variants)


async def test_listing_variants_of_a_model_without_any_raises_a_server_error(client: AsyncClient) -> None:
    with pytest.raises(LMStudioServerError, match="no variants"):
        await client.system.list_downloaded_model_variants("tiny")


async def test_notify_accepts_texts_only(client: AsyncClient) -> None:
    await client.system.notify("Done", "See the file", no_auto_dismiss=True)

    with pytest.raises(LMStudioValueError, match="title must be a text"):
        await client.system.notify(5)  # type: ignore[arg-type]


async def test_experiment_flags_can_be_listed(client: AsyncClient) -> None:
    assert await client.system.get_experiment_flags() == []


async def test_system_calls_send_their_parameters(both: Both) -> None:
    client, server = both
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.system.start_http_server, 1234)
            start = await server.next_message()
            await server.answer(start)
            tasks.start_soon(client.system.stop_http_server)
            stop = await server.next_message()
            await server.answer(stop)
            tasks.start_soon(client.system.set_experiment_flag, "warp", True)
            flag = await server.next_message()
            await server.answer(flag)
            tasks.start_soon(client.system.request_shutdown)
            shutdown = await server.next_message()
            await server.answer(shutdown)

    assert (start["endpoint"], start["parameter"]) == ("startHttpServer", {"port": 1234})
    assert stop["endpoint"] == "stopHttpServer"
    assert flag["parameter"] == {"code": "warp", "value": True}
    assert shutdown["endpoint"] == "requestShutdown"
    for port in (0, 65536, True, "1234"):
        with pytest.raises(LMStudioValueError, match="port must be"):
            await client.system.start_http_server(port)  # type: ignore[arg-type]


# -- resource estimates and processing states


async def test_a_longer_context_is_estimated_to_take_more_memory(client: AsyncClient) -> None:
    short = await client.llm.estimate_resources("tiny", {"context_length": 256})
    long = await client.llm.estimate_resources("tiny", {"context_length": 2048})

    assert short.passes_guardrails
    assert 0 < short.memory.context_bytes < long.memory.context_bytes
    assert long.memory.total_bytes >= long.memory.model_bytes + long.memory.context_bytes
    assert await client.list_loaded_models() == []


async def test_an_embedding_model_can_be_estimated_too(client: AsyncClient) -> None:
    assert (await client.embedding.estimate_resources("embed")).memory.total_bytes > 0


async def test_estimating_an_unknown_model_or_config_field_raises_an_error(client: AsyncClient) -> None:
    with pytest.raises(LMStudioModelNotFoundError):
        await client.llm.estimate_resources("nothing")
    with pytest.raises(LMStudioConfigError):
        await client.llm.estimate_resources("tiny", {"context_lenght": 5})  # type: ignore[arg-type]


async def test_an_instance_reports_its_processing_state(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance("tiny", config={"context_length": 256})
    state = await llm.get_processing_state()
    assert (state.status, state.queued) == ("idle", 0)

    await llm.unload()
    with pytest.raises(LMStudioInstanceUnloadedError):
        await llm.get_processing_state()


# -- any call of the protocol


async def test_a_call_takes_and_returns_plain_json(client: AsyncClient) -> None:
    version = await client.call("system", "version")
    assert version["build"] >= 1

    await client.llm.load_new_instance("tiny", "mine", config={"context_length": 256})
    specifier = {"type": "query", "query": {"identifier": "mine"}}
    tokens = await client.call("llm", "tokenize", {"specifier": specifier, "inputString": "Hello"})
    assert tokens["tokens"]


async def test_a_call_without_a_result_returns_none(client: AsyncClient) -> None:
    assert await client.call("system", "notify", {"title": "Hello"}) is None


async def test_an_error_of_the_server_is_raised_as_its_own_class(client: AsyncClient) -> None:
    with pytest.raises(LMStudioModelNotFoundError):
        await client.call("llm", "unloadModel", {"identifier": "nothing"})


async def test_a_call_to_an_unknown_endpoint_raises_a_server_error(client: AsyncClient) -> None:
    with pytest.raises(LMStudioServerError, match="makeCoffee"):
        await client.call("system", "makeCoffee", {"sugar": 2})


async def test_an_endpoint_that_only_the_server_knows_can_be_called(both: Both) -> None:
    client, server = both
    results: list[Any] = []

    async def call() -> None:
        results.append(await client.call("runtime", "brandNew", [1, None]))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            message = await server.next_message()
            await server.answer(message, {"newFields": [True, {"deep": None}]})

    assert (message["endpoint"], message["parameter"]) == ("brandNew", [1, None])
    assert results == [{"newFields": [True, {"deep": None}]}]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("models", "version"), "namespace must be one of"),
        ((["llm"], "version"), "namespace must be one of"),
        (("llm", ""), "the endpoint"),
        (("llm", "predict", {}), "is a channel"),
        (("system", "notify", {"title": object()}), "is not JSON"),
        (("system", "notify", {1: 2}), "is not JSON"),
        (("system", "notify", float("nan")), "is not JSON"),
    ],
)
async def test_a_call_with_invalid_arguments_is_not_sent(both: Both, arguments: Any, reason: str) -> None:
    client, server = both
    with pytest.raises(LMStudioValueError, match=reason):
        await client.call(*arguments)
    assert not server.connections
