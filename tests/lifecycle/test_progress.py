"""Progress: a fraction for a callback, typed phases for a stream."""

from __future__ import annotations

import pytest

from lmstudio_async import AsyncClient, LMStudioIdentifierInUseError, LMStudioValueError, LoadProgress
from tests.lifecycle.conftest import in_process

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"


@in_process
@pytest.mark.parametrize("method", ["load_new_instance", "model"])
async def test_a_callback_gets_fractions_from_0_to_1(client: AsyncClient, method: str) -> None:
    seen: list[float] = []

    await getattr(client.llm, method)("big", on_progress=seen.append)

    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(set(seen))
    assert any(0.0 < fraction < 1.0 for fraction in seen)


async def test_a_callback_may_be_async(client: AsyncClient) -> None:
    seen: list[float] = []

    async def notice(fraction: float) -> None:
        await client.llm.list_loaded()  # the client can make other calls during the load
        seen.append(fraction)

    await client.llm.load_new_instance(LLAMA, on_progress=notice)

    assert seen[-1] == 1.0
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("method", ["load_new_instance", "model"])
async def test_a_callback_that_is_not_callable_is_refused_before_the_load(
    client: AsyncClient, method: str
) -> None:
    with pytest.raises(
        LMStudioValueError, match="on_progress must be a function, plain or async, not 'print'"
    ):
        await getattr(client.llm, method)(LLAMA, on_progress="print")

    assert await client.llm.list_loaded() == []


async def test_progress_of_a_loaded_instance_is_1_at_once(client: AsyncClient) -> None:
    seen: list[float] = []
    await client.llm.load_new_instance(LLAMA)

    await client.llm.model(LLAMA, on_progress=seen.append)

    assert seen == [1.0]


@in_process
async def test_loads_of_embedding_models_report_progress(client: AsyncClient) -> None:
    seen: list[float] = []

    await client.embedding.load_new_instance("text-embedding-nomic-embed-text-v1.5", on_progress=seen.append)

    assert seen[0] == 0.0
    assert seen[-1] == 1.0


async def test_a_stream_yields_the_phases_of_a_new_instance(client: AsyncClient) -> None:
    async with client.llm.load_new_instance_stream("big", "mine") as loading:
        steps = [progress async for progress in loading]
        llm = await loading.wait_for_result()

    assert list(dict.fromkeys(step.phase for step in steps)) == ["resolved", "loading", "loaded"]
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == loading.fraction == 1.0
    assert {step.info.model_key for step in steps if step.info} == {"big"}
    assert steps[-1] == LoadProgress("loaded", 1.0, llm.info)


async def test_a_stream_yields_the_info_of_an_evicted_instance(client: AsyncClient) -> None:
    goes = await client.llm.model(LLAMA)
    await client.llm.load_new_instance(QWEN, "stays")

    async with client.llm.model_stream("big") as loading:
        steps = [progress async for progress in loading]

    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["evicting", "resolved", "loading", "loaded"]
    evicted = [step.info for step in steps if step.phase == "evicting"]
    assert [getattr(info, "identifier", None) for info in evicted] == [goes.identifier]
    assert [llm.identifier for llm in await client.llm.list_loaded()] == ["stays", "big"]


async def test_a_stream_of_a_loaded_instance_yields_one_step(client: AsyncClient) -> None:
    llama = await client.llm.load_new_instance(LLAMA)

    async with client.llm.model_stream(LLAMA) as loading:
        steps = [progress async for progress in loading]
        assert await loading.wait_for_result() == llama

    assert [(step.phase, step.fraction) for step in steps] == [("loaded", 1.0)]


@in_process
async def test_a_stream_need_not_be_iterated(client: AsyncClient) -> None:
    loading = await client.llm.load_new_instance_stream(LLAMA)
    llama = await loading.wait_for_result()

    assert await client.llm.list_loaded() == [llama]
    assert loading.result() is llama


async def test_a_refused_load_raises_in_the_loop_and_in_the_block(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA, "mine")

    with pytest.raises(LMStudioIdentifierInUseError):
        async for _ in client.llm.load_new_instance_stream(QWEN, "mine"):
            pass
    with pytest.raises(LMStudioIdentifierInUseError):
        async with client.llm.load_new_instance_stream(QWEN, "mine") as loading:
            await loading.wait_for_result()
