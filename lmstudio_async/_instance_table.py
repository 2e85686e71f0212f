"""Table of a server's instances, as the watches of a client know them; without I/O.

Two sources change it: the looks of the poller, and the journal, which reports the client's own loads and unloads at once. A
look that began before such a report does not know of it, so what it says about that instance is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from lmstudio_async._instance_events import (
    InstanceChanged,
    InstanceEvent,
    InstanceLoaded,
    InstanceLoadFailed,
    InstanceLoading,
    InstancePresent,
    InstanceUnloaded,
)
from lmstudio_async._instance_journal import InstanceJournal, instance_key
from lmstudio_async._protocol._departure import Departure

if TYPE_CHECKING:
    from lmstudio_async._handles import UnreadInfo
    from lmstudio_async._instance_survey import Sighting
    from lmstudio_async._wire._infos import ModelInfo, ModelInstanceInfo
    from lmstudio_async.errors import LMStudioError

__all__ = ["InstanceTable", "KnownInstance", "LookMark"]


@attrs.define
class KnownInstance:
    """One row of the table.

    :param source: the info as the last look has found it; None before the first look that finds it.
    """

    info: ModelInstanceInfo
    status: str | None
    queued: int
    source: UnreadInfo | None


class LookMark(NamedTuple):
    """The moment at which a look began.

    :param reports: number of the journal's reports before it.
    :param doubtful: keys of the instances that may have stayed, though this client wanted them to go.
    """

    reports: int
    doubtful: frozenset[str]


class InstanceTable:
    """The instances of one server. It is the listener of the journal.

    :param journal: the client's journal.
    :param put: receives each event.
    :param look_soon: makes the next look now.
    """

    def __init__(
        self, journal: InstanceJournal, put: Callable[[InstanceEvent], None], look_soon: Callable[[], None]
    ) -> None:
        self.look_soon = look_soon
        self._journal = journal
        self._put = put
        self._rows: dict[str, KnownInstance] = {}
        self._has_looked = False
        # Number of the journal's reports, and the number of the last report about an instance, by its key and by its kind
        # and identifier.
        self._reports = 0
        self._latest: dict[str | tuple[str, str], int] = {}

    def keys(self) -> frozenset[str]:
        """Return the keys of the instances."""
        return frozenset(self._rows)

    # -- looks

    def begin_look(self) -> LookMark:
        """Return a mark of the present, for `end_look`."""
        return LookMark(self._reports, self._journal.doubted())

    def missing(self, found: Collection[str]) -> dict[str, KnownInstance]:
        """Return the instances that a look has not found, by their keys.

        :param found: the keys of the instances that it has found.
        """
        return {key: row for key, row in self._rows.items() if key not in found}

    def end_look(
        self, began: LookMark, sightings: Iterable[Sighting], departures: Mapping[str, Departure]
    ) -> None:
        """Take over what a look has found, and put events for the differences; none for what the first look finds.

        :param departures: the instances that are gone, by their keys.
        """
        for key, departure in departures.items():
            if key in self._rows and self._is_news(key, began):
                self._remove(key, departure)
        for sighting in sightings:
            info = sighting.info
            key = instance_key(info)
            if key in began.doubtful:
                self._journal.deny(key)
            if key in self._rows:
                self._change(self._rows[key], sighting)
            elif self._is_news(key, began) and self._is_news((info.type, info.identifier), began):
                if self._has_looked:
                    self._journal.add_loaded(key)
                    self._add(key, _row(sighting))
                else:
                    self._rows[key] = _row(sighting)
        self._has_looked = True
        # Later looks begin after these reports.
        self._latest = {key: report for key, report in self._latest.items() if report > began.reports}

    def present(self) -> list[InstanceEvent]:
        """Return an event for each instance, for a watch that begins."""
        return [_event(InstancePresent, row) for row in self._rows.values()]

    # -- reports of the journal

    def on_loading(self, kind: str, identifier: str, model: ModelInfo | None, fraction: float) -> None:
        at = datetime.now(UTC)
        self._put(InstanceLoading(at=at, identifier=identifier, kind=kind, info=model, fraction=fraction))

    def on_load_failed(
        self, kind: str, identifier: str, model: ModelInfo | None, error: LMStudioError
    ) -> None:
        at = datetime.now(UTC)
        self._put(InstanceLoadFailed(at=at, identifier=identifier, kind=kind, info=model, error=error))

    def on_loaded(self, info: ModelInstanceInfo) -> None:
        key = instance_key(info)
        if key in self._rows:
            return
        place = (info.type, info.identifier, info.device_identifier)
        for holder, row in list(self._rows.items()):
            if (row.info.type, row.info.identifier, row.info.device_identifier) == place:
                # The identifier was free again, though no look has found that out yet.
                self._report(holder)
                self._remove(holder, self._explain(row))
        self._report(key)
        self._add(key, KnownInstance(info, "idle", 0, None))

    def on_unloaded(self, kind: str, identifier: str, key: str | None) -> None:
        self._report((kind, identifier) if key is None else key)
        if key is None:
            self.look_soon()
        elif key in self._rows:
            self._remove(key, self._explain(self._rows[key]))

    def find_key(self, kind: str, identifier: str, device: str | None) -> str | None:
        """Return the key of the instance with a name; None if there is none, or more than one.

        :param device: the device of the instance; None for any.
        """
        keys = [
            key
            for key, row in self._rows.items()
            if (row.info.type, row.info.identifier) == (kind, identifier)
            and device in (None, row.info.device_identifier)
        ]
        return keys[0] if len(keys) == 1 else None

    def _explain(self, row: KnownInstance) -> Departure:
        return self._journal.explain(row.info) or Departure("unknown")

    def _report(self, key: str | tuple[str, str]) -> None:
        self._reports += 1
        self._latest[key] = self._reports

    def _is_news(self, key: str | tuple[str, str], began: LookMark) -> bool:
        """Return whether a look can know better than the journal's reports."""
        return self._latest.get(key, 0) <= began.reports

    # -- rows

    def _add(self, key: str, row: KnownInstance) -> None:
        self._rows[key] = row
        self._put(_event(InstanceLoaded, row))

    def _change(self, row: KnownInstance, sighting: Sighting) -> None:
        status, queued = _state(sighting)
        has_changed = (status, queued) != (row.status, row.queued)
        if row.source is None and status is None:
            # A new instance is taken for idle, until the server turns out not to tell.
            has_changed = False
        row.status, row.queued = status, queued
        # Most infos are the same as before, and need not be read.
        if row.source is None or not row.source.is_same(sighting.info):
            row.source, info = sighting.info, sighting.info.read()
            has_changed = has_changed or info != row.info
            row.info = info
        if has_changed:
            self._put(_event(InstanceChanged, row))

    def _remove(self, key: str, departure: Departure) -> None:
        row = self._rows.pop(key)
        self._journal.add_departure(key, departure)
        self._put(_event(InstanceUnloaded, row, reason=departure.reason, evicted_for=departure.evicted_for))


def _row(sighting: Sighting) -> KnownInstance:
    return KnownInstance(sighting.info.read(), *_state(sighting), sighting.info)


def _state(sighting: Sighting) -> tuple[str | None, int]:
    return (None, 0) if sighting.state is None else (sighting.state.status, sighting.state.queued)


def _event(make: Callable[..., InstanceEvent], row: KnownInstance, **more: Any) -> InstanceEvent:
    info = row.info
    if make is not InstanceUnloaded:
        more.update(status=row.status, queued=row.queued)
    return make(
        at=datetime.now(UTC),
        identifier=info.identifier,
        instance_reference=info.instance_reference,
        kind=info.type,
        info=info,
        **more,
    )
