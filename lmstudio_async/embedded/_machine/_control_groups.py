"""Limits that Linux control groups set for this process, as in containers and systemd services.

A process is in one group of each hierarchy, and the limits of all parent groups apply too. Versions 1 and 2 of control
groups have different file names, and both versions can be mounted at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

__all__ = ["MemoryGroup", "cpu_quota", "memory_groups"]

_ROOT: Final = Path("/")


class MemoryGroup(NamedTuple):
    """A group with a limit of its memory, in bytes."""

    limit: int
    free: int
    """Memory below the limit. Cached files count as free, because the kernel drops them when it needs memory."""


def memory_groups(root: Path = _ROOT) -> list[MemoryGroup]:
    """Return the groups of this process that limit its memory.

    :param root: the folder with ``proc`` and with the mount points of the groups.
    """
    found = []
    for version, folder in _groups("memory", root):
        statistics = _statistics(folder / "memory.stat")
        if version == 2:
            limits = [_number(folder / "memory.max")]
            used = _number(folder / "memory.current")
            cache = statistics.get("active_file", 0) + statistics.get("inactive_file", 0)
        else:
            # The hierarchical limit includes parent groups that a container cannot see.
            limits = [_number(folder / "memory.limit_in_bytes"), statistics.get("hierarchical_memory_limit")]
            used = _number(folder / "memory.usage_in_bytes")
            cache = statistics.get("total_active_file", 0) + statistics.get("total_inactive_file", 0)
        limit = min((limit for limit in limits if limit is not None), default=None)
        if limit is not None:
            found.append(MemoryGroup(limit, max(limit - max((used or 0) - cache, 0), 0)))
    return found


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the number of processors whose time this process may use; None if there is no limit.

    :param root: as for :func:`memory_groups`.
    """
    quotas = []
    for version, folder in _groups("cpu", root):
        if version == 2:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        # "max" in version 2 and -1 in version 1 mean that there is no limit.
        if quota.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _groups(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of each group that this process is in, and of their parents."""
    own: dict[int, PurePosixPath] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            own[1] = PurePosixPath(path)
        elif number == "0" and not controllers:
            own[2] = PurePosixPath(path)
    for line in _text(root / "proc/self/mountinfo").splitlines():
        about_mount, _, about_system = line.partition(" - ")
        mount, system = about_mount.split(" "), about_system.split(" ")
        version = {"cgroup": 1, "cgroup2": 2}.get(system[0])
        if version not in own or len(mount) < 5:
            continue
        if version == 1 and controller not in system[-1].split(","):
            continue
        top = root / _unescaped(mount[4]).lstrip("/")
        shown = PurePosixPath(_unescaped(mount[3]))
        below = own[version]
        # In a container the mount may not show the group of this process. Its top is then the nearest group.
        is_shown = below.is_relative_to(shown) and ".." not in below.parts
        below = below.relative_to(shown) if is_shown else PurePosixPath()
        for group in (below, *below.parents):
            yield version, top / group
        # One mount of a hierarchy is enough; the first one is the usual one.
        del own[version]


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""  # not Linux, or the group or its controller does not exist


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _statistics(file: Path) -> dict[str, int]:
    pairs = (line.split(" ") for line in _text(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)
