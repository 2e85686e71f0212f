"""Record of the operations that have handed over a result, so that the blocking facade can take the result back."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

__all__ = ["Delivery", "deliveries"]


class Delivery(Protocol):
    """An operation that has handed over a result."""

    async def _take_back(self) -> None:
        """Take the result back."""


#: While this holds a list, each operation that hands over a result in this context appends itself. If an interrupt
#: keeps the result of a call from the thread that waits for it, the thread takes back all results of that call.
deliveries: ContextVar[list[Delivery] | None] = ContextVar("lmstudio_deliveries", default=None)
