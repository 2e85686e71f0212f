"""The endpoints of ``diagnostics``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint
from lmstudio_async._wire._diagnostics import StopLogs, StreamLogsPacket
from lmstudio_async._wire._struct import Unknown

STREAM_LOGS: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "streamLogs", None, StreamLogsPacket, StopLogs | Unknown, label="Log"
)
