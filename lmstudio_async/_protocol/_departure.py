"""Reasons why instances are gone, and their texts in errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from lmstudio_async.errors import LMStudioServerError

__all__ = ["Departure", "UnloadReason", "advice", "departure_of", "explanation", "more_precise"]

UnloadReason: TypeAlias = Literal[
    "unloaded_by_this_client", "unloaded", "ttl", "evicted", "crashed", "server_gone", "unknown"
]
"""Why an instance is gone.

- ``unloaded_by_this_client``: this client unloaded it, or its identifier.
- ``unloaded``: another client unloaded it.
- ``ttl``: it was idle for its TTL.
- ``evicted``: the server made room for another model.
- ``crashed``: its engine has ended.
- ``server_gone``: the server was stopped or restarted.
- ``unknown``: neither this client nor the server knows.

The embedded server tells the reason. LM Studio does not: a client then knows its own unloads and evictions, and concludes
``ttl`` from the idle time, and ``server_gone`` from a loss of the server after which none of its instances is there any
more; all else is ``unknown``.
"""

# The reasons that the embedded server tells.
_TOLD: dict[str, UnloadReason] = {
    "unloaded": "unloaded",
    "ttl": "ttl",
    "evicted": "evicted",
    "crashed": "crashed",
    "serverStopped": "server_gone",
}

# A TTL in seconds beyond which a server's number makes no sense.
_LONGEST_TTL = 1e12

_NEW_HANDLE = (
    "Get a new handle: ensure_instance(model_key) returns the instance of that name, and loads it if there is none; "
    "load_new_instance(model_key) always loads one. A service that calls model(model_key) before each request needs no "
    "handle that lasts."
)


class Departure(NamedTuple):
    """The reason why an instance is gone.

    :param reason: see `UnloadReason`.
    :param evicted_for: key of the model that the instance was evicted for; None for another reason.
    :param ttl: the TTL that has passed, in seconds; None for another reason, or if it is not known.
    :param unused: seconds for which this client has not used the instance, if the reason is only concluded from that.
    """

    reason: UnloadReason
    evicted_for: str | None = None
    ttl: float | None = None
    unused: float | None = None


def departure_of(error: LMStudioServerError) -> Departure | None:
    """Return why an instance is gone, if the server's error tells, as the embedded server's does."""
    told = error.display_data.get("departure")
    if not isinstance(told, Mapping):
        return None
    reason, evicted_for, ttl = told.get("reason"), told.get("evictedFor"), told.get("ttlSeconds")
    if not isinstance(reason, str) or reason not in _TOLD:
        return None
    return Departure(
        _TOLD[reason],
        evicted_for if isinstance(evicted_for, str) else None,
        ttl if isinstance(ttl, int | float) and 0 < ttl < _LONGEST_TTL else None,
    )


def more_precise(told: Departure | None, known: Departure | None) -> Departure | None:
    """Return the server's reason, or the client's own one if the server tells none or a less precise one.

    :param told: the reason that the server tells.
    :param known: the reason that the client knows.
    """
    if told is None or (
        told.reason == "unloaded" and known is not None and known.reason == "unloaded_by_this_client"
    ):
        return known
    return told


def explanation(departure: Departure) -> str:
    """Return the reason as a sentence; empty if it is not known."""
    match departure.reason:
        case "unloaded_by_this_client":
            return "This client has unloaded the instance."
        case "unloaded":
            return "Another client has unloaded the instance."
        case "ttl":
            ttl = "" if departure.ttl is None else f" of {_seconds(departure.ttl)}"
            if departure.unused is not None:
                return (
                    f"This client has not used the instance for {_seconds(departure.unused)}, longer than its TTL{ttl}, so "
                    "that the server has probably unloaded it."
                )
            return f"The instance was idle for its TTL{ttl}, and was unloaded."
        case "evicted":
            room = (
                "another model"
                if departure.evicted_for is None
                else f'"{printable(departure.evicted_for, 200)}"'
            )
            return f"The server has evicted the instance to make room for {room}."
        case "crashed":
            return "The engine of the instance has crashed."
        case "server_gone":
            return "The server was stopped or restarted, and its instances are gone."
        case _:
            return ""


def advice(departure: Departure | None) -> str:
    """Return what to do about an instance that is gone, also if the reason is not known."""
    match None if departure is None else departure.reason:
        case "ttl":
            return (
                f"{_NEW_HANDLE} To keep an instance longer, load it with a longer ttl, or with ttl=None in "
                "load_new_instance() or ensure_instance()."
            )
        case "evicted":
            return (
                "The server keeps only one of the models that model() loads. To keep several, load them with "
                "ensure_instance(model_key) or load_new_instance(model_key): the server evicts no instance that these have "
                "loaded. Or call model(model_key) before each request, which loads the model again."
            )
        case "crashed":
            return f"{_NEW_HANDLE} If the engine crashes again, it may lack memory: try a smaller context length."
        case "unloaded" | "unloaded_by_this_client" | "server_gone":
            return _NEW_HANDLE
        case _:
            return (
                "The instance of this handle was unloaded by a program, idle for its TTL, or evicted by another model that "
                "was loaded on demand, as model() does; or the server was restarted, or the engine crashed. "
                f"{_NEW_HANDLE} Instances of load_new_instance() are never evicted."
            )


def _seconds(number: float) -> str:
    return f"{number:.3g} seconds" if number < 10 else f"{number:.0f} seconds"
