"""Handling of Ctrl-C that lets the clean-up finish, even if Ctrl-C arrives as several signals."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from anyio.lowlevel import current_token

from lmstudio_async._cli._exit_codes import INTERRUPTED

__all__ = ["interrupts_call", "patient_interrupts"]

#: Seconds in which further signals belong to the first one.
ONE_CTRL_C = 1.0


@contextlib.contextmanager
def patient_interrupts() -> Iterator[None]:
    """Make the first SIGINT or SIGTERM cancel the task that uses this context manager, and let the task clean up.

    The terminal sends Ctrl-C to all of its programs, and a program such as tox sends it on to the programs that it has
    started. At the second signal, the event loop would stop the clean-up half-way.
    """
    of_event_loop = signal.getsignal(signal.SIGINT)
    if not callable(of_event_loop):
        # Interrupts are ignored, as in the background of a shell script.
        yield
        return
    first: float | None = None

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            of_event_loop(signal.SIGINT, frame)
        elif time.monotonic() - first > ONE_CTRL_C:
            # The clean-up is bounded in time, but the user may not want to wait. Workers end when their server does.
            os._exit(INTERRUPTED)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        if first is None:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_call(stop: Callable[[], object]) -> Iterator[None]:
    """Make Ctrl-C call a function in the event loop, in place of the cancellation of the whole command.

    A second one more than a second later cancels the command, in case the server does not stop.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        yield
        return
    loop: Any = current_token().native_token
    first: float | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            loop.call_soon_threadsafe(stop)
        elif time.monotonic() - first > ONE_CTRL_C:
            before(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
