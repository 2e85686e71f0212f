"""Records of a session about instances: when this client used them last, for the reasons why they are gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from lmstudio_async._protocol._departure import Departure

__all__ = ["InstanceRecords"]


class _Record(NamedTuple):
    # As the server sent it: any number.
    ttl_ms: float
    used_at: float


class InstanceRecords:
    """The instances with a TTL that a session has handles of.

    LM Studio does not tell why an instance is gone. If this client did not use the instance for its TTL, that is the most
    probable reason.

    :param kept: number of instances to remember.
    :param known: returns why the instance of a reference is gone, as far as the client knows.
    """

    def __init__(self, kept: int, known: Callable[[str], Departure | None]) -> None:
        self._kept = kept
        self._known = known
        # By instance reference. The one whose handle is the latest is last.
        self._records: dict[str, _Record] = {}

    def see(self, reference: str, ttl_ms: float | None) -> None:
        """Remember an instance that the session has a handle of.

        :param ttl_ms: its TTL in milliseconds; None for none.
        """
        if ttl_ms is None or ttl_ms <= 0 or not reference:
            return
        # A handle is no use, so an earlier use counts.
        former = self._records.pop(reference, None)
        self._records[reference] = _Record(ttl_ms, time.monotonic() if former is None else former.used_at)
        if len(self._records) > self._kept:
            # Of a copy, because another thread may make a handle at the same time.
            self._records.pop(next(iter([*self._records])), None)

    def on_used(self, reference: str) -> None:
        """Record that a request that has used an instance has ended now."""
        record = self._records.get(reference)
        if record is not None:
            self._records[reference] = record._replace(used_at=time.monotonic())

    def departure(self, reference: str) -> Departure | None:
        """Return why an instance is gone, as far as this client knows or can conclude; else None."""
        if (known := self._known(reference)) is not None:
            return known
        record = self._records.get(reference)
        if record is None:
            return None
        unused = time.monotonic() - record.used_at
        return (
            Departure("ttl", ttl=record.ttl_ms / 1000, unused=unused)
            if unused * 1000 > record.ttl_ms
            else None
        )
