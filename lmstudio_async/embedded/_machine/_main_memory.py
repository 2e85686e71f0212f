"""Total and available memory of this machine, within the limits for this process."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

import attrs

from lmstudio_async.embedded._machine._control_groups import memory_groups

__all__ = ["MainMemory", "available_memory", "main_memory", "total_memory"]

_ROOT: Final = Path("/")


@attrs.frozen
class MainMemory:
    """Main memory of this machine, within the limits for this process: the result of `main_memory`.

    :param total_bytes: the bytes that this process can use at most, such as the limit of a container; None if the system
        does not report them.
    :param available_bytes: the bytes of them that are free or can be reclaimed; None if the system does not report them.
    """

    total_bytes: int | None
    available_bytes: int | None


def main_memory() -> MainMemory:
    """Return the main memory that models can get on this machine. Blocks for less than a millisecond: it reads files.

    :return: the memory, as `EmbeddedServer` sees it when it estimates whether a model fits.

    ::

        memory = main_memory()
        print(memory.available_bytes, "of", memory.total_bytes)
    """
    return MainMemory(total_memory(), available_memory())


def total_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes of memory that this process can use at most, or None if the system does not report it.

    :param root: the folder that has the system's ``proc`` and ``sys`` in it.
    """
    if sys.platform == "win32":
        return _windows_memory()[0]
    total = _from_kernel("MemTotal", root)
    if total is None:
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
    return min(total, *(group.limit for group in memory_groups(root)), total)


def available_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes of memory that are free or can be reclaimed, or None if the system does not report it.

    :param root: as for :func:`total_memory`.
    """
    if sys.platform == "win32":
        return _windows_memory()[1]
    available = _from_kernel("MemAvailable", root)
    if available is None:
        total = total_memory(root)
        # Estimate for macOS: its counters need its own tools to interpret, and it frees memory by compression.
        return None if total is None else total * 3 // 4
    return min(available, *(group.free for group in memory_groups(root)), available)


def _from_kernel(name: str, root: Path) -> int | None:
    try:
        status = (root / "proc/meminfo").read_text("ascii", "replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _windows_memory() -> tuple[int | None, int | None]:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d", "e")),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not getattr(ctypes, "windll").kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # noqa: B009 - Windows only
        return None, None
    return int(status.total), int(status.available)
