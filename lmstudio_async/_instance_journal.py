"""Journal of a client: what it has done to instances, and why the ones that are gone are gone.

Loads, unloads and evictions of the client itself are recorded as they happen. The journal remembers them for error
messages, writes a line of the log for each, and passes them on to a running watch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lmstudio_async._printable import printable
from lmstudio_async._protocol._departure import Departure
from lmstudio_async.errors import LMStudioServerError

if TYPE_CHECKING:
    from typing import Protocol

    from lmstudio_async._scoped_instance import ScopedInstance
    from lmstudio_async._wire._infos import ModelInfo, ModelInstanceInfo
    from lmstudio_async.errors import LMStudioError

    class _Named(Protocol):
        @property
        def identifier(self) -> str: ...

        @property
        def instance_reference(self) -> str: ...

    class InstanceListener(Protocol):
        """Receiver of the loads and unloads of this client, at the moment they happen. Its methods never raise."""

        def on_loading(self, kind: str, identifier: str, model: ModelInfo | None, fraction: float) -> None:
            """Handle the progress of a load."""

        def on_loaded(self, info: ModelInstanceInfo) -> None:
            """Handle the end of a load that has made an instance."""

        def on_load_failed(
            self, kind: str, identifier: str, model: ModelInfo | None, error: LMStudioError
        ) -> None:
            """Handle the end of a load that has made no instance."""

        def on_unloaded(self, kind: str, identifier: str, key: str | None) -> None:
            """Handle the end of an instance, the reason for which the journal knows.

            :param key: the `instance_key`; None if the journal does not know which instance it was.
            """

        def find_key(self, kind: str, identifier: str, device: str | None) -> str | None:
            """Return the `instance_key` of the instance with a name; None if there is none, or more than one."""

        def look_soon(self) -> None:
            """Look at the server now, because this client has caused a change whose end the server does not confirm."""


__all__ = ["InstanceJournal", "LoadRecord", "instance_key"]

T = TypeVar("T")

logger = logging.getLogger("lmstudio_async")


_BY_THIS_CLIENT = Departure("unloaded_by_this_client")


class InstanceJournal:
    """The journal of one client.

    :param kept: number of instances to remember.
    """

    def __init__(self, kept: int) -> None:
        self.listener: InstanceListener | None = None
        #: Instances with an open block of a handle, by the handle's key.
        self.scoped: dict[object, ScopedInstance] = {}
        self._kept = kept
        # By `instance_key`. The latest is last.
        self._identifiers: dict[str, str] = {}
        self._departures: dict[str, Departure] = {}
        self._loaded_at: dict[str, float] = {}
        # The instances that the server is about to unload for this client, and the ones of these whose request has failed
        # since, so that they may have stayed.
        self._expected: dict[str, Departure] = {}
        # Kind, identifier and device of the unloads that the server has not confirmed yet.
        self._unloading: list[tuple[str, str, str | None]] = []
        self._doubtful: dict[str, bool] = {}
        # References of the instances whose load is in the log.
        self._logged: dict[str, bool] = {}

    def see(self, reference: str, identifier: str) -> None:
        """Remember an instance that this client has a handle of."""
        if reference:
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

    def add_loaded(self, key: str) -> None:
        """Record that an instance has just been loaded, by any client."""
        self._remember(self._loaded_at, key, time.time())
        # Without references, it may be the next one of its name.
        self._departures.pop(key, None)

    def loaded_at(self, key: str) -> float | None:
        """Return when an instance was loaded, in seconds since 1970; None if this client did not notice it."""
        return self._loaded_at.get(key)

    @contextmanager
    def unloading(
        self, kind: str, identifier: str, reference: str | None = None, device: str | None = None
    ) -> Iterator[None]:
        """Record an unload of this client. The block makes the request, and raises if the server does not confirm it.

        :param reference: reference of the instance; None if the request names only the identifier. It then is the
            instance that had the identifier when this client looked last.
        :param device: identifier of the device, if the request names one.
        """
        name = (kind, identifier, device)
        key = (reference or identifier) if reference is not None else self._find(*name)
        # A look may find that the instance is gone before the server confirms it.
        if key is not None:
            self.expect(key, _BY_THIS_CLIENT)
        self._unloading.append(name)
        try:
            yield
        except LMStudioServerError:
            if key is not None:
                self.deny(key)
            raise
        except BaseException:
            if key is not None:
                self.doubt([key])
            raise
        finally:
            self._unloading.remove(name)
        if key is None:
            # A look may have found the instance meanwhile.
            key = self._find(*name)
        if key is not None:
            self.add_departure(key, _BY_THIS_CLIENT)
        logger.info(
            "%s was unloaded",
            printable(identifier),
            extra={"event": "unloaded", "kind": kind, "identifier": identifier},
        )
        if self.listener is not None:
            self.listener.on_unloaded(kind, identifier, key)

    def add_departure(self, key: str, departure: Departure) -> None:
        """Record why an instance is gone."""
        self.deny(key)
        self._remember(self._departures, key, departure)

    def departure(self, key: str) -> Departure | None:
        """Return why an instance is gone, or is about to go; None if this client does not know.

        :param key: the `instance_key`.
        """
        return self._departures.get(key) or self._expected.get(key)

    def explain(self, info: ModelInstanceInfo) -> Departure | None:
        """Return the same as `departure`; an unload that runs, and that named only the identifier, counts as well."""
        known = self.departure(instance_key(info))
        if known is None and any(
            (info.type, info.identifier) == (kind, identifier) and device in (None, info.device_identifier)
            for kind, identifier, device in self._unloading
        ):
            return _BY_THIS_CLIENT
        return known

    # -- departures that are expected

    def expect(self, key: str, departure: Departure) -> None:
        """Record that the server is about to unload an instance, for this client."""
        self._doubtful.pop(key, None)
        self._remember(self._expected, key, departure)

    def confirm(self, key: str, departure: Departure) -> None:
        """Record that an instance is gone as expected, unless another reason is known."""
        if key not in self._departures:
            self.add_departure(key, departure)

    def doubt(self, keys: Iterable[str]) -> None:
        """Record that the requests have failed for which instances were to be unloaded, so that these may stay."""
        for key in keys:
            if key in self._expected:
                self._remember(self._doubtful, key, True)

    def doubted(self) -> frozenset[str]:
        """Return the keys of the instances that `doubt` has named, and that may stay or be gone."""
        return frozenset(self._doubtful)

    def deny(self, key: str) -> None:
        """Forget that an instance was about to be unloaded."""
        self._expected.pop(key, None)
        self._doubtful.pop(key, None)

    def is_being_evicted(self, key: str) -> bool:
        """Return whether the server is unloading an instance to make room for a load of this client."""
        expected = self._expected.get(key)
        return expected is not None and expected.reason == "evicted" and key not in self._doubtful

    def log_load(self, kind: str, info: ModelInstanceInfo, seconds: float) -> None:
        """Log that an instance was loaded, once, although several requests of this client may have waited for it."""
        reference = info.instance_reference
        if reference in self._logged:
            return
        if reference:
            self._remember(self._logged, reference, True)
        logger.info(
            "%s was loaded as %s in %.1f s",
            printable(info.model_key),
            printable(info.identifier),
            seconds,
            extra={
                "event": "loaded",
                "kind": kind,
                "identifier": info.identifier,
                "model_key": info.model_key,
                "seconds": round(seconds, 3),
            },
        )

    def _find(self, kind: str, identifier: str, device: str | None) -> str | None:
        """Return the key of the instance that has a name, as far as this client knows."""
        if self.listener is not None:
            return self.listener.find_key(kind, identifier, device)
        for key, name in reversed(list(self._identifiers.items())):
            if name == identifier and key not in self._departures:
                return key
        return None

    def _remember(self, memory: dict[str, T], key: str, value: T) -> None:
        memory.pop(key, None)
        memory[key] = value
        if len(memory) > self._kept:
            # Of a copy, because another thread may make a handle at the same time.
            memory.pop(next(iter([*memory])), None)


class LoadRecord:
    """One load of the client. Its feed reports each packet here."""

    __slots__ = (
        "_began",
        "_fraction",
        "_is_reported",
        "_journal",
        "_kind",
        "_model",
        "_victims",
        "identifier",
    )

    def __init__(self, journal: InstanceJournal, kind: str, identifier: str) -> None:
        self.identifier: str = identifier
        self._journal = journal
        self._kind = kind
        self._model: ModelInfo | None = None
        self._fraction = 0.0
        self._is_reported = False
        # Instances that the server unloads for this load, by `instance_key`.
        self._victims: dict[str, ModelInstanceInfo] = {}
        self._began = time.perf_counter()

    def on_sent(self) -> None:
        """Record that the request for the load is about to be sent."""
        self._began = time.perf_counter()

    def on_model(self, model: ModelInfo, identifier: str = "") -> None:
        """Record the model that the server has found, and the instance's name if the server has chosen it."""
        self._model = model
        self.identifier = identifier or self.identifier
        for key in self._victims:
            self._journal.expect(key, Departure("evicted", model.model_key))
        self.on_fraction(self._fraction)

    def on_fraction(self, fraction: float) -> None:
        """Record the progress of the load."""
        self._fraction = fraction
        listener = self._journal.listener
        if listener is None:
            return
        if not self._is_reported:
            # The former holder of the name, and the victims, may have gone just now. Events of them come first then.
            listener.look_soon()
        self._is_reported = True
        listener.on_loading(self._kind, self.identifier, self._model, fraction)

    def on_evicting(self, victim: ModelInstanceInfo) -> None:
        """Record that the server unloads another instance to make room for this load."""
        journal, key = self._journal, instance_key(victim)
        if key in self._victims:
            return
        self._victims[key] = victim
        model_key = self._model.model_key if self._model is not None else self.identifier
        # Another request of this client may wait for the same load.
        if not journal.is_being_evicted(key):
            self._log_eviction(victim, model_key)
        journal.expect(key, Departure("evicted", model_key))
        if journal.listener is not None:
            journal.listener.look_soon()

    @staticmethod
    def _log_eviction(victim: ModelInstanceInfo, model_key: str) -> None:
        logger.info(
            "%s is being evicted to make room for %s. To keep both, load them with load_new_instance(), or switch off "
            "auto-evict: in LM Studio's server settings; with serve --no-auto-evict or "
            "EmbeddedServer(auto_evict=False) on the embedded server.",
            printable(victim.identifier),
            printable(model_key),
            extra={
                "event": "evicting",
                "kind": victim.type,
                "identifier": victim.identifier,
                "evicted_for": model_key,
            },
        )

    def on_loaded(self, info: ModelInstanceInfo) -> None:
        """Record the instance that this load has made."""
        self._is_reported = False
        journal, listener = self._journal, self._journal.listener
        # The server has unloaded these before the load.
        for key, victim in self._victims.items():
            journal.confirm(key, Departure("evicted", info.model_key))
            if listener is not None:
                listener.on_unloaded(victim.type, victim.identifier, key)
        self._victims = {}
        journal.add_loaded(instance_key(info))
        journal.log_load(self._kind, info, time.perf_counter() - self._began)
        if listener is not None:
            listener.on_loaded(info)

    def on_undoing(self, info: ModelInstanceInfo) -> None:
        """Record that the server will be told to unload the instance of this load. Legal from any thread."""
        self._journal.expect(instance_key(info), _BY_THIS_CLIENT)

    def on_undone(self, info: ModelInstanceInfo) -> None:
        """Record that the server has been told to unload the instance of this load, which a look may find still."""
        self.on_undoing(info)
        logger.info(
            "%s is unloaded again, because its load was given up",
            printable(info.identifier),
            extra={"event": "unloaded", "kind": self._kind, "identifier": info.identifier},
        )
        if self._journal.listener is not None:
            self._journal.listener.look_soon()

    def end(self, error: LMStudioError | None, *, was_cancelled: bool) -> None:  # noqa: ARG002
        """Record the end of this load: with an error unless it has an instance as its result."""
        journal, listener = self._journal, self._journal.listener
        if self._victims:
            journal.doubt(self._victims)
            self._victims = {}
            if listener is not None:
                listener.look_soon()
        if error is not None and self._is_reported and listener is not None:
            listener.on_load_failed(self._kind, self.identifier, self._model, error)
        self._is_reported = False


def instance_key(info: _Named) -> str:
    """Return the reference of an instance; its identifier if the server sends no references, as older ones."""
    return info.instance_reference or info.identifier
