"""The event loop that a client lives in."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from threading import get_ident
from typing import Any

from anyio.lowlevel import current_token

from lmstudio_async.errors import LMStudioRuntimeError

__all__ = ["EventLoop"]


class EventLoop:
    """The event loop that this is made in, and the way back into it, from any thread and without waiting.

    anyio's own way waits for what it runs there, which a finalizer in the loop's thread cannot.
    """

    def __init__(self) -> None:
        loop: Any = current_token().native_token
        self._schedule: Callable[..., object] = (
            getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        )
        self._thread = get_ident()
        self._is_running: Callable[[], bool] | None = getattr(loop, "is_running", None)
        # Another thread's context does not say which event loop this is.
        self._context = contextvars.copy_context()

    def soon(self, function: Callable[..., Any], *args: Any) -> bool:
        """Run a plain function in the loop.

        :return: whether it will run; if not, the loop has ended.
        """
        try:
            self._schedule(self._context.run, function, *args)
        except RuntimeError:
            # The loop is closed. (trio's RunFinishedError is a RuntimeError too.)
            return False
        return True

    def check(self) -> None:
        """Make sure that whoever calls runs in it. Asked before each call, so it has to cost nothing.

        :raises LMStudioRuntimeError: it is another one, or the loop has ended.
        """
        if get_ident() != self._thread or (self._is_running is not None and not self._is_running()):
            raise LMStudioRuntimeError(
                "This client belongs to the event loop that it was entered in, and this is another one. Make a client in "
                "each, or use lmstudio_sync, whose clients work in any thread."
            )
