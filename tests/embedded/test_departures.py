"""Reasons why instances are gone, as the errors of later requests tell them; with real engines."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import anyio
import pytest

from lmstudio_async._wire._models import InstanceReferenceSpecifier, LoadModelCreation, Progress
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._instances._departures import Departure, Departures
from lmstudio_async.embedded._instances._registry import Instance, Instances
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.errors import LMStudioInstanceUnloadedError, LMStudioServerError
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import Refused, connected
from tests.embedded.registry import get, load, names, running, three_models

#: Unloads that do not wait for the requests that run.
AT_ONCE = ServerTiming(grace_seconds=0.01)


models = pytest.fixture(three_models)


def error_of(instances: Instances, gone: Instance) -> dict[str, Any]:
    """Return the error object for a request with the reference of an instance that is gone."""
    with pytest.raises(LMStudioInstanceUnloadedError) as caught:
        instances.find(InstanceReferenceSpecifier(instance_reference=gone.reference), gone.domain)
    error = dict(caught.value.server_error)
    assert error["title"] == "Model is unloaded."
    assert error["displayData"]["code"] == "generic.specificModelUnloaded"
    return error


def departure_of(error: dict[str, Any]) -> Any:
    return error["displayData"]["departure"]


# -- requests after the end of the instance


async def test_error_tells_on_the_wire_that_a_client_unloaded_the_instance(models: ModelsFolder) -> None:
    async with EmbeddedServer(models.folder, threads=1) as server, connected(server) as client:
        info = await client.load("tiny", "mine")
        await client.call("unloadModel", {"identifier": "mine"})

        specifier = {"type": "instanceReference", "instanceReference": info["instanceReference"]}
        with pytest.raises(Refused) as refused:
            await client.call("tokenize", {"specifier": specifier, "inputString": "x"})

    error = refused.value.error
    assert (error["title"], error["rootTitle"]) == ("Model is unloaded.", "Model is unloaded.")
    assert error["cause"] == 'A client unloaded "mine".'
    assert error["displayData"] == {
        "code": "generic.specificModelUnloaded",
        "departure": {"reason": "unloaded"},
    }


async def test_error_for_a_reference_that_never_was_has_no_reason(models: ModelsFolder) -> None:
    async with running(models) as instances:
        with pytest.raises(LMStudioInstanceUnloadedError) as caught:
            instances.find(InstanceReferenceSpecifier(instance_reference="never"), "llm")
    assert "cause" not in caught.value.server_error
    assert caught.value.display_data == {"code": "generic.specificModelUnloaded"}


async def test_error_tells_the_ttl_that_has_passed(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances, identifier="mine", ttl_ms=50)
        await instance.gone.wait()
        error = error_of(instances, instance)
    assert error["cause"] == '"mine" was unloaded, because it was idle for its TTL of 0.05 seconds.'
    assert departure_of(error) == {"reason": "ttl", "ttlSeconds": 0.05}


async def test_error_tells_for_which_model_the_instance_was_evicted(models: ModelsFolder) -> None:
    async with running(models) as instances:
        victim = await get(instances, "tiny")
        await get(instances, "embed", domain="embedding")
        error = error_of(instances, victim)
    assert error["cause"] == '"tiny" was evicted to make room for "text-embedding-embed".'
    assert departure_of(error) == {"reason": "evicted", "evictedFor": "text-embedding-embed"}


async def test_error_tells_how_the_engine_crashed(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances, "tiny", "mine")
        os.kill(instance.engine.pid, signal.SIGKILL)
        await instance.unloaded.wait()
        error = error_of(instances, instance)
    assert error["cause"].startswith('The engine of the model "mine" crashed')
    assert "SIGKILL" in error["cause"]
    assert departure_of(error) == {"reason": "crashed"}


async def test_error_tells_that_a_load_was_cancelled_when_it_was_nearly_done(models: ModelsFolder) -> None:
    async with running(models) as instances:
        ready: list[Instance] = []
        with anyio.CancelScope() as scope:

            def report(packet: WireObject) -> None:
                # The registry reports this packet in the same step in which the instance becomes ready.
                if isinstance(packet, Progress) and packet.progress == 1:
                    ready.extend(instances.loaded())
                    scope.cancel()

            await instances.load("llm", LoadModelCreation(model_key="tiny"), report)
        assert names(instances) == []
        error = error_of(instances, ready[0])
    assert error["cause"] == '"tiny" was unloaded, because its load was cancelled at the end.'
    assert departure_of(error) == {"reason": "unloaded"}


async def test_error_tells_that_the_server_was_stopped(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances)
        gone = await load(instances, "other")
        await instances.unload("other", "llm")
    assert departure_of(error_of(instances, instance)) == {"reason": "serverStopped"}
    assert departure_of(error_of(instances, gone)) == {"reason": "unloaded"}


async def test_reason_of_an_unload_stands_when_the_server_stops_during_it(models: ModelsFolder) -> None:
    async with anyio.create_task_group() as tasks:
        async with running(models, timing=ServerTiming(grace_seconds=3600)) as instances:
            instance = await load(instances)
            using = instance.use()
            using.__enter__()
            tasks.start_soon(instances.unload, "tiny", "llm")
            await instance.unloaded.wait()
        using.__exit__(None, None, None)
    assert departure_of(error_of(instances, instance)) == {"reason": "unloaded"}


def test_a_long_ttl_is_written_in_full() -> None:
    assert "its TTL of 2592000 seconds" in Departure.expired("mine", 2_592_000_000).cause


def test_the_oldest_departures_are_forgotten() -> None:
    departures = Departures(kept=2)
    for reference in ("first", "second", "third"):
        departures.add(reference, Departure.unloaded(reference))

    causes = [
        departures.error(reference).server_error.get("cause") for reference in ("first", "second", "third")
    ]
    assert causes == [None, 'A client unloaded "second".', 'A client unloaded "third".']


async def test_each_unload_leaves_one_line_of_the_log_with_its_reason(
    models: ModelsFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "lmstudio_async.embedded"):
        async with running(models) as instances:
            await (await load(instances, identifier="idle", ttl_ms=50)).gone.wait()
            await get(instances, "tiny")
            await get(instances, "other")
            await instances.unload("other", "llm")
            crashing = await load(instances, identifier="mine")
            os.kill(crashing.engine.pid, signal.SIGKILL)
            await crashing.gone.wait()
            await load(instances, identifier="last")

    lines = [
        (level, text.partition(" (")[0])
        for name, level, text in caplog.record_tuples
        if name == "lmstudio_async.embedded" and " was loaded as " not in text
    ]
    assert lines == [
        (logging.INFO, '"idle" was unloaded, because it was idle for its TTL of 0.05 seconds.'),
        (logging.INFO, '"tiny" was evicted to make room for "other".'),
        (logging.INFO, 'A client unloaded "other".'),
        (logging.ERROR, 'The engine of the model "mine" crashed'),
        (logging.INFO, '"last" was unloaded, because the server was stopped.'),
    ]


# -- requests that run when the instance goes


async def test_a_request_that_an_unload_ends_gets_the_reason(models: ModelsFolder) -> None:
    async with running(models, timing=AT_ONCE) as instances:
        instance = await load(instances)
        with pytest.raises(LMStudioInstanceUnloadedError) as caught, instance.use() as use:
            async with instance.lend(use) as engine:
                await instances.unload("tiny", "llm")
                await engine.tokenize("a", add_special=False)
    assert caught.value.server_error["cause"] == 'A client unloaded "tiny".'
    assert caught.value.display_data["departure"] == {"reason": "unloaded"}


async def test_a_request_that_waits_for_the_engine_gets_the_reason(models: ModelsFolder) -> None:
    async with running(models) as instances, anyio.create_task_group() as tasks:
        instance = await load(instances)
        with pytest.raises(LMStudioInstanceUnloadedError) as caught, instance.use() as use:
            tasks.start_soon(instances.unload, "tiny", "llm")
            await instance.unloaded.wait()
            async with instance.lend(use):
                pass
    assert caught.value.server_error["cause"] == 'A client unloaded "tiny".'


async def test_a_request_that_runs_during_a_crash_gets_the_reason_as_its_title(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances)
        with pytest.raises(LMStudioServerError) as caught, instance.use() as use:
            async with instance.lend(use) as engine:
                os.kill(engine.pid, signal.SIGKILL)
                await instance.unloaded.wait()
                await engine.tokenize("a", add_special=False)
        assert caught.value.server_error["title"] == error_of(instances, instance)["cause"]


async def test_a_request_that_notices_a_crash_first_gets_the_same_title(models: ModelsFolder) -> None:
    async with running(models) as instances:
        instance = await load(instances)
        with pytest.raises(LMStudioServerError) as caught, instance.use() as use:
            async with instance.lend(use) as engine:
                os.kill(engine.pid, signal.SIGKILL)
                await engine.tokenize("a", add_special=False)
        assert caught.value.server_error["title"] == error_of(instances, instance)["cause"]
        assert caught.value.server_error["suggestion"].endswith("Load it again.")
