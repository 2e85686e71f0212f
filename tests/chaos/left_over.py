"""What a process holds: tasks, threads, descriptors, memory."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs

from tests.processes import memory_mb

__all__ = ["Held", "compact", "descriptors", "held_here"]

#: Threads of pools, which stay for the next one who needs them. There is an upper limit to them.
POOLED = ("AnyIO worker thread", "Trio thread ", "asyncio_")
#: Memory that allocators keep for the next one who asks, in fragments that cannot be given back.
SLACK_MB = 16.0


@attrs.frozen
class Held:
    """What a process holds.

    :param counted: by what is counted, such as ``threads``: how many there are of each name.
    """

    counted: Mapping[str, Counter[str]]
    memory_mb: float

    def more_than(self, before: Held) -> list[str]:
        """What there was not before, in words."""
        more = [
            f"{name} that were not there before: {dict(new)}"
            for name, counts in self.counted.items()
            if (new := counts - before.counted[name])
        ]
        if self.memory_mb > before.memory_mb + SLACK_MB:
            more.append(f"memory that has grown from {before.memory_mb:.0f} to {self.memory_mb:.0f} MB")
        return more

    def __str__(self) -> str:
        counts = [f"{counts.total()} {name}" for name, counts in self.counted.items()]
        return f"{self.memory_mb:.0f} MB, {', '.join(counts)}"


def held_here() -> Held:
    """What this process holds. Its tasks are the business of its event loops, and of who runs these."""
    compact()
    names = (thread.name.rstrip("0123456789") for thread in threading.enumerate())
    threads = Counter(name for name in names if name not in POOLED)
    return Held({"threads": threads, "descriptors": Counter(descriptors())}, memory_mb())


def compact() -> None:
    """Give back what is only kept for the next one who asks, so that what is left is really held."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass  # another C library, which has no such thing


def descriptors() -> list[str]:
    """What the open descriptors of this process lead to, without the numbers that sockets have."""
    found = []
    for link in [*Path("/proc/self/fd").iterdir()]:
        try:
            found.append(str(link.readlink()).partition(":[")[0])
        except OSError:
            continue  # the one that this listing was made through
    return found
