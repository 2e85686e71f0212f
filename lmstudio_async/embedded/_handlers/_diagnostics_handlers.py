"""Endpoints of the namespace ``diagnostics``: the log of the server."""

from __future__ import annotations

from typing import Any

from lmstudio_async._wire._diagnostics import LogEvent, LogPacket
from lmstudio_async._wire._struct import read
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._connections._logs import Logs

__all__ = ["DiagnosticsHandlers"]


class DiagnosticsHandlers:
    """The endpoints of ``diagnostics``."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def stream_logs(self, _: None, channel: Channel) -> None:
        def watch(event: dict[str, Any]) -> None:
            channel.post(LogPacket(log=read(LogEvent, event)))

        self._logs.watchers.add(watch)
        try:
            await channel.cancelled.wait()
        finally:
            self._logs.watchers.discard(watch)
