"""The end of an instance: after its TTL, by an unload, by a crash, or with its server; with real engines."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from lmstudio_async._wire._models import (
    LoadModelCreation,
    ModelQuery,
    Progress,
    QuerySpecifier,
)
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._instances._registry import Instance, Instances
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.errors import (
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
)
from lmstudio_async.testing import ModelsFolder
from tests.embedded.registry import (
    ask_get,
    config,
    get,
    load,
    names,
    running,
    three_models,
)
from tests.processes import hold_loads, is_running, needs_proc

models = pytest.fixture(three_models)


# -- time to live


async def test_an_idle_instance_is_unloaded_after_its_ttl(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances, ttl_ms=50)
        pid = instance.engine.pid
        await instance.gone.wait()
        assert names(instances) == []
        assert not is_running(pid)


async def load_in_use(instances: Instances, uses: ExitStack, ttl_ms: int) -> Instance:
    """Load an instance that is busy from the start, so that its TTL cannot expire first, even on a slow machine."""

    def report(packet: WireObject) -> None:
        # The registry reports this packet in the same step in which the instance becomes ready.
        if isinstance(packet, Progress) and packet.progress == 1:
            uses.enter_context(instances.loaded()[-1].use())

    return await instances.load("llm", LoadModelCreation(model_key="tiny", ttl_ms=ttl_ms), report)


async def test_a_busy_instance_outlives_its_ttl(models: ModelsFolder) -> None:
    async with running(models) as instances:
        with ExitStack() as uses:
            busy = await load_in_use(instances, uses, ttl_ms=40)
            # The longer TTL of another instance expires in the meantime.
            longer = await load(instances, ttl_ms=120)
            await longer.gone.wait()
            assert names(instances) == ["tiny"]
            assert not busy.unloaded.is_set()
        await busy.gone.wait()


async def test_the_ttl_counts_from_the_end_of_the_last_request(models: ModelsFolder) -> None:
    async with running(models) as instances:
        with ExitStack() as uses:
            instance = await load_in_use(instances, uses, ttl_ms=100)
            while_busy = await load(instances, ttl_ms=50)
            await while_busy.gone.wait()
            # Read the clock before the request ends, because a later reading could be too late.
            ended = anyio.current_time()
        await instance.unloaded.wait()
        assert anyio.current_time() >= ended + 0.1


async def test_an_instance_without_ttl_has_no_timer(models: ModelsFolder) -> None:
    async with running(models, default_jit_ttl_ms=None) as instances:
        assert (await get(instances)).info().ttl_ms is None


async def test_a_request_changes_the_processing_state_and_the_last_use(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances, load_config_stack=config(numParallelSessions=1))
        assert instance.processing_state().status == "idle"
        with instance.use() as first, instance.use("generating"):
            assert instance.processing_state().status == "processingPrompt"
            assert instance.processing_state().queued == 1
            first.status = "generating"
            assert instance.processing_state().status == "generating"
            assert instance.info().last_used_time is None
        assert instance.processing_state().queued == 0
        last_used = instance.info().last_used
        assert last_used is not None
        with instance.use():
            assert instance.info().last_used == last_used


# -- unloading


async def test_unloading_ends_the_process_and_frees_the_identifier(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances)
        pid = instance.engine.pid
        await instances.unload("tiny", "llm")
        assert not is_running(pid)
        assert names(instances) == []
        with pytest.raises(LMStudioInstanceUnloadedError), instance.use():
            pass
        assert (await load(instances)).identifier == "tiny"


async def test_unloading_an_unknown_identifier_raises_not_found_with_candidates(models: ModelsFolder) -> None:
    async with running(models) as instances:
        await load(instances)
        with pytest.raises(LMStudioModelNotFoundError) as caught:
            await instances.unload("nothing", "llm")
        assert caught.value.candidates == ["tiny"]
        assert caught.value.display_data["query"] == {"identifier": "nothing", "domain": "llm"}


async def test_an_unload_lets_running_requests_end_before_the_engine_stops(models: ModelsFolder) -> None:
    # This is longer than a busy machine delays the requests.
    timing = ServerTiming(grace_seconds=60)
    async with running(models, timing=timing) as instances, anyio.create_task_group() as tasks:
        instance = await load(instances)
        with instance.use():
            tasks.start_soon(instances.unload, "tiny", "llm")
            await instance.unloaded.wait()
            assert await instance.engine.tokenize("a", add_special=False) == [97]
            assert not instance.gone.is_set()
            with pytest.raises(LMStudioModelNotFoundError):
                instances.find(QuerySpecifier(query=ModelQuery()), "llm")
        await instance.gone.wait()


async def test_a_request_that_does_not_end_does_not_block_an_unload(models: ModelsFolder) -> None:
    async with running(models, timing=ServerTiming(grace_seconds=0.01)) as instances:
        instance = await load(instances)
        with instance.use():
            await instances.unload("tiny", "llm")
            assert instance.gone.is_set()


async def test_two_simultaneous_unloads_of_one_instance_both_succeed(models: ModelsFolder) -> None:
    async with running(models) as instances:
        await load(instances)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(instances.unload, "tiny", "llm")
            tasks.start_soon(instances.unload, "tiny", "llm")
        assert names(instances) == []


async def test_an_unload_continues_after_its_request_is_cancelled(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances)
        with anyio.CancelScope() as scope, instance.use():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(instances.unload, "tiny", "llm")
                await instance.unloaded.wait()
                scope.cancel()
        await instance.gone.wait()
        assert names(instances) == []


# -- crashes, and the end of the registry


async def test_an_error_of_the_watch_over_an_engine_ends_only_its_own_instance(
    models: ModelsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(instance: Instance) -> str:
        raise ZeroDivisionError

    async with running(models) as instances:
        other = await load(instances, "other")
        # The watch over its engine has begun.
        await anyio.wait_all_tasks_blocked()
        with monkeypatch.context() as patch:
            patch.setattr(Instance, "keep_engine", fail)
            instance = await load(instances, "tiny")
            await instance.gone.wait()
        assert "cannot be watched" in str(instance.failure)
        assert instances.loaded() == [other]


async def test_a_crashed_worker_ends_only_its_own_instance(models: ModelsFolder) -> None:
    async with running(models) as instances:
        crashing = await load(instances, "tiny", "mine")
        other = await load(instances, "other")
        os.kill(crashing.engine.pid, signal.SIGKILL)
        await crashing.unloaded.wait()
        assert instances.loaded() == [other]
        assert crashing.failure is not None
        assert "SIGKILL" in str(crashing.failure)
        with pytest.raises(LMStudioServerError, match="crashed"), crashing.use():
            pass
        assert await other.engine.tokenize("a", add_special=False) == [97]
        # The identifier is free at once.
        assert (await load(instances, "tiny", "mine")).engine.pid != crashing.engine.pid
        await crashing.gone.wait()
        assert names(instances) == ["other", "mine"]


async def test_the_end_of_the_registry_unloads_everything(models: ModelsFolder) -> None:
    async with running(models) as instances:
        loaded = [await load(instances), await load(instances), await get(instances, "other")]
        pids = [instance.engine.pid for instance in loaded]
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))
    assert all(instance.gone.is_set() for instance in loaded)
    assert instances.loaded() == []


@needs_proc
async def test_the_end_of_the_registry_ends_pending_loads_and_unloads(
    models: ModelsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The unload waits for the request that uses the instance, longer than the test runs.
    timing = ServerTiming(grace_seconds=3600)
    async with anyio.create_task_group() as tasks:
        with ExitStack() as uses:
            async with running(models, timing=timing) as instances:
                unloading = await load(instances, "other")
                uses.enter_context(unloading.use())
                kept = unloading.engine.pid
                tasks.start_soon(instances.unload, "other", "llm")
                await unloading.unloaded.wait()
                held = hold_loads(monkeypatch)
                asking = ask_get(tasks, instances)
                pid = await held.next()
                assert is_running(kept)
            assert not is_running(pid)
            assert not is_running(kept)
        await asking.over.wait()
        assert asking.error is not None
    with pytest.raises(LMStudioServerError, match="shutting down"):
        await load(instances)
