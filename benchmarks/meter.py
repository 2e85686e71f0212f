"""Measurement of processor time and wall time of a part of a program."""

from __future__ import annotations

import gc
import os
import time
from types import TracebackType
from typing import Self

__all__ = ["Meter", "take_a_core"]


class Meter:
    """Measures a ``with`` block, in the whole process with all of its threads.

    :param units: the number of operations in the block. The figures are per operation.
    """

    def __init__(self, units: int = 1) -> None:
        self._units = units
        self.cpu = 0.0
        self.wall = 0.0

    def __enter__(self) -> Self:
        # Collect earlier garbage now, so that its collection is not measured.
        gc.collect()
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cpu = (time.process_time() - self.cpu) / self._units
        self.wall = (time.perf_counter() - self.wall) / self._units

    def figures(self, name: str) -> dict[str, float]:
        """Return the measured times, in seconds."""
        return {f"{name}.cpu": self.cpu, f"{name}.wall": self.wall}


def take_a_core(number: int, *, real_time: bool = False) -> None:
    """Pin this process to a core, if the system supports and permits it.

    :param number: the index of the core.
    :param real_time: whether to keep other processes off the core.
    """
    try:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
        if real_time:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except (AttributeError, OSError):
        # Not on Linux, or not permitted: the figures are noisier then, but still comparable.
        pass
