"""Endpoints of the namespace ``system``: downloaded models, versions, experiment flags."""

from __future__ import annotations

import logging
import os

import anyio.to_thread

from lmstudio_async._printable import printable
from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._infos import ModelInfo
from lmstudio_async._wire._system import (
    ListVariantsParameter,
    NotifyParameter,
    ServerInfo,
    ServerVersion,
    SetExperimentFlagParameter,
)
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._connections._logs import Logs
from lmstudio_async.embedded._instances._instance import model_info
from lmstudio_async.embedded._versions import package_version

__all__ = ["SystemHandlers"]

logger = logging.getLogger("lmstudio_async.embedded")


class SystemHandlers:
    """The endpoints of ``system``."""

    def __init__(self, catalog: Catalog, logs: Logs) -> None:
        self._catalog = catalog
        self._logs = logs

    async def list_downloaded_models(self, _: None) -> list[ModelInfo]:
        return [model_info(entry) for entry in await anyio.to_thread.run_sync(self._catalog.scan)]

    async def list_downloaded_model_variants(self, parameter: ListVariantsParameter) -> list[ModelInfo]:
        entries = await anyio.to_thread.run_sync(self._catalog.scan)
        keys = {
            entry.base_key for entry in entries if parameter.model_key in (entry.model_key, entry.base_key)
        }
        variants = [entry for entry in entries if entry.base_key in keys]
        if len(variants) < 2:
            raise server_error(f'The model "{parameter.model_key}" has no variants.')
        return [model_info(entry) for entry in variants]

    async def alive(self, _: None, __: Channel) -> None:
        await wait_until_cancelled()

    async def notify(self, parameter: NotifyParameter) -> None:
        # Log the notification, because this server has no user interface that could show it.
        text = ": ".join(filter(None, (parameter.title, parameter.description)))
        logger.info("notification: %s", printable(text))
        self._logs.emit("server.log", level="info", content=f"notification: {text}")

    async def version(self, _: None) -> ServerVersion:
        return ServerVersion(version=package_version(), build=1)

    async def info(self, _: None) -> ServerInfo:
        return ServerInfo(pid=os.getpid(), is_daemon=True, version=package_version())

    async def get_experiment_flags(self, _: None) -> list[str]:
        return []

    async def set_experiment_flag(self, parameter: SetExperimentFlagParameter) -> None:
        # This server has no experiments: turning one off is accepted, because all of them are off.
        if parameter.value:
            raise server_error(
                f'There is no experiment "{parameter.code[:100]}" on this server: it has none.',
                "Leave the flag off.",
            )
