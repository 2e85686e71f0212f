"""What goes into the models and comes out, and what clients give notice of, for those who watch (``streamLogs``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["Logs"]


class Logs:
    """Tells watchers of what happens. Without watchers it costs nothing."""

    def __init__(self) -> None:
        self.watchers: set[Callable[[dict[str, Any]], None]] = set()

    def emit(self, kind: str, **members: Any) -> None:
        """Tell of an event such as ``llm.prediction.input``."""
        if self.watchers:
            event = {"timestamp": round(time.time() * 1000), "data": {"type": kind, **members}}
            for watcher in self.watchers:
                watcher(event)
