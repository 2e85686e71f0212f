"""The endpoints of ``diagnostics``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint

STREAM_LOGS: ChannelEndpoint[None, Any] = ChannelEndpoint(
    "streamLogs",
    None,
    "_diagnostics.StreamLogsPacket",
    "_diagnostics.StopLogs | _struct.Unknown",
    label="Log",
)
