"""Log events for clients that call ``streamLogs``: inputs and outputs of models, and notifications of clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["Logs"]


class Logs:
    """Sends log events to its watchers. Without watchers it does no work."""

    def __init__(self) -> None:
        self.watchers: set[Callable[[dict[str, Any]], None]] = set()

    def emit(self, kind: str, **members: Any) -> None:
        """Send an event to all watchers.

        :param kind: the type of the event, such as ``llm.prediction.input``.
        :param members: the other members of its data.
        """
        if self.watchers:
            event = {"timestamp": round(time.time() * 1000), "data": {"type": kind, **members}}
            for watcher in self.watchers:
                watcher(event)
