"""Ctrl-C, so that it cleans up also where it comes as several signals."""

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
    """Have the first SIGINT or SIGTERM cancel the task that runs, and let it clean up. Used in that task.

    The terminal sends Ctrl-C to all of its programs, and a program such as tox sends it on to those that it has
    started. The event loop takes the second signal for impatience, and would stop the clean-up half-way.
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
            # The clean-up has limits, but not everybody has the time. Workers end when their server does.
            os._exit(INTERRUPTED)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        if first is None:
            for number, handler in before.items():
                signal.signal(number, handler)
