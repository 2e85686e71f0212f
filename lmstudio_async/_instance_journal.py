"""Journal of a client: what it has done to instances, and why the ones that are gone are gone.

Loads, unloads and evictions of the client itself are recorded as they happen. The journal remembers them for error
messages, writes a line of the log for each, and passes them on to a running watch.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from lmstudio_async._printable import printable
from lmstudio_async._protocol._departure import Departure, departure_of

if TYPE_CHECKING:
    from lmstudio_async._scoped_instance import ScopedInstance
    from lmstudio_async._wire._infos import ModelInfo, ModelInstanceInfo
    from lmstudio_async.errors import LMStudioError

__all__ = ["Departure", "InstanceJournal", "InstanceListener", "LoadRecord", "departure_of"]

T = TypeVar("T")

logger = logging.getLogger("lmstudio_async")


class InstanceListener(Protocol):
    """Receiver of the loads and unloads of this client, at the moment they happen. Its methods never wait or raise."""

    def on_loading(self, kind: str, identifier: str, model: ModelInfo | None, fraction: float) -> None:
        """Handle the progress of a load."""

    def on_loaded(self, info: ModelInstanceInfo) -> None:
        """Handle the end of a load that has made an instance."""

    def on_load_failed(
        self, kind: str, identifier: str, model: ModelInfo | None, error: LMStudioError
    ) -> None:
        """Handle the end of a load that has made no instance."""

    def look_soon(self) -> None:
        """Handle an eviction or an unload that this client has caused, and whose end the server does not confirm."""

    def on_unloaded(self, kind: str, identifier: str) -> None:
        """Handle an unload that the server has confirmed."""


class InstanceJournal:
    """The journal of one client.

    :param kept: number of instances to remember.
    """

    def __init__(self, kept: int) -> None:
        self.listener: InstanceListener | None = None
        #: Instances with an open block of a handle, by the handle's key.
        self.scoped: dict[object, ScopedInstance] = {}
        self._kept = kept
        # By instance reference. The latest is last.
        self._identifiers: dict[str, str] = {}
        self._departures: dict[str, Departure] = {}
        self._loaded_at: dict[str, float] = {}

    def see(self, reference: str, identifier: str) -> None:
        """Remember an instance that this client has a handle of."""
        self._remember(self._identifiers, reference, identifier)

    def has_seen(self, reference: str) -> bool:
        """Return whether this client has, or had, a handle of an instance."""
        return reference in self._identifiers

    def begin_load(self, kind: str, identifier: str) -> LoadRecord:
        """Return the record of a load that begins.

        :param kind: ``llm`` or ``embedding``.
        :param identifier: the name that the instance will have, as far as it is known.
        """
        return LoadRecord(self, kind, identifier)

    def add_loaded(self, reference: str) -> None:
        """Record that an instance has just been loaded, by any client."""
        self._remember(self._loaded_at, reference, time.time())

    def loaded_at(self, reference: str) -> float | None:
        """Return when an instance was loaded, in seconds since 1970; None if this client did not notice it."""
        return self._loaded_at.get(reference)

    def add_unloaded(self, kind: str, identifier: str, reference: str | None) -> None:
        """Record that the server has confirmed an unload of this client.

        :param reference: reference of the instance; None if the unload named only the identifier.
        """
        if reference is None:
            reference = next(
                (each for each in reversed(self._identifiers) if self._identifiers[each] == identifier), None
            )
        if reference is not None:
            self.add_departure(reference, Departure("unloaded_by_this_client"))
        logger.info(
            "%s was unloaded",
            printable(identifier),
            extra={"event": "unloaded", "kind": kind, "identifier": identifier},
        )
        if self.listener is not None:
            self.listener.on_unloaded(kind, identifier)

    def add_departure(self, reference: str, departure: Departure) -> None:
        """Record why an instance is gone, or is about to go."""
        self._remember(self._departures, reference, departure)

    def departure(self, reference: str) -> Departure | None:
        """Return why an instance is gone; None if this client does not know."""
        return self._departures.get(reference)

    def _remember(self, memory: dict[str, T], reference: str, value: T) -> None:
        memory.pop(reference, None)
        memory[reference] = value
        if len(memory) > self._kept:
            del memory[next(iter(memory))]


class LoadRecord:
    """One load of the client. Its feed reports each packet here."""

    __slots__ = ("_began", "_fraction", "_is_reported", "_journal", "_kind", "_model", "identifier")

    def __init__(self, journal: InstanceJournal, kind: str, identifier: str) -> None:
        self.identifier = identifier
        self._journal = journal
        self._kind = kind
        self._model: ModelInfo | None = None
        self._fraction = 0.0
        self._is_reported = False
        self._began = time.perf_counter()

    def on_sent(self) -> None:
        """Record that the request for the load is about to be sent."""
        self._began = time.perf_counter()

    def on_model(self, model: ModelInfo, identifier: str = "") -> None:
        """Record the model that the server has found, and the instance's name if the server has chosen it."""
        self._model = model
        self.identifier = identifier or self.identifier
        self.on_fraction(self._fraction)

    def on_fraction(self, fraction: float) -> None:
        """Record the progress of the load."""
        self._fraction = fraction
        if self._journal.listener is not None:
            self._is_reported = True
            self._journal.listener.on_loading(self._kind, self.identifier, self._model, fraction)

    def on_evicting(self, victim: ModelInstanceInfo) -> None:
        """Record that the server unloads another instance to make room for this load."""
        key = self._model.model_key if self._model is not None else self.identifier
        self._journal.add_departure(victim.instance_reference, Departure("evicted", key))
        logger.info(
            "%s is being evicted to make room for %s. To keep both, load them with load_new_instance(), or switch off "
            "auto-evict: in LM Studio's server settings; with serve --no-auto-evict or "
            "EmbeddedServer(auto_evict=False) on the embedded server.",
            printable(victim.identifier),
            printable(key),
            extra={
                "event": "evicting",
                "kind": victim.type,
                "identifier": victim.identifier,
                "evicted_for": key,
            },
        )
        if self._journal.listener is not None:
            self._journal.listener.look_soon()

    def on_loaded(self, info: ModelInstanceInfo) -> None:
        """Record the instance that this load has made."""
        self._is_reported = False
        self._journal.add_loaded(info.instance_reference)
        seconds = round(time.perf_counter() - self._began, 3)
        logger.info(
            "%s was loaded as %s in %.1f s",
            printable(info.model_key),
            printable(info.identifier),
            seconds,
            extra={
                "event": "loaded",
                "kind": self._kind,
                "identifier": info.identifier,
                "model_key": info.model_key,
                "seconds": seconds,
            },
        )
        if self._journal.listener is not None:
            self._journal.listener.on_loaded(info)

    def on_undone(self, info: ModelInstanceInfo) -> None:
        """Record that the server has been told to unload the instance of this load."""
        self._journal.add_departure(info.instance_reference, Departure("unloaded_by_this_client"))
        logger.info(
            "%s is unloaded again, because its load was given up",
            printable(info.identifier),
            extra={"event": "unloaded", "kind": self._kind, "identifier": info.identifier},
        )
        if self._journal.listener is not None:
            self._journal.listener.look_soon()

    def on_failed(self, error: LMStudioError) -> None:
        """Record that this load has made no instance."""
        if self._is_reported and self._journal.listener is not None:
            self._journal.listener.on_load_failed(self._kind, self.identifier, self._model, error)
        self._is_reported = False
