"""`ensure_instance`: an instance of a name with the settings that are asked for, found, loaded, or replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    EmbeddedServer,
    EmbeddingLoadModelConfigDict,
    LlmLoadModelConfigDict,
    LMStudioConfigMismatchError,
    LMStudioDomainMismatchError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
    LMStudioValueError,
)
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.testing import ModelsFolder
from tests.lifecycle.conftest import ROOM, NewClient, in_process
from tests.processes import HeldLoads, go_on, needs_proc, stop, workers

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "nomic-embed-text-v1.5"


async def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Make calls in tasks of their own, and return their results."""
    results: list[Any] = []

    async def run(index: int) -> None:
        results.append(await call(index))

    async with anyio.create_task_group() as tasks:
        for index in range(count):
            tasks.start_soon(run, index)
    return results


# -- finding and loading


async def test_ensure_instance_loads_under_the_model_key_and_then_finds_the_instance(
    new_client: NewClient, loads: list[str]
) -> None:
    async with new_client() as client, new_client() as other:
        first: list[float] = []
        second: list[float] = []
        loaded = await client.llm.ensure_instance(QWEN, on_progress=first.append)
        found = await other.llm.ensure_instance(QWEN, on_progress=second.append)

    assert loaded.identifier == QWEN
    assert found.info.instance_reference == loaded.info.instance_reference
    assert first == sorted(first)
    assert (first[0], first[-1]) == (0.0, 1.0)
    assert second == [1.0]
    assert len(loads) == 1


@in_process
async def test_an_instance_that_ensure_instance_loads_is_never_evicted(client: AsyncClient) -> None:
    ensured = await client.llm.ensure_instance(QWEN, "mine", ttl=7200)
    just_in_time = await client.llm.model(LLAMA)
    last = await client.embedding.model(NOMIC)

    assert await client.list_loaded_models() == [ensured, last]
    assert ensured.info.ttl == 7200
    with pytest.raises(LMStudioInstanceUnloadedError):
        await just_in_time.get_info()


@in_process
async def test_ensure_instance_never_takes_another_instance_of_the_model(client: AsyncClient) -> None:
    other = await client.llm.load_new_instance(QWEN, "other")
    ensured = await client.llm.ensure_instance(QWEN)

    assert [llm.identifier for llm in await client.llm.list_loaded()] == ["other", QWEN]
    assert ensured != other


@in_process
async def test_ensure_instance_finds_an_embedding_model(client: AsyncClient) -> None:
    config: EmbeddingLoadModelConfigDict = {"context_length": 300}
    loaded = await client.embedding.ensure_instance(NOMIC, config=config)
    found = await client.embedding.ensure_instance(NOMIC, config=config)

    assert found == loaded
    assert len(await found.embed("Hello")) > 0


@in_process
async def test_a_key_of_any_form_means_the_same_instance(client: AsyncClient, loads: list[str]) -> None:
    mine = await client.llm.ensure_instance(QWEN, "mine")
    for key in (
        "Qwen3-4B",
        "qwen3-4b@q4_k_m",
        "qwen3-4b:4bit",
        "lmstudio-community/qwen3-4b",
        "lmstudio-community/Qwen3-4B-GGUF",
        "lmstudio-community/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf",
        "lmstudio-community/Qwen3-4",
    ):
        assert await client.llm.ensure_instance(key, "mine") == mine, key

    assert len(loads) == 1


async def test_a_key_does_not_mean_a_model_whose_path_only_begins_with_it(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm("acme/Tiny-GGUF/Tiny-Q8_0.gguf")
    models.add_llm("acme/Tiny-Thinking-GGUF/Tiny-Thinking-Q8_0.gguf")
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        thinking = await client.llm.ensure_instance("acme/tiny-t", "mine")
        assert thinking.info.model_key == "tiny-thinking"
        with pytest.raises(LMStudioConfigMismatchError) as caught:
            await client.llm.ensure_instance("acme/tiny", "mine")

    assert caught.value.mismatches == {"model_key": ("acme/tiny", "tiny-thinking")}


@in_process
async def test_ensure_instance_raises_the_errors_of_a_load(client: AsyncClient) -> None:
    with pytest.raises(LMStudioModelNotFoundError, match="nothing-like-it"):
        await client.llm.ensure_instance("nothing-like-it")
    with pytest.raises(LMStudioDomainMismatchError):
        await client.llm.ensure_instance(NOMIC)
    with pytest.raises(LMStudioServerError, match="contextLength must be at least 2"):
        await client.llm.ensure_instance(QWEN, config={"context_length": 1})

    assert await client.list_loaded_models() == []


@in_process
@pytest.mark.parametrize(
    "arguments",
    [
        {"model_key": ""},
        {"model_key": QWEN, "instance_identifier": ""},
        {"model_key": QWEN, "on_mismatch": "reload"},
        {"model_key": QWEN, "ttl": 0},
        {"model_key": QWEN, "device": 3},
        {"model_key": QWEN, "config": {"context": 3}},
        {"model_key": QWEN, "on_progress": "print"},
    ],
    ids=str,
)
async def test_a_bad_argument_raises_an_error_before_anything_is_sent(
    client: AsyncClient, arguments: dict[str, Any]
) -> None:
    with pytest.raises(LMStudioValueError):
        await client.llm.ensure_instance(**arguments)

    assert await client.llm.list_loaded() == []


# -- mismatches


async def test_an_instance_with_other_settings_raises_an_error_that_tells_them(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(
        QWEN, "mine", config={"context_length": 1024, "seed": 7, "flash_attention": True}
    )

    with pytest.raises(
        LMStudioConfigMismatchError, match="context_length should be 4096, and is 1024"
    ) as caught:
        await client.llm.ensure_instance(
            QWEN, "mine", config={"context_length": 4096, "seed": False, "flash_attention": True}
        )

    assert caught.value.mismatches == {"context_length": (4096, 1024), "seed": (False, 7)}
    assert caught.value.identifier == "mine"
    assert caught.value.instance_reference == mine.info.instance_reference
    assert await client.llm.list_loaded() == [mine]


@in_process
@pytest.mark.parametrize(
    ("wanted", "fits"), [(1000, True), (1024, True), (768, False), (769, True), (1025, False)]
)
async def test_a_context_length_that_was_rounded_up_counts_as_fulfilled(
    client: AsyncClient, wanted: int, fits: bool
) -> None:
    mine = await client.llm.load_new_instance(QWEN, "mine", config={"context_length": 1024})
    if fits:
        assert await client.llm.ensure_instance(QWEN, "mine", config={"context_length": wanted}) == mine
    else:
        with pytest.raises(LMStudioConfigMismatchError):
            await client.llm.ensure_instance(QWEN, "mine", config={"context_length": wanted})


async def test_a_setting_that_the_machine_does_not_have_is_a_mismatch_after_the_load_too(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstudio_async.embedded._instances._load_config._can_lock", lambda size: False)
    config: LlmLoadModelConfigDict = {"keep_model_in_memory": True}
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        for why in ("did not apply them", "on_mismatch='replace'"):
            with pytest.raises(LMStudioConfigMismatchError, match=why) as caught:
                await client.llm.ensure_instance(QWEN, config=config)
            assert caught.value.mismatches == {"keep_model_in_memory": (True, False)}

        found = await client.llm.ensure_instance(QWEN, config=config, on_mismatch="use")
        assert await client.llm.list_loaded() == [found]


@in_process
async def test_another_ttl_is_no_mismatch(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(QWEN, "mine", ttl=60)

    assert await client.llm.ensure_instance(QWEN, "mine", ttl=None) == mine
    assert (await mine.get_info()).ttl == 60


@in_process
@pytest.mark.parametrize("on_mismatch", ["error", "use"])
async def test_an_instance_of_another_model_or_kind_is_never_used(
    client: AsyncClient, on_mismatch: Any
) -> None:
    mine = await client.llm.load_new_instance(QWEN, "mine")

    with pytest.raises(LMStudioConfigMismatchError) as caught:
        await client.llm.ensure_instance(LLAMA, "mine", on_mismatch=on_mismatch)
    assert caught.value.mismatches == {"model_key": (LLAMA, QWEN)}
    with pytest.raises(LMStudioConfigMismatchError) as caught:
        await client.embedding.ensure_instance(NOMIC, "mine", on_mismatch=on_mismatch)
    assert caught.value.mismatches == {"kind": ("embedding", "llm")}

    assert await client.list_loaded_models() == [mine]


async def test_use_takes_an_instance_with_other_settings(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(QWEN, "mine", config={"context_length": 1024})

    found = await client.llm.ensure_instance(QWEN, "mine", config={"context_length": 4096}, on_mismatch="use")

    assert found == mine


# -- replacing


async def test_replace_loads_an_instance_with_other_settings_anew(client: AsyncClient) -> None:
    old = await client.llm.load_new_instance(QWEN, "mine", config={"context_length": 1024})
    wanted: Any = {"config": {"context_length": 2048}, "on_mismatch": "replace"}

    new = await client.llm.ensure_instance(QWEN, "mine", **wanted)

    assert await client.llm.list_loaded() == [new]
    assert new != old
    assert await new.get_context_length() == 2048
    assert await client.llm.ensure_instance(QWEN, "mine", **wanted) == new


@in_process
@needs_proc
async def test_replace_waits_until_the_instance_is_idle(
    new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    looked_twice = anyio.Event()
    processing_state = Instance.processing_state

    def counting(self: Instance) -> Any:
        nonlocal looks
        looks += 1
        if looks == 2:
            looked_twice.set()
        return processing_state(self)

    monkeypatch.setattr(Instance, "processing_state", counting)
    async with new_client() as client, new_client() as other:
        talker = await client.llm.load_new_instance("talker", "mine", config=ROOM)
        (worker,) = workers()
        async with anyio.create_task_group() as tasks, talker.respond_stream("Go on") as answer:
            await anext(answer)
            # The answer cannot end meanwhile.
            await stop(worker)
            try:
                tasks.start_soon(_replace, other, "talker")
                await looked_twice.wait()
                assert await client.llm.list_loaded() == [talker]
            finally:
                go_on(worker)

        (new,) = await client.llm.list_loaded()
        assert new != talker
        assert await new.get_context_length() == 512


async def _replace(client: AsyncClient, key: str) -> AsyncLLM:
    return await client.llm.ensure_instance(
        key, "mine", config={"context_length": 512}, on_mismatch="replace"
    )


@in_process
@pytest.mark.parametrize("kind", ["llm", "embedding"])
async def test_replace_replaces_an_instance_of_another_model_or_kind(client: AsyncClient, kind: str) -> None:
    await client.llm.load_new_instance(QWEN, "mine")
    namespace: Any = getattr(client, kind)
    key = LLAMA if kind == "llm" else NOMIC

    new = await namespace.ensure_instance(key, "mine", on_mismatch="replace")

    assert await client.list_loaded_models() == [new]


@in_process
async def test_replace_keeps_the_instance_if_the_wanted_one_cannot_be_loaded(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(QWEN, "mine")

    with pytest.raises(LMStudioModelNotFoundError):
        await client.llm.ensure_instance("nothing-like-it", "mine", on_mismatch="replace")
    with pytest.raises(LMStudioDomainMismatchError):
        await client.embedding.ensure_instance(QWEN, "mine", on_mismatch="replace")
    with pytest.raises(LMStudioServerError, match="numExperts"):
        await client.llm.ensure_instance(QWEN, "mine", config={"num_experts": 3}, on_mismatch="replace")

    assert await client.list_loaded_models() == [mine]


async def test_many_callers_that_replace_load_once(new_client: NewClient, loads: list[str]) -> None:
    async with new_client() as client, new_client() as other:
        old = await client.llm.load_new_instance(QWEN, "mine", config={"context_length": 1024})
        loads.clear()

        found = await at_once(10, lambda index: _replace((client, other)[index % 2], QWEN))

        assert len({llm.info.instance_reference for llm in found}) == 1
        assert found[0] != old
        assert len(loads) == 1


# -- blocks


@in_process
@pytest.mark.parametrize("way", ["loads", "finds", "waits for another load"])
async def test_a_block_with_the_handle_does_not_unload_the_instance(
    new_client: NewClient, held_loads: HeldLoads, way: str
) -> None:
    async with new_client() as client, new_client() as other, anyio.create_task_group() as tasks:
        if way == "finds":
            held_loads.let_go()
            await other.llm.load_new_instance(QWEN)
        elif way == "waits for another load":
            tasks.start_soon(other.llm.load_new_instance, QWEN)
            await held_loads.next()
        async with await client.llm.ensure_instance(QWEN, on_progress=lambda _: held_loads.let_go()) as qwen:
            assert str(await qwen.respond("Hello")) == "Hello there"

        assert await client.llm.list_loaded() == [qwen]


@in_process
async def test_a_block_keeps_an_instance_that_this_client_has_loaded(client: AsyncClient) -> None:
    mine = await client.llm.load_new_instance(QWEN)
    async with await client.llm.ensure_instance(QWEN) as qwen:
        async with mine:
            pass
        assert await client.llm.list_loaded() == [qwen]

    assert await client.llm.list_loaded() == []


# -- the blocking facade


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_facade_ensures_an_instance(models: Path, backend: Any) -> None:
    with lmstudio_sync.Client(lmstudio_sync.EmbeddedServer(models, threads=1), backend=backend) as client:
        with client.llm.ensure_instance_stream(QWEN, "mine", config={"context_length": 512}) as ensuring:
            phases = [progress.phase for progress in ensuring]
            mine = ensuring.wait_for_result()
        assert phases[-1] == "loaded"
        assert isinstance(mine, lmstudio_sync.LLM)
        with mine:
            pass
        fractions: list[float] = []
        assert client.llm.ensure_instance(QWEN, "mine", on_progress=fractions.append) == mine
        assert fractions == [1.0]
        with pytest.raises(LMStudioConfigMismatchError):
            client.llm.ensure_instance(QWEN, "mine", config={"context_length": 2048})
        new = client.llm.ensure_instance(QWEN, "mine", config={"context_length": 2048}, on_mismatch="replace")
        assert client.llm.list_loaded() == [new]
