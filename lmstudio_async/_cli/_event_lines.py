"""Events of instances as lines, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._cli._instance_rows import status_text
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from lmstudio_async import InstanceEvent

__all__ = ["as_json", "event_line"]

#: The events of loads are missing: they are about the loads of the client itself, and a command that watches has none.
_NAMES = {
    "InstancePresent": "present",
    "InstanceLoaded": "loaded",
    "InstanceChanged": "changed",
    "InstanceUnloaded": "unloaded",
    "ServerLost": "server lost",
    "ServerBack": "server back",
}

_REASONS = {
    "unloaded": "by another client",
    "ttl": "its TTL has passed",
    "evicted": "evicted",
    "crashed": "its engine has crashed",
    "server_gone": "the server was stopped or restarted",
    "unknown": "for an unknown reason",
}


def event_line(event: InstanceEvent) -> str:
    """Return an event on one line: its time on this machine, its name, its instance, and what is known of it."""
    time = event.at.astimezone().strftime("%H:%M:%S")
    parts = [f"{time}  {_name(event):11}"]
    if event.identifier:
        is_named = event.info is not None and event.info.model_key != event.identifier
        model = f" ({event.info.model_key})" if event.info is not None and is_named else ""
        parts.append(f"{event.identifier}{model}")
    if details := _details(event):
        parts.append(details)
    return printable("  ".join(parts).rstrip())


def as_json(event: InstanceEvent) -> dict[str, Any]:
    """Return the fields of an event; those of another kind of event are left out."""
    found: dict[str, Any] = {"at": event.at.isoformat(), "event": _name(event).replace(" ", "_")}
    if event.identifier:
        found |= {
            "kind": event.kind,
            "identifier": event.identifier,
            "model_key": None if event.info is None else event.info.model_key,
            "instance_reference": event.instance_reference or None,
        }
    for name in ("status", "queued", "reason", "evicted_for"):
        if hasattr(event, name):
            found[name] = getattr(event, name)
    if (error := getattr(event, "error", None)) is not None:
        found["error"] = str(error)
    return found


def _name(event: InstanceEvent) -> str:
    name = type(event).__name__
    return _NAMES.get(name, name)


def _details(event: InstanceEvent) -> str:
    reason = getattr(event, "reason", None)
    if reason is not None:
        evicted_for = getattr(event, "evicted_for", None)
        return f"evicted for {evicted_for}" if evicted_for else _REASONS.get(reason, reason)
    error = getattr(event, "error", None)
    if error is not None:
        # The first line says what has failed.
        return str(error).partition("\n")[0]
    return status_text(getattr(event, "status", None), getattr(event, "queued", 0))
