"""Get an instance that is loaded, share a load, or cancel one; with real engines."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import lmstudio_async as lms
from lmstudio_async._wire._models import (
    AlreadyLoaded,
    GetOrLoadCreation,
    LoadModelCreation,
    LoadProgressPacket,
    Progress,
    Resolved,
    StartLoading,
    UnloadingOtherJITModel,
)
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.errors import LMStudioDomainMismatchError
from lmstudio_async.testing import ModelsFolder
from tests.clock import let_pass
from tests.embedded.registry import (
    TINY,
    Reports,
    ask_get,
    ask_load,
    config,
    get,
    load,
    names,
    running,
    three_models,
)
from tests.processes import HeldLoads, is_running, needs_proc, workers

models = pytest.fixture(three_models)


# -- get or load


async def test_a_loaded_model_is_found_by_any_of_its_names(models: ModelsFolder) -> None:
    async with running(models) as instances:
        mine = await load(instances, "tiny", "mine")
        for name in ("mine", "tiny", "TINY", "tiny@q4_k_m", "acme/tiny", "acme/tiny-GGUF", TINY):
            reports = Reports()
            found = await instances.get_or_load("llm", GetOrLoadCreation(identifier=name), reports)
            assert found is mine
            assert reports == [AlreadyLoaded(info=mine.info())]
        assert names(instances) == ["mine"]


async def test_an_identifier_comes_before_a_model_key(models: ModelsFolder) -> None:
    async with running(models) as instances:
        misleading = await load(instances, "other", "tiny")
        assert await get(instances, "tiny") is misleading


async def test_a_loaded_instance_keeps_its_ttl_and_config(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances, ttl_ms=60_000)
        # the config is not even validated
        wanted = config(contextLength=512, numExperts=2)
        assert await get(instances, load_ttl_ms=5, load_config_stack=wanted) is instance
        assert instance.info().ttl_ms == 60_000
        assert instance.context_length == 2048


async def test_get_or_load_loads_a_model_with_the_default_ttl(models: ModelsFolder) -> None:
    reports = Reports()
    async with running(models) as instances:
        instance = await instances.get_or_load("llm", GetOrLoadCreation(identifier="tiny"), reports)
        assert reports.kinds == ["StartLoading", "LoadProgressPacket"]
        assert reports.of(StartLoading)[0].identifier == "tiny"
        assert reports.of(LoadProgressPacket)[0].progress == 0
        assert reports.of(LoadProgressPacket)[-1].progress == 1
        assert instance.info().ttl_ms == 3_600_000
        assert instance.just_in_time


async def test_an_identifier_of_the_other_namespace_is_a_domain_mismatch(models: ModelsFolder) -> None:
    async with running(models) as instances:
        await load(instances, "embed", "mine", domain="embedding")
        with pytest.raises(LMStudioDomainMismatchError):
            await get(instances, "mine")
        with pytest.raises(LMStudioDomainMismatchError):
            await instances.unload("mine", "llm")


@needs_proc
async def test_two_requests_for_one_model_share_its_load(models: ModelsFolder, held_loads: HeldLoads) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first = ask_get(tasks, instances, "tiny")
        pid = await held_loads.next()
        # Another name of the same model.
        second = ask_get(tasks, instances, TINY)
        late = await second.reports.first(LoadProgressPacket)
        assert second.reports.kinds == ["StartLoading", "LoadProgressPacket"]
        assert late.progress == first.reports.of(LoadProgressPacket)[-1].progress
        assert list(workers()) == [pid]
        held_loads.let_go()
        assert await first.result() is await second.result()
        assert second.reports.of(LoadProgressPacket)[-1].progress == 1
        assert names(instances) == ["tiny"]


async def test_many_simultaneous_requests_share_one_load(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        asking = [ask_get(tasks, instances, name) for name in ("tiny", "acme/tiny", "Tiny", TINY) * 3]
        found = {await each.result() for each in asking}
        assert len(found) == 1
        assert instances.loaded() == list(found)


@needs_proc
async def test_get_or_load_shares_an_explicit_load(models: ModelsFolder, held_loads: HeldLoads) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first = ask_load(tasks, instances, identifier="mine")
        await first.reports.first(Resolved)
        await held_loads.next()
        second = ask_get(tasks, instances, "mine")
        await second.reports.first(StartLoading)
        held_loads.let_go()
        assert await first.result() is await second.result()


@needs_proc
async def test_a_load_that_fails_fails_for_all_waiting_requests(
    models: ModelsFolder, held_loads: HeldLoads
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first = ask_get(tasks, instances)
        pid = await held_loads.next()
        second = ask_get(tasks, instances)
        await second.reports.first(StartLoading)
        os.kill(pid, signal.SIGKILL)
        for asking in (first, second):
            await asking.over.wait()
            assert "cannot be loaded" in str(asking.error)
        assert first.error is not second.error


async def test_an_exception_of_the_report_callback_does_not_end_the_load(models: ModelsFolder) -> None:
    def fail(packet: WireObject) -> None:
        raise ValueError(packet)

    async with running(models) as instances:
        instance = await instances.load("llm", LoadModelCreation(model_key="tiny"), fail)
        assert names(instances) == [instance.identifier]


async def test_a_long_load_repeats_its_progress(models: ModelsFolder, held_loads: HeldLoads) -> None:
    timing = ServerTiming(progress_seconds=0.01)
    async with running(models, timing=timing) as instances, anyio.create_task_group() as tasks:
        asking = ask_load(tasks, instances)
        await asking.reports.first(Resolved)
        await held_loads.next()
        before = len(asking.reports)
        while len(asking.reports) < before + 3:
            await anyio.lowlevel.checkpoint()
        fractions = [packet.progress for packet in asking.reports.of(Progress)]
        assert fractions == sorted(fractions)
        assert fractions[-1] < 1
        held_loads.let_go()
        await asking.result()


# -- cancelling a load


@needs_proc
async def test_cancelling_a_load_ends_its_worker_and_frees_the_identifier(
    models: ModelsFolder, held_loads: HeldLoads
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        asking = ask_load(tasks, instances, identifier="mine")
        await asking.reports.first(Resolved)
        pid = await held_loads.next()
        await asking.cancel()
        assert not is_running(pid)
        held_loads.hold_no_more()
        assert asking.instance is None
        assert (await load(instances, "tiny", "mine")).identifier == "mine"


async def test_a_load_cancelled_at_once_leaves_no_instance(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        asking = ask_load(tasks, instances, identifier="mine")
        await asking.reports.first(Resolved)
        await asking.cancel()
        assert names(instances) == []
        assert (await load(instances, "tiny", "mine")).identifier == "mine"


@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_a_load_cancelled_around_its_end_leaves_an_instance_or_none(
    models: ModelsFolder, steps: int
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        asking = ask_load(tasks, instances, identifier="mine")
        while not any(packet.progress > 0.8 for packet in asking.reports.of(Progress)):
            await anyio.lowlevel.checkpoint()
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        await asking.cancel()
        assert names(instances) == (["mine"] if asking.instance else [])


@needs_proc
async def test_cancelling_one_request_does_not_end_a_shared_load(
    models: ModelsFolder, held_loads: HeldLoads
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first, second = ask_get(tasks, instances), ask_get(tasks, instances, TINY)
        pid = await held_loads.next()
        await second.reports.first(StartLoading)
        await first.cancel()
        assert is_running(pid)
        held_loads.let_go()
        assert (await second.result()).engine.pid == pid


@needs_proc
async def test_cancelling_the_last_request_ends_a_shared_load(
    models: ModelsFolder, held_loads: HeldLoads
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first, second = ask_get(tasks, instances), ask_get(tasks, instances)
        pid = await held_loads.next()
        await second.reports.first(StartLoading)
        await first.cancel()
        await second.cancel()
        assert not is_running(pid)
        held_loads.hold_no_more()
        assert names(instances) == []
        assert (await get(instances)).identifier == "tiny"


@needs_proc
async def test_a_request_during_the_cancellation_of_a_load_starts_another_load(
    models: ModelsFolder, held_loads: HeldLoads
) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        first = ask_get(tasks, instances)
        pid = await held_loads.next()
        held_loads.hold_no_more()
        (load,) = instances._loads.values()
        first.leave()
        while not load.abandoned:
            await anyio.lowlevel.checkpoint()
        assert load.instance.state == "loading"
        instance = await get(instances)
        assert instance.engine.pid != pid
        assert instance.identifier == "tiny"


# -- just in time


async def test_a_just_in_time_load_unloads_the_previous_one_of_either_namespace(models: ModelsFolder) -> None:
    async with running(models) as instances:
        explicit = await load(instances, "tiny", "explicit")
        embedding = await get(instances, "embed", domain="embedding")
        victim = embedding.info()
        reports = Reports()
        other = await instances.get_or_load("llm", GetOrLoadCreation(identifier="other"), reports)
        assert reports.kinds == ["UnloadingOtherJITModel", "StartLoading", "LoadProgressPacket"]
        assert reports.of(UnloadingOtherJITModel)[0].info == victim
        assert embedding.gone.is_set()
        assert instances.loaded() == [explicit, other]


async def test_an_explicit_load_unloads_nothing(models: ModelsFolder) -> None:
    async with running(models) as instances:
        await get(instances, "other")
        await load(instances)
        assert names(instances) == ["other", "tiny"]


async def test_without_auto_evict_all_instances_stay_loaded(models: ModelsFolder) -> None:
    async with running(models, auto_evict=False) as instances:
        await get(instances, "other")
        await get(instances, "tiny")
        assert names(instances) == ["other", "tiny"]


async def test_auto_evict_reports_a_busy_instance_and_waits_for_it(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        busy = await get(instances, "other")
        with busy.use():
            asking = ask_get(tasks, instances)
            assert (await asking.reports.first(UnloadingOtherJITModel)).info.identifier == "other"
            await anyio.wait_all_tasks_blocked()
            assert asking.reports.kinds == ["UnloadingOtherJITModel"]
            assert not busy.unloaded.is_set()
            assert await busy.engine.tokenize("a", add_special=False) == [97]
        await asking.result()
        assert busy.gone.is_set()
        assert names(instances) == ["tiny"]


async def test_waiting_for_a_busy_instance_can_be_cancelled(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        busy = await get(instances, "other")
        with busy.use():
            asking = ask_get(tasks, instances)
            await asking.reports.first(UnloadingOtherJITModel)
            await asking.cancel()
        assert names(instances) == ["other"]
        assert await get(instances, "other") is busy


async def test_only_one_of_several_just_in_time_loads_stays(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        asking = [ask_get(tasks, instances, name) for name in ("tiny", "other")]
        asking.append(ask_get(tasks, instances, "embed", domain="embedding"))
        loaded = [await each.result() for each in asking]
        assert [each for each in loaded if each.state == "ready"] == instances.loaded()
        assert len(instances.loaded()) == 1


async def test_a_just_in_time_instance_stays_until_its_first_use(models: ModelsFolder) -> None:
    async with running(models, handout_seconds=20) as instances, anyio.create_task_group() as tasks:
        handed_out = await get(instances, "other")
        asking = ask_get(tasks, instances)
        await asking.reports.first(UnloadingOtherJITModel)
        await anyio.wait_all_tasks_blocked()
        assert not handed_out.unloaded.is_set()
        with handed_out.use():
            assert await handed_out.engine.tokenize("a", add_special=False) == [97]
        await asking.result()
        assert handed_out.gone.is_set()


async def test_an_unused_just_in_time_instance_stays_for_handout_seconds(models: ModelsFolder) -> None:
    async with running(models, handout_seconds=20) as instances, anyio.create_task_group() as tasks:
        handed_out = await get(instances, "other")
        asking = ask_get(tasks, instances)
        await asking.reports.first(UnloadingOtherJITModel)
        await anyio.wait_all_tasks_blocked()
        assert not handed_out.unloaded.is_set()
        await let_pass(20)
        await asking.result()
        assert handed_out.gone.is_set()


async def test_tasks_that_alternate_between_three_models_are_all_answered(tmp_path: Path) -> None:
    folder = ModelsFolder(tmp_path)
    for key in ("a", "b", "c"):
        folder.add_llm(key, script=f"Answer of {key}")
    answers = []

    async def ask(client: lms.AsyncClient, key: str) -> None:
        llm = await client.llm.model(key)
        answers.append((await llm.respond("x")).content)

    async with EmbeddedServer(tmp_path, threads=1) as server, lms.AsyncClient(server) as client:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(24):
                    tasks.start_soon(ask, client, "abc"[number % 3])
    assert sorted(answers) == sorted(["Answer of a", "Answer of b", "Answer of c"] * 8)
