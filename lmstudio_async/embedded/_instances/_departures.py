"""Reasons why instances are gone, which the errors of later requests to them tell."""

from __future__ import annotations

from typing import Any, Final, Literal, Self, TypeAlias

import attrs

from lmstudio_async._protocol._errors import instance_unloaded
from lmstudio_async.errors import LMStudioInstanceUnloadedError

__all__ = ["Departure", "Departures"]

Reason: TypeAlias = Literal["unloaded", "ttl", "evicted", "crashed", "serverStopped"]

_MOST_DEPARTURES: Final = 1000


@attrs.frozen
class Departure:
    """The reason why an instance is gone, or is being unloaded.

    :param reason: the reason as clients read it.
    :param cause: the reason as a sentence for people.
    :param evicted_for: key of the model that the instance was evicted for; None for another reason.
    :param ttl_seconds: TTL that has passed; None for another reason.
    """

    reason: Reason
    cause: str
    evicted_for: str | None = None
    ttl_seconds: float | None = None

    @classmethod
    def unloaded(cls, identifier: str) -> Self:
        """Return the departure of an instance that a client unloads."""
        return cls("unloaded", f'A client unloaded "{identifier}".')

    @classmethod
    def abandoned(cls, identifier: str) -> Self:
        """Return the departure of an instance whose load all clients gave up when it was nearly done."""
        return cls("unloaded", f'"{identifier}" was unloaded, because its load was cancelled at the end.')

    @classmethod
    def expired(cls, identifier: str, ttl_ms: int) -> Self:
        """Return the departure of an instance that was idle for its TTL."""
        seconds = ttl_ms / 1000
        return cls(
            "ttl",
            f'"{identifier}" was unloaded, because it was idle for its TTL of {seconds:.15g} seconds.',
            None,
            seconds,
        )

    @classmethod
    def evicted(cls, identifier: str, model_key: str) -> Self:
        """Return the departure of an instance that makes room for a just-in-time load.

        :param model_key: key of the model that is being loaded.
        """
        return cls("evicted", f'"{identifier}" was evicted to make room for "{model_key}".', model_key)

    @classmethod
    def crashed(cls, identifier: str, how: str) -> Self:
        """Return the departure of an instance whose engine has ended.

        :param how: a verb phrase: how the engine ended.
        """
        return cls("crashed", f'The engine of the model "{identifier}" {how}.')

    @classmethod
    def stopped(cls, identifier: str) -> Self:
        """Return the departure of an instance that is unloaded at the end of the server."""
        return cls("serverStopped", f'"{identifier}" was unloaded, because the server was stopped.')

    def error(self) -> LMStudioInstanceUnloadedError:
        """Return the error for a request to the instance."""
        departure: dict[str, Any] = {"reason": self.reason}
        if self.evicted_for is not None:
            departure["evictedFor"] = self.evicted_for
        if self.ttl_seconds is not None:
            departure["ttlSeconds"] = self.ttl_seconds
        return instance_unloaded(self.cause, departure)


class Departures:
    """The latest departures by instance reference. The oldest ones are forgotten.

    :param kept: number of departures to remember.
    """

    def __init__(self, kept: int = _MOST_DEPARTURES) -> None:
        self._kept = kept
        self._by_reference: dict[str, Departure] = {}

    def add(self, reference: str, departure: Departure) -> None:
        """Remember why an instance is gone, or is being unloaded."""
        self._by_reference[reference] = departure
        if len(self._by_reference) > self._kept:
            del self._by_reference[next(iter(self._by_reference))]

    def error(self, reference: str) -> LMStudioInstanceUnloadedError:
        """Return the error for a request to an instance that is not loaded, with the reason if it is remembered."""
        departure = self._by_reference.get(reference)
        return instance_unloaded() if departure is None else departure.error()
