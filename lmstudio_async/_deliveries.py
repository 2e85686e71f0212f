"""Record of the results that operations have handed over, so that the blocking facade can take them back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Undo", "deliveries"]

Undo: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""A function that undoes the work of a call, or takes back its result."""

#: While this holds a list, each operation that hands over a result in this context appends a function that takes it
#: back. If an interrupt keeps the result of a call from the thread that waits for it, the thread calls all of them.
deliveries: ContextVar[list[Undo] | None] = ContextVar("lmstudio_deliveries", default=None)
