"""State that threads share although a signal may interrupt them at any moment. An interrupt cannot leave it locked.

Python raises `KeyboardInterrupt` between two bytecodes of the main thread. `threading.Event` and `threading.Condition`
are written in Python: an interrupt inside them can leave their lock taken, and then every thread waits for ever. On
Python 3.14.10, even ``with lock:`` can do so, although the lock is written in C. The classes here consist of single
operations that are written in C.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["SLICE_SECONDS", "Latch", "WeakMembers"]

T = TypeVar("T")

#: Seconds of a single wait. On some systems Python notices a Ctrl-C only between two of these.
SLICE_SECONDS = 0.1


class Latch:
    """An event that is set once, and that threads wait for."""

    __slots__ = ("_wakes", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Wake the threads that wait. Idempotent."""
        if not self.is_set:
            self.is_set = True
            self._wakes.put(None)

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait until it is set. A wake-up that an interrupt swallows delays the next thread by a slice.

        :param seconds: the longest time to wait.
        :return: whether it is set.
        """
        deadline = time.monotonic() + seconds
        while not self.is_set and (left := deadline - time.monotonic()) > 0:
            try:
                self._wakes.get(timeout=min(SLICE_SECONDS, left))
            except Empty:
                continue
            # There is one wake-up for all threads, so each thread passes it on.
            self._wakes.put(None)
        return self.is_set


class WeakMembers(Generic[T]):
    """A set of objects that it does not keep alive. One thread may iterate while another one adds."""

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, member: T) -> None:
        """Add an object."""
        self._references.add(weakref.ref(member, self._references.discard))

    def __iter__(self) -> Iterator[T]:
        for reference in list(self._references):
            member = reference()
            if member is not None:
                yield member
