"""Time that a piece of a program takes: of the processor, and on the wall."""

from __future__ import annotations

import gc
import os
import time
from types import TracebackType
from typing import Self

__all__ = ["Meter", "take_a_core"]


class Meter:
    """Measures a ``with`` block: the whole process, all of its threads.

    :param units: how many things are done in the block; what is measured is per thing.
    """

    def __init__(self, units: int = 1) -> None:
        self._units = units
        self.cpu = 0.0
        self.wall = 0.0

    def __enter__(self) -> Self:
        # Rubbish that was there before is not to be collected at our expense.
        gc.collect()
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cpu = (time.process_time() - self.cpu) / self._units
        self.wall = (time.perf_counter() - self.wall) / self._units

    def figures(self, name: str) -> dict[str, float]:
        """What was measured, in seconds."""
        return {f"{name}.cpu": self.cpu, f"{name}.wall": self.wall}


def take_a_core(number: int, *, real_time: bool = False) -> None:
    """Pin this process, and let nobody else in, as far as the machine knows how to and allows it."""
    try:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
        if real_time:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except (AttributeError, OSError):
        # Not on Linux, or not permitted: the figures are then noisier, but still side by side.
        pass
