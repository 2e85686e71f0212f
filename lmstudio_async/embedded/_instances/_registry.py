"""Registry of loaded models: loading under unique identifiers, unloading, TTL and auto-evict.

``run()`` is the task that owns the registry. Every load, unload, expiry and watch is a child of that task, and not of
the request that asked for it. There is no await between a check (is the name free, is the instance idle, is it loaded)
and the action that depends on it, so no other task can change the registry in between.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.abc

from lmstudio_async._printable import printable
from lmstudio_async._protocol._errors import (
    domain_mismatch,
    identifier_in_use,
    no_model_matching,
    server_error,
)
from lmstudio_async._wire._models import AlreadyLoaded, GetOrLoadCreation, LoadModelCreation, ModelSpecifier
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._engine._engine import EngineFailure
from lmstudio_async.embedded._engine._engine_errors import explain, explain_load
from lmstudio_async.embedded._engine._engine_start import start_engine
from lmstudio_async.embedded._engine._pulse import Pulse
from lmstudio_async.embedded._instances._auto_evict import AutoEvict
from lmstudio_async.embedded._instances._departures import Departure, Departures
from lmstudio_async.embedded._instances._instance import Domain, Instance
from lmstudio_async.embedded._instances._load import Load, PacketCallback, Watcher
from lmstudio_async.embedded._instances._load_planner import LoadPlanner, PreparedLoad
from lmstudio_async.embedded._instances._load_request import check_load_request
from lmstudio_async.embedded._instances._load_warnings import warn_of_load
from lmstudio_async.embedded._instances._selection import select
from lmstudio_async.embedded._timing import DEFAULT_TIMING, ServerTiming
from lmstudio_async.errors import LMStudioError

__all__ = ["Domain", "Instance", "Instances"]

logger = logging.getLogger("lmstudio_async.embedded")

_SHUTDOWN_SECONDS: Final = 10.0


class Instances:
    """The loaded models of one server.

    :param catalog: the models that can be loaded.
    :param auto_evict: whether a just-in-time load unloads the other models that were loaded just in time.
    :param default_jit_ttl_ms: the TTL of models that are loaded just in time, if the request has none; None for no TTL.
    :param threads: the threads of an engine, if the load config has no number; None for the engine's own default.
    :param queued_predictions: the number of predictions that may wait for one instance.
    :param new_pulse: makes the monitor of the engine of a new instance.
    :param handout_seconds: the seconds that a client has to use an instance that it got just in time, before another
        just-in-time load may evict it.
    :param timing: the durations of the server.
    :param departures: the departures to remember beyond the end of this registry; None for ones of its own.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        auto_evict: bool = True,
        default_jit_ttl_ms: int | None = 3_600_000,
        threads: int | None = None,
        queued_predictions: int = 256,
        new_pulse: Callable[[], Pulse] = Pulse,
        handout_seconds: float = 2.0,
        timing: ServerTiming = DEFAULT_TIMING,
        departures: Departures | None = None,
    ) -> None:
        self._catalog = catalog
        self._default_jit_ttl_ms = default_jit_ttl_ms
        self._queued_predictions = queued_predictions
        self._new_pulse = new_pulse
        self._handout_seconds = handout_seconds
        self._timing = timing
        self._by_identifier: dict[str, Instance] = {}
        self._loads: dict[Instance, Load] = {}
        self._departures = Departures() if departures is None else departures
        self._planner = LoadPlanner(catalog, self._by_identifier, threads=threads)
        self._auto_evict = AutoEvict(
            self._by_identifier, self._begin_unload, enabled=auto_evict, handout_seconds=handout_seconds
        )
        self._tasks: anyio.abc.TaskGroup | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the tasks of the registry until this is cancelled; then unload all models."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                task_status.started()
                try:
                    await wait_until_cancelled()
                finally:
                    self._tasks = None
        finally:
            with anyio.move_on_after(_SHUTDOWN_SECONDS, shield=True):
                await self._stop_everything()

    # -- requests

    @property
    def catalog(self) -> Catalog:
        """The models that can be loaded."""
        return self._catalog

    def loaded(self, domain: Domain | None = None) -> list[Instance]:
        """Return the instances that are ready for requests, the oldest first."""
        return [
            instance
            for instance in self._by_identifier.values()
            if instance.state == "ready" and domain in (None, instance.domain)
        ]

    def find(self, specifier: ModelSpecifier, domain: Domain) -> Instance:
        """Return the loaded instance that a specifier means.

        :raises LMStudioModelNotFoundError: no instance matches the query.
        :raises LMStudioInstanceUnloadedError: the instance of the reference is gone.
        """
        return select(specifier, self.loaded(domain), domain, self._departures)

    async def prepare(self, domain: Domain, key: str, config_stack: Any) -> PreparedLoad:
        """Prepare a load of a model, without starting it.

        :raises LMStudioServerError: the model cannot be loaded, or not with this config.
        """
        return await self._planner.prepare(key, domain, config_stack)

    async def load(self, domain: Domain, creation: LoadModelCreation, report: PacketCallback) -> Instance:
        """Load a new instance. If cancelled, cancel the load and wait until its process has ended.

        :raises LMStudioServerError: the model cannot be loaded, or not with this config.
        """
        check_load_request(creation)
        identifier, key = creation.identifier, creation.model_key
        if identifier is not None:
            await self._wait_until_free(identifier)
        prepared = await self._planner.prepare(key, domain, creation.load_config_stack)
        if identifier is None:
            identifier = self._free_name(key)
        else:
            await self._wait_until_free(identifier)
        load = self._register(identifier, prepared, ttl_ms=creation.ttl_ms, just_in_time=False)
        return await self._wait(load, Watcher(report, get_or_load=False, ambiguous=prepared.model.ambiguous))

    async def get_or_load(
        self, domain: Domain, creation: GetOrLoadCreation, report: PacketCallback
    ) -> Instance:
        """Find an instance by its identifier or its model, or load one.

        If cancelled, cancel the load, unless other requests wait for it.

        :raises LMStudioServerError: the model cannot be loaded, or not with this config.
        """
        check_load_request(creation)
        key = creation.identifier
        found = await self._find_or_prepare(key, domain, creation.load_config_stack)
        if isinstance(found, PreparedLoad):
            ttl_ms = self._default_jit_ttl_ms if creation.load_ttl_ms is None else creation.load_ttl_ms
            load = self._register(self._free_name(key), found, ttl_ms=ttl_ms, just_in_time=True)
        else:
            load = self._loads[found]
        if load.instance.state != "ready":
            return await self._wait(load, Watcher(report, get_or_load=True))
        load.is_claimed = True
        load.instance.hand_out(self._handout_seconds)
        report(AlreadyLoaded(info=load.instance.info()))
        return load.instance

    async def unload(self, identifier: str, domain: Domain | None = None) -> None:
        """Unload an instance, and wait until its process has ended and its identifier is free.

        :param domain: the namespace that the instance must belong to; None for any.
        :raises LMStudioModelNotFoundError: no instance has this identifier.
        :raises LMStudioDomainMismatchError: the instance belongs to the other namespace.
        """
        instance = self._by_identifier.get(identifier)
        if instance is None or instance.state == "loading":
            query = {"identifier": identifier, **({} if domain is None else {"domain": domain})}
            raise no_model_matching(query, [each.identifier for each in self.loaded(domain)])
        if domain is not None and domain != instance.domain:
            raise domain_mismatch(identifier, instance.domain, domain)
        if instance.state == "ready":
            self._begin_unload(instance, Departure.unloaded(identifier))
        await instance.gone.wait()

    # -- names and models

    async def _find_or_prepare(self, key: str, domain: Domain, config_stack: Any) -> Instance | PreparedLoad:
        """Return a ready or loading instance, or else prepare a load.

        Look for an instance again after each step, because the registry may have changed meanwhile.
        """
        if (found := await self._find_usable(key, domain)) is not None:
            return found
        model = await self._planner.resolve(key, domain)
        if (found := await self._find_usable(key, domain, model.entry)) is not None:
            return found
        prepared = await self._planner.plan(model, config_stack)
        return await self._find_usable(key, domain, model.entry) or prepared

    async def _find_usable(
        self, key: str, domain: Domain, entry: CatalogEntry | None = None
    ) -> Instance | None:
        """Return the ready or loading instance of a key or a model, or None. Wait until one that is ending is gone."""
        while (found := self._best_match(key, domain, entry)) is not None:
            if found.state == "ready" or self._is_loading(found):
                return found
            await found.gone.wait()
        return None

    def _free_name(self, key: str) -> str:
        name, number = key, 1
        while name in self._by_identifier:
            number += 1
            name = f"{key}:{number}"
        return name

    async def _wait_until_free(self, identifier: str) -> None:
        """Wait while an instance with this identifier is being unloaded; raise if one is loaded or loading."""
        while (holder := self._by_identifier.get(identifier)) is not None:
            if holder.state == "ready" or self._is_loading(holder):
                raise identifier_in_use(identifier)
            await holder.gone.wait()

    def _is_loading(self, instance: Instance) -> bool:
        return instance.state == "loading" and not self._loads[instance].abandoned

    def _best_match(self, key: str, domain: Domain, entry: CatalogEntry | None) -> Instance | None:
        """Return the instance with the identifier ``key``, or else one of the model; None if there is none.

        Of several instances of the model, a ready one is preferred to a loading one, and that to an unloading one.
        """
        named = self._by_identifier.get(key)
        if named is not None and named.domain == domain:
            return named
        if entry is None:
            return None
        same = [
            instance
            for instance in self._by_identifier.values()
            if instance.domain == domain and instance.entry.path == entry.path
        ]
        order = ("ready", "loading", "unloading")
        return min(same, key=lambda instance: order.index(instance.state), default=None)

    # -- loading

    def _register(
        self, identifier: str, prepared: PreparedLoad, *, ttl_ms: int | None, just_in_time: bool
    ) -> Load:
        """Register an instance under the identifier, and start the task that loads it."""
        if self._tasks is None:
            raise server_error("The server is shutting down.")
        instance = Instance(
            identifier=identifier,
            entry=prepared.entry,
            context_length=prepared.plan.spec.context_length,
            parallel_sessions=prepared.plan.spec.parallel_sessions,
            queued_predictions=self._queued_predictions,
            ttl_ms=ttl_ms,
            just_in_time=just_in_time,
            pulse=self._new_pulse(),
        )
        load = Load(instance)
        self._by_identifier[identifier] = instance
        self._loads[instance] = load
        self._tasks.start_soon(self._run_load, load, prepared)
        self._tasks.start_soon(load.break_silence, self._timing.progress_seconds)
        return load

    async def _wait(self, load: Load, watcher: Watcher) -> Instance:
        load.join(watcher)
        try:
            await load.done.wait()
            load.is_claimed = True
        finally:
            load.leave(watcher)
            if not load.is_claimed and not load.is_watched:
                await self._give_up(load)
        if load.error is not None:
            # A copy for each request, because raising an error changes its traceback.
            raise copy.copy(load.error)
        return load.instance

    async def _give_up(self, load: Load) -> None:
        """Cancel a load that no request waits for any more, and wait until its process has ended."""
        load.abandon()
        if load.instance.state == "ready":
            self._begin_unload(load.instance, Departure.abandoned(load.instance.identifier))
        with anyio.move_on_after(_SHUTDOWN_SECONDS, shield=True):
            await load.instance.gone.wait()

    async def _run_load(self, load: Load, prepared: PreparedLoad) -> None:
        error: LMStudioError = server_error("The load was cancelled.")
        try:
            with anyio.CancelScope() as scope:
                load.attach(scope)
                async with self._auto_evict.room_for(load):
                    await self._start(load, prepared)
        except LMStudioError as reason:
            error = reason
        except Exception as reason:
            logger.exception("Loading %r failed", load.instance.identifier)
            explained = explain(reason)
            if isinstance(explained, LMStudioError):
                error = explained
            else:
                error = server_error("Internal server error")
        finally:
            if load.instance.state == "loading":
                self._forget(load.instance)
                load.finish(error)
            else:
                load.finish()
                if load.abandoned and load.instance.state == "ready":
                    self._begin_unload(load.instance, Departure.abandoned(load.instance.identifier))

    async def _start(self, load: Load, prepared: PreparedLoad) -> None:
        load.starting()
        instance, plan = load.instance, prepared.plan
        try:
            engine, context_length, no_vision_reason = await start_engine(
                plan.spec, load.progress, instance.pulse
            )
        except EngineFailure as failure:
            raise explain_load(instance.entry.model_key, failure) from failure
        if no_vision_reason:
            instance.disable_vision(no_vision_reason)
        instance.context_length = context_length
        warn_of_load(instance, plan, has_gpu=engine.has_gpu)
        instance.become_ready(engine, plan.effective(gpu=engine.has_gpu, context_length=context_length))
        load.hand_out(self._handout_seconds)
        if self._tasks is not None:
            self._tasks.start_soon(self._watch_engine, instance)
            if instance.ttl_ms is not None:
                self._tasks.start_soon(self._watch_idleness, instance)

    # -- the end of an instance

    def _begin_unload(self, instance: Instance, departure: Departure) -> None:
        self._depart(instance, departure)
        # Without a task group, `_stop_everything` stops this instance.
        if self._tasks is not None:
            self._tasks.start_soon(self._finish_unload, instance)

    def _depart(self, instance: Instance, departure: Departure) -> None:
        level = logging.ERROR if departure.reason == "crashed" else logging.INFO
        logger.log(level, "%s", printable(departure.cause))
        self._departures.add(instance.reference, departure)
        instance.become_unloading(departure)

    async def _finish_unload(self, instance: Instance) -> None:
        try:
            with anyio.move_on_after(self._timing.grace_seconds):
                await instance.wait_idle()
        finally:
            with anyio.move_on_after(_SHUTDOWN_SECONDS, shield=True):
                await self._stop(instance)

    async def _stop(self, instance: Instance) -> None:
        try:
            await instance.stop_engine()
        except Exception:
            logger.exception("Unloading %r failed", instance.identifier)
        finally:
            self._forget(instance)

    def _forget(self, instance: Instance) -> None:
        if self._by_identifier.get(instance.identifier) is instance:
            del self._by_identifier[instance.identifier]
        self._loads.pop(instance, None)
        instance.become_gone()

    async def _watch_engine(self, instance: Instance) -> None:
        """Run the engine until it ends, and unload the instance if the engine has crashed."""
        try:
            how = await instance.keep_engine()
        except Exception:  # must end this instance, and not the registry, whose task this is
            logger.exception("Watching the engine of %r failed", instance.identifier)
            how = "cannot be watched any more"
        # Without a task group, `_stop_everything` stops this instance.
        if instance.state != "ready" or self._tasks is None:
            return
        self._begin_unload(instance, Departure.crashed(instance.identifier, how))
        # Free the name now, because a new instance need not wait for the clean-up of the crashed one.
        del self._by_identifier[instance.identifier]

    async def _watch_idleness(self, instance: Instance) -> None:
        if await instance.wait_expired():
            assert instance.ttl_ms is not None
            self._begin_unload(instance, Departure.expired(instance.identifier, instance.ttl_ms))

    async def _stop_everything(self) -> None:
        instances = list(self._by_identifier.values())
        for instance in instances:
            # A request may have begun to unload it when there was no task group any more.
            if instance.departure is None:
                self._depart(instance, Departure.stopped(instance.identifier))
        async with anyio.create_task_group() as tasks:
            for instance in instances:
                tasks.start_soon(self._stop, instance)
