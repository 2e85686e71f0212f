"""Loads, uses, unloads, expiry, eviction and crashes at the same time, in any order; with real engines.

Run more examples with ``pytest --hypothesis-profile=soak tests/embedded/test_random_schedules.py``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._wire._models import LoadModelCreation, Progress
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._instances._registry import Instance, Instances
from lmstudio_async.errors import LMStudioError
from lmstudio_async.testing import ModelsFolder
from tests.embedded.registry import get, running, three_models
from tests.processes import needs_proc, workers
from tests.soak import bounded

pytestmark = needs_proc

keys = st.sampled_from(["tiny", "other"])
few = st.integers(0, 6)
steps = st.one_of(
    st.tuples(
        st.just("load"), keys, st.sampled_from(["tiny", "mine", None]), st.sampled_from([30, 200, None])
    ),
    st.tuples(st.just("get"), keys, st.sampled_from([30, None])),
    st.tuples(st.just("leave"), keys, few),
    st.tuples(st.just("use"), few, st.integers(1, 30)),
    st.tuples(st.just("unload"), st.sampled_from(["tiny", "other", "mine", "tiny:2"])),
    st.tuples(st.just("kill"), few),
)
Step = (
    tuple[Literal["load"], str, str | None, int | None]
    | tuple[Literal["get"], str, int | None]
    | tuple[Literal["leave"], str, int]
    | tuple[Literal["use"], int, int]
    | tuple[Literal["unload"], str]
    | tuple[Literal["kill"], int]
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelsFolder:
    return three_models(tmp_path_factory.mktemp("random_schedules"))


class World:
    """Runner of plans against the registry; it watches every instance that a plan gets."""

    def __init__(self, instances: Instances, watching: anyio.abc.TaskGroup) -> None:
        self.seen: dict[Instance, float] = {}
        """Instance -> a moment just before its last request ended, or before it was ready."""
        self._instances = instances
        self._watching = watching
        self._met = set[Instance]()
        self._ended_on_purpose = set[Instance]()

    async def follow(self, plan: Sequence[Step]) -> None:
        """Run a plan. A refused step raises an `LMStudioError`, which is ignored; any other exception propagates."""
        for step in plan:
            with suppress(LMStudioError):
                await self._do(step)
            ready = self._instances.loaded()
            assert len({instance.identifier for instance in ready}) == len(ready)
            assert sum(instance.just_in_time for instance in ready) <= 1

    async def _do(self, step: Step) -> None:
        match step:
            case ("load", key, identifier, ttl_ms):
                await self._load_and_meet(key, identifier, ttl_ms)
            case ("get", key, ttl_ms):
                self._meet(await get(self._instances, key, load_ttl_ms=ttl_ms))
            case ("leave", key, turns):
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._begin_to_load, key)
                        for _ in range(turns * 20):
                            await anyio.lowlevel.checkpoint()
                        scope.cancel()
            case ("use", which, turns):
                if (instance := self._one(which)) is not None:
                    await self._use(instance, turns)
            case ("unload", identifier):
                self._ended_on_purpose |= {
                    each for each in self._instances.loaded() if each.identifier == identifier
                }
                await self._instances.unload(identifier)
            case ("kill", which):
                if (instance := self._one(which)) is not None:
                    self._ended_on_purpose.add(instance)
                    # Another plan may have killed it, which its registry has not noticed yet.
                    with suppress(ProcessLookupError):
                        os.kill(instance.engine.pid, signal.SIGKILL)
                    await instance.gone.wait()

    async def _begin_to_load(self, key: str) -> None:
        with suppress(LMStudioError):
            await self._load_and_meet(key, None, 200)

    async def _load_and_meet(self, key: str, identifier: str | None, ttl_ms: int | None) -> None:
        not_ready = 0.0

        def report(packet: WireObject) -> None:
            nonlocal not_ready
            if isinstance(packet, Progress) and packet.progress < 1:
                not_ready = anyio.current_time()

        creation = LoadModelCreation(model_key=key, identifier=identifier, ttl_ms=ttl_ms)
        self._meet(await self._instances.load("llm", creation, report), not_ready)

    async def _use(self, instance: Instance, turns: int) -> None:
        try:
            with instance.use():
                for _ in range(turns):
                    assert await instance.engine.tokenize("a", add_special=False) == [97]
                # Read the clock before the request ends, because this process may be suspended after the end.
                self.seen[instance] = anyio.current_time()
        except Exception:  # noqa: BLE001 - an engine that is gone fails in many ways
            # A busy instance ends only on purpose.
            assert instance in self._ended_on_purpose
        else:
            assert not instance.unloaded.is_set() or instance in self._ended_on_purpose

    def _one(self, which: int) -> Instance | None:
        ready = self._instances.loaded()
        return ready[which % len(ready)] if ready else None

    def _meet(self, instance: Instance, not_ready: float = 0.0) -> None:
        # Another plan may have used the instance already.
        self.seen[instance] = max(self.seen.get(instance, 0.0), not_ready)
        if instance not in self._met:
            self._met.add(instance)
            self._watching.start_soon(self._watch, instance)

    async def _watch(self, instance: Instance) -> None:
        await instance.unloaded.wait()
        assert not instance.is_busy or instance in self._ended_on_purpose
        if instance.just_in_time or instance in self._ended_on_purpose:
            return
        # Only the TTL can have ended the instance, and the TTL counts from the end of the last request.
        assert instance.ttl_ms is not None
        assert anyio.current_time() >= self.seen[instance] + instance.ttl_ms / 1000


async def run_plans(models: ModelsFolder, plans: Sequence[Sequence[Step]]) -> None:
    async with running(models) as instances, anyio.create_task_group() as watching:
        world = World(instances, watching)
        async with anyio.create_task_group() as following:
            for plan in plans:
                following.start_soon(world.follow, plan)
        watching.cancel_scope.cancel()
    assert all(instance.gone.is_set() for instance in world.seen)
    assert workers() == set()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(plans=st.lists(st.lists(steps, max_size=6), min_size=2, max_size=5))
@bounded(10)
def test_any_schedule_keeps_the_rules_of_the_registry(
    models: ModelsFolder, backend: str, plans: list[list[Step]]
) -> None:
    anyio.run(run_plans, models, plans, backend=backend)
