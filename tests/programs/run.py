"""A program of many scenes, run one after the other; no scene may leave work behind on the server.

::

    python tests/programs/run.py RUNNER PLACE PART...

PLACE is the server's ``HOST:PORT@PROCESS``, or a models folder for a server in the program. A PART is ``answers``,
``loads``, ``late_loads`` or ``interrupts``. For each scene the program prints a line of JSON, which names the scene
and the work that has not ended.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module

import anyio
import pytest

from lmstudio_async import AsyncClient, AsyncLLM, EmbeddedServer
from tests.processes import hold_loads, workers
from tests.programs.answers import Place
from tests.programs.runners import RUNNERS, runs_on_trio

Scene = Callable[..., Awaitable[None]]

#: Far longer than the end of any work takes, and far shorter than an endless answer lasts.
SECONDS = 20

# The scenes rightly cause these two warnings; the second one is trio's.
warnings.filterwarnings("ignore", ".*dropped half-way", ResourceWarning)
warnings.filterwarnings("ignore", "Async generator .* before it had been exhausted", ResourceWarning)


def scenes(module: str) -> Iterator[Scene]:
    """Find the scenes of a module: its coroutine functions with a parameter `place`."""
    for name, function in list(vars(import_module(f"tests.programs.{module}")).items()):
        if inspect.iscoroutinefunction(function) and "place" in inspect.signature(function).parameters:
            function.__name__ = f"{module}: {name}"
            yield function


def tell(scene: Scene, left: object) -> None:
    """Print the outcome of a scene for the test. Exit if the scene left work, or the next one would be blamed for it."""
    print(json.dumps({"scene": scene.__name__, "left": left}), flush=True)  # noqa: T201 - the test reads it
    if left:
        os._exit(1)


async def busy(llm: AsyncLLM) -> str | None:
    """Wait until a model is idle; if that takes too long, return its status instead."""
    status: str = "unknown"
    with anyio.move_on_after(SECONDS):
        while (status := (await llm.get_processing_state()).status) != "idle":
            pass
        return None
    return status


async def loaded(client: AsyncClient) -> list[str]:
    """Wait until nothing is loaded; if that takes too long, return the identifiers of the instances."""
    handles: Sequence[AsyncLLM] = []
    with anyio.move_on_after(SECONDS):
        while handles := await client.llm.list_loaded():
            pass
    return [handle.identifier for handle in handles]


class Program:
    """The scenes, and their server."""

    def __init__(self, runner: str, place: str) -> None:
        self._run = RUNNERS[runner]
        self._library = "trio" if runs_on_trio(runner) else "asyncio"
        self._host, _, process = place.rpartition("@")
        self._folder = place
        self._server_process = int(process) if self._host else os.getpid()
        self._is_holding = False
        if not self._host:
            hold_loads(pytest.MonkeyPatch(), lambda worker: self._is_holding)

    def play(self, *parts: str) -> None:
        for part in parts:
            if part == "interrupts":
                for scene in scenes(part):
                    self._interrupted(scene)
            else:
                self._run(getattr(self, f"_{part}"))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Place]:
        if self._host:
            yield self._host
        else:
            async with EmbeddedServer(self._folder, threads=1) as server:
                yield server

    async def _answers(self) -> None:
        async with self._place() as place, AsyncClient(place) as client, AsyncClient(place) as observer:
            self._is_holding = False
            if not self._host:
                await client.llm.load_new_instance("talker", config={"context_length": 65536})
            llm, seen = await client.llm.model("talker"), await observer.llm.model("talker")
            for scene in [*scenes("answers"), *scenes(f"answers_on_{self._library}")]:
                await scene(llm, place)
                tell(scene, await busy(seen))

    async def _loads(self) -> None:
        async with self._place() as place, AsyncClient(place) as client:
            self._is_holding = True
            before = self._workers()
            for scene in [*scenes("loads"), *scenes(f"loads_on_{self._library}")]:
                await scene(client, place)
                tell(scene, await self._new_workers(client, before))

    async def _late_loads(self) -> None:
        async with AsyncClient(self._host) as client:
            for scene in scenes("late_loads"):
                with anyio.move_on_after(SECONDS):
                    await scene(client, self._host)
                # Use the same client, so that the server receives the load before this request.
                tell(scene, await loaded(client))

    def _interrupted(self, scene: Scene) -> None:
        self._is_holding = "load" in scene.__name__
        before = self._workers()

        async def main() -> None:
            async with self._place() as place:
                await scene(place)

        async def look() -> None:
            if not self._host:
                tell(scene, sorted(self._workers()))
                return
            async with AsyncClient(self._host) as client:
                llm = await client.llm.model("talker")
                tell(scene, await busy(llm) or await self._new_workers(client, before))

        try:
            self._run(main)
        except KeyboardInterrupt:
            self._run(look)
        else:
            tell(scene, "no KeyboardInterrupt came out")

    def _workers(self) -> set[int]:
        return workers(self._server_process)

    async def _new_workers(self, client: AsyncClient, before: set[int]) -> list[int]:
        """Wait until there are no other workers than before; if that takes too long, return the new ones."""
        new: set[int] = set()
        with anyio.move_on_after(SECONDS):
            while new := self._workers() - before:
                await client.llm.list_loaded()
        return sorted(new)


if __name__ == "__main__":
    Program(*sys.argv[1:3]).play(*sys.argv[3:])
