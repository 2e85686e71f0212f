"""Durations of a server that its owner cannot set. Tests pass other ones as ``_timing``."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFAULT_TIMING", "ServerTiming"]


class ServerTiming(NamedTuple):
    """Durations of one server."""

    progress_seconds: float = 15.0
    """Seconds of silence after which the progress of a load, a prompt or a download is repeated. A published client
    gives up a load after 60 seconds without a packet, and LM Studio's own server sends one at least every 20
    seconds."""
    grace_seconds: float = 1.0
    """Seconds that the requests to an instance may take to end when it is unloaded; then its engine is ended."""
    kill_seconds: float = 5.0
    """Seconds that a killed worker process may take to end. It takes milliseconds, or seconds if it has to free much
    memory."""
    retry_seconds: float = 0.2
    """Pause before a failed download from the Hub is tried again. It doubles as long as no new bytes arrive."""
    turn_seconds: float = 0.005
    """Seconds for which a socket may parse received bytes before other tasks get a turn of the event loop."""
    ping_seconds: float = 20.0
    """Seconds between two pings to the client of a websocket."""


DEFAULT_TIMING = ServerTiming()
