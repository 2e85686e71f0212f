"""Resources that a process holds: tasks, threads, descriptors, memory."""

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

#: Names of pool threads, which are kept for reuse. Their number is limited.
POOLED = ("AnyIO worker thread", "Trio thread ", "asyncio_")
#: Memory that allocators keep for reuse, in fragments that cannot be returned to the system.
SLACK_MB = 16.0


@attrs.frozen
class Held:
    """Resources that a process holds.

    :param counted: for each kind of resource, such as ``threads``, the number of resources of each name.
    """

    counted: Mapping[str, Counter[str]]
    memory_mb: float

    def more_than(self, before: Held) -> list[str]:
        """Describe the resources that were not held before."""
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
    """Return the resources of this process, without tasks, because only an event loop can list these."""
    compact()
    names = (thread.name.rstrip("0123456789") for thread in threading.enumerate())
    threads = Counter(name for name in names if name not in POOLED)
    return Held({"threads": threads, "descriptors": Counter(descriptors())}, memory_mb())


def compact() -> None:
    """Release memory that is only kept for reuse, so that the rest is really held."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass  # another C library, which has no `malloc_trim`


def descriptors() -> list[str]:
    """Return the targets of the open descriptors of this process, without the numbers of sockets."""
    found = []
    for link in [*Path("/proc/self/fd").iterdir()]:
        try:
            found.append(str(link.readlink()).partition(":[")[0])
        except OSError:
            continue  # the descriptor of this listing itself
    return found
