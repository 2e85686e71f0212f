"""Handling of Ctrl-C that lets the clean-up finish, even if Ctrl-C arrives as several signals."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

__all__ = ["INTERRUPTED", "patient_interrupts"]

INTERRUPTED = 128 + signal.SIGINT

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
