"""Record of what operations hand over to the code that awaits them: the blocking facade can take it back."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

__all__ = ["Delivery", "deliveries"]


class Delivery(Protocol):
    """An operation that has handed something over."""

    async def _take_back(self) -> None:
        """Undo that."""


#: While it holds a list, each operation whose consumer gets something new in this context appends itself. So the thread
#: that waits for a call can undo what the call was given, if an interrupt keeps it from the thread.
deliveries: ContextVar[list[Delivery] | None] = ContextVar("lmstudio_deliveries", default=None)
