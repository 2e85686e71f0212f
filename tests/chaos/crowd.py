"""The clients: async ones on asyncio and on trio, and blocking ones in threads."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import attrs

import lmstudio_async as lms
import lmstudio_sync
from tests.chaos.acting import Actor, run_blocking
from tests.chaos.models import LIMITS
from tests.chaos.plan import intents
from tests.chaos.record import CLOSED, UNREACHABLE, Record

__all__ = ["Crowd", "Member", "crowd_of", "may_be_interrupted"]

Backend: TypeAlias = Literal["asyncio", "trio"]

#: The `timeout` of some of the clients, in seconds; the others have none.
TIMEOUT = 3
#: The number of operations after which the first actor of a client closes it.
STINT = 40
#: The name of the threads of blocking clients.
BLOCKING = "blocking"
#: Seconds until an actor tries again after the server was unreachable.
BREATH = 0.2


@attrs.frozen
class Member:
    """Description of a client and of the tasks or threads that share it.

    :param name: unique.
    :param backend: the event loop, which a blocking client has too.
    :param blocking: whether the client is a blocking one.
    :param address: the server's address; None for an embedded one in this process.
    :param timeout: the `timeout` of the client.
    :param actors: how many tasks or threads share the client.
    """

    name: str
    backend: Backend
    blocking: bool
    address: str | None
    timeout: float | None
    actors: int


#: The kinds of clients, in turn: the backend, and whether it is a blocking client's.
KINDS: Sequence[tuple[Backend, bool]] = (
    ("asyncio", False),
    ("trio", False),
    ("asyncio", True),
    ("trio", False),
    ("asyncio", False),
    ("trio", False),
    ("trio", True),
    ("asyncio", False),
)


def crowd_of(count: int, proxy: str, server: str) -> list[Member]:
    """Return `count` members: most connect to the proxy, some to the server, some have an embedded server."""
    places = {3: server, 5: None, 6: server, 8: None, 10: None}
    members = []
    # The periods share no factor with each other, so that each kind comes with every address and timeout.
    for n in range(count):
        backend, blocking = KINDS[n % len(KINDS)]
        address = places.get(n % 11, proxy)
        timeout = TIMEOUT if n % 5 in (0, 2) else None
        members.append(Member(f"client{n}", backend, blocking, address, timeout, 1 if n % 3 else 3))
    return members


def may_be_interrupted() -> bool:
    """Return whether this thread makes blocking calls, or runs the event loop of a blocking client."""
    return threading.current_thread().name in (BLOCKING, "lmstudio")


class Crowd:
    """All members, in threads of their own, until the time is over.

    :param models: the models folder, for the members with an embedded server.
    """

    def __init__(self, members: Sequence[Member], seed: int, models: Path, record: Record) -> None:
        self._members = members
        self._plans = {
            name: intents(seed, name)
            for member in members
            for name in (_actor_name(member, n) for n in range(member.actors))
        }
        self._models = models
        self._record = record
        self._until = 0.0
        self._threads: list[threading.Thread] = []

    def start(self, seconds: float) -> None:
        """Start the threads, which end after `seconds`."""
        self._until = time.monotonic() + seconds
        works: list[tuple[str, Callable[[], None]]] = [
            (BLOCKING, partial(self._live_blocking, member)) for member in self._members if member.blocking
        ]
        for backend in ("asyncio", "trio"):
            them = [each for each in self._members if not each.blocking and each.backend == backend]
            works.append((backend, partial(anyio.run, self._live, them, backend=backend)))
        self._threads = [
            threading.Thread(target=self._record_end, args=(work,), name=name) for name, work in works
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_there(self) -> bool:
        """Whether a thread of the crowd still runs."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()

    def _record_end(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - any error should have ended only one operation
            self._record.note(f"a whole crowd was ended by {error!r}")

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._until

    # -- async clients

    async def _live(self, members: Sequence[Member]) -> None:
        before = {task.id for task in anyio.get_running_tasks()}
        async with AsyncExitStack() as stack:
            server = None
            if any(member.address is None for member in members):
                server = await stack.enter_async_context(
                    lms.EmbeddedServer(self._models, threads=1, limits=LIMITS)
                )
            async with anyio.create_task_group() as tasks:
                for member in members:
                    tasks.start_soon(self._be_member, member, member.address or server)
        left = [task for task in anyio.get_running_tasks() if task.id not in before]
        if left:
            self._record.note(f"tasks are left over: {left}")

    async def _be_member(self, member: Member, host: Any) -> None:
        while not self._is_over:
            client = lms.AsyncClient(host, timeout=member.timeout)
            async with client, anyio.create_task_group() as tasks:
                for n in range(member.actors):
                    tasks.start_soon(self._be_actor, client, _actor_name(member, n), n == 0)

    async def _be_actor(self, client: lms.AsyncClient, name: str, ends_it: bool) -> None:
        actor = Actor(client, name)
        for _ in range(STINT if ends_it else STINT * 10):
            if self._is_over:
                break
            intent = next(self._plans[name])
            with anyio.move_on_after(intent.cancel_after), self._record.operation(name, intent.what) as done:
                await actor.act(intent)
            if done.outcome == CLOSED:
                break
            if done.outcome == UNREACHABLE:
                await anyio.sleep(BREATH)
        if ends_it:
            with self._record.operation(name, "close"):
                await client.aclose()

    # -- blocking clients

    def _live_blocking(self, member: Member) -> None:
        while not self._is_over:
            host = member.address or lms.EmbeddedServer(self._models, threads=1, limits=LIMITS)
            with lmstudio_sync.Client(host, timeout=member.timeout, backend=member.backend) as client:
                others = [
                    threading.Thread(
                        target=self._act_blocking,
                        args=(client, _actor_name(member, n), False),
                        name=BLOCKING,
                    )
                    for n in range(1, member.actors)
                ]
                for other in others:
                    other.start()
                self._act_blocking(client, _actor_name(member, 0), True)
                for other in others:
                    other.join()

    def _act_blocking(self, client: lmstudio_sync.Client, name: str, ends_it: bool) -> None:
        actor = Actor(client, name)
        for _ in range(STINT if ends_it else STINT * 10):
            if self._is_over:
                break
            intent = next(self._plans[name])
            operation = self._record.operation(name, intent.what)
            try:
                with operation, _Interrupted(intent.cancel_after):
                    run_blocking(actor.act(intent))
            except KeyboardInterrupt:
                pass
            if operation.outcome == CLOSED:
                break
            if operation.outcome == UNREACHABLE:
                time.sleep(BREATH)
        if ends_it:
            with self._record.operation(name, "close"):
                client.close()


class _Interrupted:
    """Raise `KeyboardInterrupt` in this thread alone after a number of seconds, unless the block ended before."""

    def __init__(self, seconds: float | None) -> None:
        self._thread = ctypes.c_ulong(threading.get_ident())
        self._lock = threading.Lock()
        self._is_over = False
        self._timer = None if seconds is None else threading.Timer(seconds, self._interrupt)

    def _interrupt(self) -> None:
        with self._lock:
            if not self._is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread, ctypes.py_object(KeyboardInterrupt))

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer is None:
            return
        try:
            self._leave()
        except KeyboardInterrupt:
            # The timer interrupts only once, so nothing can interrupt this second call.
            self._leave()
            raise
        finally:
            self._timer.cancel()
            self._timer.join()

    def _leave(self) -> None:
        with self._lock:
            self._is_over = True
        # An interrupt that is already set is raised where the interpreter checks for it: at the latest in this loop.
        for _ in range(100):
            pass


def _actor_name(member: Member, n: int) -> str:
    return f"{member.name}.{n}"
