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
from collections.abc import AsyncIterator, Iterator, Sequence
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
    InstanceEvent,
    InstanceLoaded,
    InstancePresent,
    InstanceUnloaded,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    ServerLost,
)
from lmstudio_async._transport import ClientTransport
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._instances._load import Load
from lmstudio_async.embedded._instances._registry import Instances
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


class History:
    """The loads and unloads of a server, in order, and all causes that an unload can have had."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.instances: dict[str, Instance] = {}
        self.causes: dict[str, set[tuple[str, str | None]]] = defaultdict(set)

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


_history = History()


@contextmanager
def recorded() -> Iterator[None]:
    """Record what the registries of this process do, in a new history."""
    global _history  # noqa: PLW0603
    history = _history = History()
    with pytest.MonkeyPatch.context() as patch:
        become_ready, become_unloading = Instance.become_ready, Instance.become_unloading
        wait_expired, evicting, unload = Instance.wait_expired, Load.evicting, Instances.unload

        def ready(instance: Instance, *args: Any) -> None:
            become_ready(instance, *args)
            history.instances[instance.reference] = instance
            history.moves.append((True, instance.reference))

        def unloading(instance: Instance, *args: Any) -> None:
            if instance.state == "ready":
                history.moves.append((False, instance.reference))
            become_unloading(instance, *args)

        async def expired(instance: Instance) -> bool:
            has_expired = await wait_expired(instance)
            if has_expired:
                history.causes[instance.reference].add(("ttl", None))
            return has_expired

        def evict(load: Load, victim: Instance) -> None:
            history.causes[victim.reference].add(("evicted", load.instance.entry.model_key))
            evicting(load, victim)

        async def unload_one(instances: Instances, identifier: str, *args: Any) -> None:
            for instance in instances.loaded():
                if instance.identifier == identifier:
                    history.causes[instance.reference].add(("unloaded", None))
            await unload(instances, identifier, *args)

        patch.setattr(Instance, "become_ready", ready)
        patch.setattr(Instance, "become_unloading", unloading)
        patch.setattr(Instance, "wait_expired", expired)
        patch.setattr(Load, "evicting", evict)
        patch.setattr(Instances, "unload", unload_one)
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
    def present(self) -> set[str]:
        return {ref for is_load, ref in self.moves if is_load} - {
            ref for is_load, ref in self.moves if not is_load
        }


class World:
    """A server with recorded history, three clients, and watches of two of them."""

    def __init__(self, servers: list[_Lossy], clients: list[AsyncClient], tasks: anyio.abc.TaskGroup) -> None:
        self._history = _history
        self._servers = servers
        self._clients = clients
        self._tasks = tasks
        self._watchers: list[_Watcher] = []
        # The references of the instances that a client has loaded, and unloaded.
        self._loaded: dict[int, set[str]] = defaultdict(set)
        self._unloaded: dict[int, set[str]] = defaultdict(set)
        self._unloaded_names: dict[int, set[str]] = defaultdict(set)

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
        """Wait until the watches that are read know what is loaded."""
        for watcher in self._watchers:
            while not watcher.is_slow and watcher.present != self._history.present:
                with anyio.move_on_after(20) as limit:
                    await watcher.changed.wait()
                assert not limit.cancelled_caught, (watcher.moves, self._history.moves)

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
            # If the server does not tell a reason, a client concludes from a loss that it was restarted.
            concluded = {("unknown", None)}
            for event in watcher.events:
                if isinstance(event, ServerLost):
                    concluded.add(("server_gone", None))
                if isinstance(event, InstanceUnloaded):
                    self._check_reason(watcher.client, event, concluded)

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

    def _check_reason(self, client: int, event: InstanceUnloaded, concluded: set[tuple[str, None]]) -> None:
        reference, causes = event.instance_reference, self._history.causes[event.instance_reference]
        told = event.reason, event.evicted_for
        if reference in self._unloaded[client] and len(causes) == 1:
            assert told == ("unloaded_by_this_client", None), (event, causes)
        elif event.reason == "unloaded_by_this_client":
            # An instance without a cause is one of a load that was given up when it had succeeded.
            has_unloaded = reference in self._unloaded[client] or not causes
            assert has_unloaded or event.identifier in self._unloaded_names[client], (event, causes)
        elif told not in concluded:
            assert told in (causes or {("unloaded", None)}), (event, causes)

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
                await (await self._clients[client].llm.model(key)).tokenize("a")
            case ("leave", client, key, turns):
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
                gone = self._history.gone
                await self._clients[client].llm.unload(name)
                self._unloaded_names[client].add(name)
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
            self._history.causes[instance.reference].add(("crashed", None))
            os.kill(instance.engine.pid, signal.SIGKILL)
            await instance.gone.wait()
