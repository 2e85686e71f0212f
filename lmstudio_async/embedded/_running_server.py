"""The state of a server that runs: what all of its connections share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel

from lmstudio_async._preload import preload
from lmstudio_async.embedded._timing import ServerTiming

if TYPE_CHECKING:
    from lmstudio_async.embedded._catalog._catalog import Catalog
    from lmstudio_async.embedded._connections._clients import Client, Clients
    from lmstudio_async.embedded._connections._logs import Logs
    from lmstudio_async.embedded._handlers._repository_handlers import RepositoryHandlers
    from lmstudio_async.embedded._instances._registry import Instances
    from lmstudio_async.embedded._machine._hardware import Hardware

__all__ = ["RunningServer"]

#: Namespace -> module with its handlers. ``plugins`` has none, because all its endpoints are refused.
_HANDLERS = {
    "llm": "embedded._handlers._llm_handlers",
    "embedding": "embedded._handlers._model_handlers",
    "files": "embedded._handlers._files_handlers",
    "repository": "embedded._handlers._repository_handlers",
    "runtime": "embedded._handlers._runtime_handlers",
    "system": "embedded._handlers._system_handlers",
    "diagnostics": "embedded._handlers._diagnostics_handlers",
}


class RunningServer:
    """The state that exists only while the server runs."""

    def __init__(
        self,
        catalog: Catalog,
        instances: Instances,
        clients: Clients,
        logs: Logs,
        task_group: anyio.abc.TaskGroup,
        timing: ServerTiming,
    ) -> None:
        self.timing = timing
        self.catalog = catalog
        self.instances = instances
        self._clients = clients
        self._logs = logs
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

    async def handlers(self, namespace: str, client: Client) -> object:
        """Return the handlers of a namespace for a client; None if all its endpoints are refused."""
        if namespace not in _HANDLERS:
            return None
        await preload(_HANDLERS[namespace])
        match namespace:
            case "llm":
                from lmstudio_async.embedded._handlers._llm_handlers import LlmHandlers

                return LlmHandlers(self.instances, client, self._logs)
            case "embedding":
                from lmstudio_async.embedded._handlers._model_handlers import EmbeddingHandlers

                return EmbeddingHandlers(self.instances)
            case "files":
                from lmstudio_async.embedded._handlers._files_handlers import FileHandlers

                return FileHandlers(self._clients, client, self.instances)
            case "repository":
                return self.repository
            case "runtime":
                from lmstudio_async.embedded._handlers._runtime_handlers import RuntimeHandlers

                return RuntimeHandlers(self.hardware)
            case "system":
                from lmstudio_async.embedded._handlers._system_handlers import SystemHandlers

                return SystemHandlers(self.catalog, self._logs)
        from lmstudio_async.embedded._handlers._diagnostics_handlers import DiagnosticsHandlers

        return DiagnosticsHandlers(self._logs)

    async def aclose(self) -> None:
        """Close the client of the Hub, if it was made. Call this after the tasks have ended."""
        if "repository" in vars(self):
            await self.repository.aclose()
