"""Helpers for the tests of the registry: a running registry, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.abc

from lmstudio_async._wire._kv import stack, to_fields
from lmstudio_async._wire._models import GetOrLoadCreation, LoadModelCreation
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._instances._registry import Domain, Instance, Instances
from lmstudio_async.errors import LMStudioServerError
from lmstudio_async.testing import ModelsFolder

TINY = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
OTHER = "acme/other-GGUF/other-Q8_0.gguf"
EMBED = "acme/embed-GGUF/embed-F32.gguf"

P = TypeVar("P", bound=WireObject)


def three_models(tmp_path: Path) -> ModelsFolder:
    """Make a models folder with three models, below ``tmp_path``. Modules make their fixture ``models`` of it."""
    models = ModelsFolder(tmp_path / "models")
    models.add_llm(TINY)
    models.add_llm(OTHER)
    models.add_embedding(EMBED)
    return models


@asynccontextmanager
async def running(models: ModelsFolder, **settings: Any) -> AsyncIterator[Instances]:
    # Most tests never use the instances that they load, so they would wait out the time reserved for a first use.
    settings = {"handout_seconds": 0, **settings}
    instances = Instances(Catalog(models.folder), threads=1, **settings)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(60):
            await tasks.start(instances.run)
            yield instances
        tasks.cancel_scope.cancel()


class Reports(list[WireObject]):
    """The packets of one operation. `first` waits for one of a type."""

    def __init__(self) -> None:
        super().__init__()
        self._news = anyio.Event()

    def __call__(self, packet: WireObject) -> None:
        self.append(packet)
        self._news.set()

    async def first(self, kind: type[P]) -> P:
        while not (found := self.of(kind)):
            self._news = anyio.Event()
            await self._news.wait()
        return found[0]

    def of(self, kind: type[P]) -> list[P]:
        return [packet for packet in self if isinstance(packet, kind)]

    @property
    def kinds(self) -> list[str]:
        """Types of the packets in the order of their arrival; repeated ones, such as progress, count once."""
        names = [type(packet).__name__ for packet in self]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


class LoadTask:
    """A load that runs in a task of its own, like a request to the server."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.reports = Reports()
        self.instance: Instance | None = None
        self.error: LMStudioServerError | None = None
        self.over = anyio.Event()
        self._scope = anyio.CancelScope()
        self._tasks = tasks

    async def run(
        self, instances: Instances, domain: Domain, creation: LoadModelCreation | GetOrLoadCreation
    ) -> None:
        try:
            with self._scope:
                if isinstance(creation, LoadModelCreation):
                    self.instance = await instances.load(domain, creation, self.reports)
                else:
                    self.instance = await instances.get_or_load(domain, creation, self.reports)
        except LMStudioServerError as error:
            self.error = error
        finally:
            self.over.set()

    def leave(self) -> None:
        """Cancel the load without waiting for its end."""
        self._scope.cancel()

    async def cancel(self) -> None:
        self.leave()
        await self.over.wait()

    async def result(self) -> Instance:
        await self.over.wait()
        assert self.error is None
        assert self.instance is not None
        return self.instance


def ask_load(tasks: anyio.abc.TaskGroup, instances: Instances, key: str = "tiny", **more: Any) -> LoadTask:
    asking = LoadTask(tasks)
    tasks.start_soon(asking.run, instances, "llm", LoadModelCreation(model_key=key, **more))
    return asking


def ask_get(
    tasks: anyio.abc.TaskGroup, instances: Instances, key: str = "tiny", domain: Domain = "llm"
) -> LoadTask:
    asking = LoadTask(tasks)
    tasks.start_soon(asking.run, instances, domain, GetOrLoadCreation(identifier=key))
    return asking


async def load(
    instances: Instances,
    key: str = "tiny",
    identifier: str | None = None,
    *,
    domain: Domain = "llm",
    **more: Any,
) -> Instance:
    creation = LoadModelCreation(model_key=key, identifier=identifier, **more)
    return await instances.load(domain, creation, lambda _: None)


async def get(instances: Instances, key: str = "tiny", *, domain: Domain = "llm", **more: Any) -> Instance:
    return await instances.get_or_load(domain, GetOrLoadCreation(identifier=key, **more), lambda _: None)


def config(**values: Any) -> dict[str, Any]:
    return stack(to_fields({f"llm.load.{name}": value for name, value in values.items()}))


def names(instances: Instances, domain: Domain | None = None) -> list[str]:
    return [instance.identifier for instance in instances.loaded(domain)]
