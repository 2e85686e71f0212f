"""Table of a server's instances, as the watches of a client know them; without I/O.

Two sources change it: the looks of the poller, and the journal, which reports the client's own loads and unloads at once. A
look that began before such a report does not know of it, so what it says about that instance is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
from lmstudio_async._instance_journal import Departure, InstanceJournal

if TYPE_CHECKING:
    from lmstudio_async._handles import UnreadInfo
    from lmstudio_async._instance_survey import Sighting
    from lmstudio_async._wire._infos import ModelInfo, ModelInstanceInfo
    from lmstudio_async.errors import LMStudioError

__all__ = ["InstanceTable", "KnownInstance"]


@attrs.define
class KnownInstance:
    """One row of the table.

    :param source: the info as the last look has found it; None before the first look that finds it.
    """

    info: ModelInstanceInfo
    status: str | None
    queued: int
    source: UnreadInfo | None


class InstanceTable:
    """The instances of one server.

    :param journal: the client's journal.
    :param put: receives each event.
    :param look_soon: called when the next look should not wait.
    """

    def __init__(
        self, journal: InstanceJournal, put: Callable[[InstanceEvent], None], look_soon: Callable[[], None]
    ) -> None:
        self.look_soon = look_soon
        self._journal = journal
        self._put = put
        self._rows: dict[str, KnownInstance] = {}
        self._has_looked = False
        # Number of the journal's reports, and the number of the last report about an instance, by its reference and by its
        # kind and identifier.
        self._reports = 0
        self._latest: dict[str | tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    # -- looks

    def begin_look(self) -> int:
        """Return a mark of the present, for `end_look`."""
        return self._reports

    def missing(self, sightings: Iterable[Sighting]) -> dict[str, KnownInstance]:
        """Return the instances that a look has not found, by their keys."""
        found = {_key(sighting.info) for sighting in sightings}
        return {key: row for key, row in self._rows.items() if key not in found}

    def end_look(
        self, began: int, sightings: Iterable[Sighting], departures: Mapping[str, Departure]
    ) -> None:
        """Take over what a look has found, and put events for the differences; none for what the first look finds.

        :param began: the mark of `begin_look`.
        :param departures: the instances that are gone, by their keys.
        """
        for key, departure in departures.items():
            if key in self._rows and self._latest.get(key, 0) <= began:
                self._remove(key, departure)
        for sighting in sightings:
            key, name = _key(sighting.info), (sighting.info.type, sighting.info.identifier)
            if key in self._rows:
                self._change(self._rows[key], sighting)
            elif self._latest.get(key, 0) <= began and self._latest.get(name, 0) <= began:
                if self._has_looked:
                    self._journal.add_loaded(key)
                    self._add(key, _row(sighting))
                else:
                    self._rows[key] = _row(sighting)
        self._has_looked = True
        # Later looks begin after these reports.
        self._latest = {key: report for key, report in self._latest.items() if report > began}

    def present(self) -> list[InstanceEvent]:
        """Return an event for each instance, for a watch that begins."""
        return [_event(InstancePresent, row) for row in self._rows.values()]

    # -- reports of the journal

    def on_loading(self, kind: str, identifier: str, model: ModelInfo | None, fraction: float) -> None:
        self._put(
            InstanceLoading(
                at=datetime.now(UTC), identifier=identifier, kind=kind, info=model, fraction=fraction
            )
        )

    def on_load_failed(
        self, kind: str, identifier: str, model: ModelInfo | None, error: LMStudioError
    ) -> None:
        self._put(
            InstanceLoadFailed(
                at=datetime.now(UTC), identifier=identifier, kind=kind, info=model, error=error
            )
        )

    def on_loaded(self, info: ModelInstanceInfo) -> None:
        key = info.instance_reference or info.identifier
        self._report(key)
        if key not in self._rows:
            self._add(key, KnownInstance(info, "idle", 0, None))

    def on_unloaded(self, kind: str, identifier: str) -> None:
        self._report((kind, identifier))
        for key, row in self._rows.items():
            if (row.info.type, row.info.identifier) == (kind, identifier):
                self._report(key)
                self._remove(key, Departure("unloaded_by_this_client"))
                return

    def _report(self, key: str | tuple[str, str]) -> None:
        self._reports += 1
        self._latest[key] = self._reports

    # -- rows

    def _add(self, key: str, row: KnownInstance) -> None:
        self._rows[key] = row
        self._put(_event(InstanceLoaded, row))

    def _change(self, row: KnownInstance, sighting: Sighting) -> None:
        status, queued = _state(sighting)
        has_changed = (status, queued) != (row.status, row.queued)
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


def _key(info: UnreadInfo | ModelInstanceInfo) -> str:
    # Older servers send no reference.
    return info.instance_reference or info.identifier


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
