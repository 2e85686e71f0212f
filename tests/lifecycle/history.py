"""An embedded server whose history is recorded, and clients that watch it while random steps run.

::

    with recorded():
        async with World.made(models) as world:
            await world.run([("load", 0, "tiny", None, None), ("get", 1, "other")])
            await world.settle()
            await world.check()
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncInstanceWatch,
    AsyncLLM,
    EmbeddedServer,
    InstanceChanged,
    InstanceEvent,
    InstanceLoaded,
    InstancePresent,
    InstanceUnloaded,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    ModelInstanceInfo,
)
from lmstudio_async._transport import ClientTransport
from lmstudio_async.embedded._instances._departures import Departure
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._instances._load import Load
from tests.clock import let_pass
from tests.instance_server import news

__all__ = ["Step", "World", "recorded"]

Step = (
    tuple[Literal["load"], int, str, str | None, float | None]
    | tuple[Literal["get"], int, str]
    | tuple[Literal["leave"], int, str, int]
    | tuple[Literal["use"], int, int]
    | tuple[Literal["unload"], int, int]
    | tuple[Literal["unload by name"], int, str]
    | tuple[Literal["kill"], int]
    | tuple[Literal["lose"], int]
    | tuple[Literal["pass"]]
)

#: A load (True) or an unload, and the reference of the instance.
Move = tuple[bool, str]
#: The processing state of an instance, and when it was last used.
State = tuple[str | None, int | None]
#: The reason of an unload, and the key of the model that the instance was evicted for.
Reason = tuple[str, str | None]

_BY_THIS_CLIENT: Reason = ("unloaded_by_this_client", None)


class History:
    """The loads and unloads of a server, in order, and what the instances have done.

    :ivar reasons: why instances are gone, by reference.
    :ivar announced: the evictions that loads have announced, by the reference of the victim.
    """

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.instances: dict[str, Instance] = {}
        self.reasons: dict[str, Reason] = {}
        self.announced: dict[str, set[Reason]] = defaultdict(set)

    def name(self, reference: str) -> str:
        return self.instances[reference].identifier

    @property
    def gone(self) -> set[str]:
        """The references of the instances that were loaded."""
        return {reference for is_load, reference in self.moves if not is_load}

    @property
    def present(self) -> set[str]:
        """The references of the instances that are loaded now."""
        return {reference for is_load, reference in self.moves if is_load} - self.gone

    @property
    def states(self) -> dict[str, State]:
        """The state of each loaded instance while no request runs."""
        return {reference: ("idle", self.instances[reference].last_used_ms) for reference in self.present}

    def is_followed(self, reference: str, references: Collection[str]) -> bool:
        """Return whether one of these instances was loaded under the name of an instance after its end."""
        later = self.moves[self.moves.index((False, reference)) :]
        return any((True, each) in later and self.name(each) == self.name(reference) for each in references)


_history = History()


@contextmanager
def recorded() -> Iterator[None]:
    """Record what the registries of this process do, in a new history."""
    global _history  # noqa: PLW0603
    history = _history = History()
    with pytest.MonkeyPatch.context() as patch:
        become_ready, become_unloading = Instance.become_ready, Instance.become_unloading
        evicting = Load.evicting

        def ready(instance: Instance, *args: Any) -> None:
            become_ready(instance, *args)
            history.instances[instance.reference] = instance
            history.moves.append((True, instance.reference))

        def unloading(instance: Instance, departure: Departure) -> None:
            if instance.state == "ready":
                history.moves.append((False, instance.reference))
                history.reasons[instance.reference] = (departure.reason, departure.evicted_for)
            become_unloading(instance, departure)

        def evict(load: Load, victim: Instance) -> None:
            history.announced[victim.reference].add(("evicted", load.instance.entry.model_key))
            evicting(load, victim)

        patch.setattr(Instance, "become_ready", ready)
        patch.setattr(Instance, "become_unloading", unloading)
        patch.setattr(Load, "evicting", evict)
        yield


class _Lossy:
    """The server for one client, whose connections can be lost."""

    is_running = True

    def __init__(self, server: EmbeddedServer) -> None:
        self.address = server.address
        self._server = server
        self._open: list[_Transport] = []

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[ClientTransport]:
        async with self._server.connect(namespace) as transport:
            lossy = _Transport(transport)
            self._open.append(lossy)
            yield lossy

    async def lose(self) -> None:
        """Lose all connections."""
        lost, self._open = self._open, []
        for transport in lost:
            transport.is_lost = True
            await transport.aclose()


class _Transport:
    server_is_ahead = 0.0

    def __init__(self, transport: ClientTransport) -> None:
        self.is_lost = False
        self._transport = transport
        self.aclose = transport.aclose

    async def send(self, *frames: str) -> None:
        with self._losing():
            await self._transport.send(*frames)

    async def receive(self) -> Sequence[str]:
        with self._losing():
            return await self._transport.receive()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except LMStudioConnectionClosedError as error:
            if not self.is_lost:
                raise
            raise LMStudioConnectionBrokenError("The connection was lost.") from error


class _Watcher:
    """A watch and its events.

    :param client: the number of its client.
    :param is_slow: whether it is read only at the end.
    """

    def __init__(self, client: int, watch: AsyncInstanceWatch, *, is_slow: bool) -> None:
        self.client = client
        self.is_slow = is_slow
        self.events: list[InstanceEvent] = []
        self.changed = anyio.Event()
        self._watch = watch

    async def read(self) -> None:
        async for event in self._watch:
            self.events.append(event)
            self.changed.set()
            self.changed = anyio.Event()

    async def read_backlog(self) -> None:
        self.events += await news(self._watch)

    @property
    def moves(self) -> list[Move]:
        """The loads and unloads that were told."""
        kinds = InstanceLoaded | InstancePresent | InstanceUnloaded
        return [
            (not isinstance(event, InstanceUnloaded), event.instance_reference)
            for event in self.events
            if isinstance(event, kinds)
        ]

    @property
    def states(self) -> dict[str, State]:
        """The latest state of each instance that is there, as it was told."""
        states: dict[str, State] = {}
        for event in self.events:
            if isinstance(event, InstancePresent | InstanceLoaded | InstanceChanged):
                assert isinstance(event.info, ModelInstanceInfo)
                states[event.instance_reference] = event.status, event.info.last_used_time
            elif isinstance(event, InstanceUnloaded):
                del states[event.instance_reference]
        return states


class World:
    """A server with recorded history, three clients, and watches of two of them."""

    def __init__(self, servers: list[_Lossy], clients: list[AsyncClient], tasks: anyio.abc.TaskGroup) -> None:
        self._history = _history
        self._servers = servers
        self._clients = clients
        self._tasks = tasks
        self._watchers: list[_Watcher] = []
        # The references of the instances that a client has loaded, found or loaded, and unloaded.
        self._loaded: dict[int, set[str]] = defaultdict(set)
        self._got: dict[int, set[str]] = defaultdict(set)
        self._unloaded: dict[int, set[str]] = defaultdict(set)
        # The keys of the models that a client has got, and so may have evicted others for; and of the loads it has left.
        self._wanted: dict[int, set[str]] = defaultdict(set)
        self._left: dict[int, set[str]] = defaultdict(set)

    @classmethod
    @asynccontextmanager
    async def made(cls, models: Path) -> AsyncIterator[World]:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(EmbeddedServer(models, threads=1))
            servers = [_Lossy(server) for _ in range(3)]
            clients = [
                await stack.enter_async_context(AsyncClient(each))  # type: ignore[arg-type]
                for each in servers
            ]
            tasks = await stack.enter_async_context(anyio.create_task_group())
            world = cls(servers, clients, tasks)
            for client, interval, is_slow in ((0, 0.005, False), (0, 1.0, True), (1, 0.05, False)):
                watch = clients[client].watch_instances(interval=interval)
                await stack.enter_async_context(watch)
                watcher = _Watcher(client, watch, is_slow=is_slow)
                world._watchers.append(watcher)
                if not is_slow:
                    tasks.start_soon(watcher.read)
            yield world
            tasks.cancel_scope.cancel()

    async def run(self, burst: Sequence[Step]) -> None:
        """Run steps at the same time. A step that the server refuses has no effect."""
        async with anyio.create_task_group() as tasks:
            for step in burst:
                tasks.start_soon(self._run, step)

    async def settle(self) -> None:
        """Wait until the watches that are read know what is loaded, and when each instance was last used."""
        while late := [
            watcher
            for watcher in self._watchers
            if not watcher.is_slow and watcher.states != self._history.states
        ]:
            with anyio.move_on_after(20) as limit:
                await late[0].changed.wait()
            assert not limit.cancelled_caught, (late[0].events, self._history.moves)

    async def check(self) -> None:
        """Check that each watch has told what is in the history."""
        for watcher in self._watchers:
            if watcher.is_slow:
                await watcher.read_backlog()
                self._tasks.start_soon(watcher.read)
                watcher.is_slow = False
        await self.settle()
        for watcher in self._watchers:
            self._check_moves(watcher)
            for event in watcher.events:
                if isinstance(event, InstanceUnloaded):
                    possible = self._possible_reasons(watcher.client, event.instance_reference)
                    assert (event.reason, event.evicted_for) in possible, (event, possible)

    def _check_moves(self, watcher: _Watcher) -> None:
        history, moves = self._history, watcher.moves
        assert len(set(moves)) == len(moves), "an event was repeated"
        references = {reference for _, reference in moves}
        assert references <= history.instances.keys()
        assert self._loaded[watcher.client] <= references, "a load of the client itself was missed"
        for name in {instance.identifier for instance in history.instances.values()}:
            # In the order of the history, without the instances that came and went between two looks.
            told = [move for move in moves if history.name(move[1]) == name]
            happened = [
                move for move in history.moves if history.name(move[1]) == name and move[1] in references
            ]
            assert told == happened, (watcher.moves, history.moves)

    def _possible_reasons(self, client: int, reference: str) -> set[Reason]:
        """Return the reasons that a client may tell: the server's, or what the client itself has done meanwhile."""
        history = self._history
        reason = history.reasons[reference]
        is_unload = reason == ("unloaded", None)
        unloaders = {each for each, unloaded in self._unloaded.items() if reference in unloaded}
        # A load that was left when it had succeeded is unloaded by the server or by its client.
        key = history.instances[reference].entry.model_key
        leavers = {each for each, keys in self._left.items() if is_unload and key in keys}
        own = history.announced[reference] & {("evicted", wanted) for wanted in self._wanted[client]}
        if client in unloaders | leavers:
            own.add(_BY_THIS_CLIENT)
        if history.is_followed(reference, self._loaded[client] | self._got[client]):
            # The client has loaded the next instance of that name before it had a look.
            own.add(("unknown", None))
        is_own_unload = is_unload and unloaders == {client} and not leavers
        return own if is_own_unload else {reason, *own}

    # -- steps

    async def _run(self, step: Step) -> None:
        with suppress(LMStudioError):
            await self._do(step)

    async def _do(self, step: Step) -> None:
        match step:
            case ("load", client, key, identifier, ttl):
                llm = await self._clients[client].llm.load_new_instance(key, identifier, ttl=ttl)
                self._loaded[client].add(llm.info.instance_reference)
            case ("get", client, key):
                self._wanted[client].add(key)
                llm = await self._clients[client].llm.model(key)
                self._got[client].add(llm.info.instance_reference)
                await llm.tokenize("a")
            case ("leave", client, key, turns):
                self._left[client].add(key)
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._run, ("load", client, key, None, None))
                        for _ in range(turns * 20):
                            await anyio.lowlevel.checkpoint()
                        scope.cancel()
            case ("use", client, which):
                if (used := await self._one(client, which)) is not None:
                    await used.tokenize("a")
            case ("unload", client, which):
                if (unloaded := await self._one(client, which)) is not None:
                    await unloaded.unload()
                    self._unloaded[client].add(unloaded.info.instance_reference)
            case ("unload by name", client, name):
                # Also one that is being unloaded already: the server confirms it when it is gone.
                instances = self._history.instances.items()
                gone = {reference for reference, instance in instances if instance.gone.is_set()}
                await self._clients[client].llm.unload(name)
                self._unloaded[client] |= {
                    reference
                    for reference in self._history.gone - gone
                    if self._history.name(reference) == name
                }
            case ("kill", which):
                await self._kill(which)
            case ("lose", client):
                await self._servers[client].lose()
            case ("pass",):
                await let_pass(3600)

    async def _one(self, client: int, which: int) -> AsyncLLM | None:
        loaded = await self._clients[client].llm.list_loaded()
        return loaded[which % len(loaded)] if loaded else None

    async def _kill(self, which: int) -> None:
        present = sorted(self._history.present)
        if present:
            instance = self._history.instances[present[which % len(present)]]
            os.kill(instance.engine.pid, signal.SIGKILL)
            await instance.gone.wait()
