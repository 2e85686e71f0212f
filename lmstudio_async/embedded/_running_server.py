"""The state of a server that runs: what all of its connections share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel

from lmstudio_async.embedded._timing import ServerTiming

if TYPE_CHECKING:
    from lmstudio_async.embedded._catalog._catalog import Catalog
    from lmstudio_async.embedded._handlers._repository_handlers import RepositoryHandlers
    from lmstudio_async.embedded._instances._registry import Instances
    from lmstudio_async.embedded._machine._hardware import Hardware

__all__ = ["RunningServer"]


class RunningServer:
    """The state that exists only while the server runs."""

    def __init__(
        self,
        catalog: Catalog,
        instances: Instances,
        task_group: anyio.abc.TaskGroup,
        timing: ServerTiming,
    ) -> None:
        self.timing = timing
        self.catalog = catalog
        self.instances = instances
        self.task_group = task_group
        self.loop: Any = anyio.lowlevel.current_token()
        self.served: set[anyio.CancelScope] = set()

    @cached_property
    def hardware(self) -> Hardware:
        """The hardware of this machine."""
        from lmstudio_async.embedded._machine._hardware import Hardware

        return Hardware()

    @cached_property
    def repository(self) -> RepositoryHandlers:
        """The handlers of ``repository``. All clients have the same ones, because they share downloads."""
        from lmstudio_async.embedded._handlers._repository_handlers import RepositoryHandlers

        return RepositoryHandlers(self.catalog, self.hardware, self.task_group, self.timing)

    async def aclose(self) -> None:
        """Close the client of the Hub, if it was made. Call this after the tasks have ended."""
        if "repository" in vars(self):
            await self.repository.aclose()
