"""Poller of a client: it looks at the server's instances for all watches of the client, while there are any."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from lmstudio_async._instance_backlog import EventBacklog
from lmstudio_async._instance_events import InstanceEvent, ServerBack, ServerLost
from lmstudio_async._instance_journal import InstanceJournal, instance_key
from lmstudio_async._instance_survey import Sighting, survey
from lmstudio_async._instance_table import InstanceTable, KnownInstance
from lmstudio_async._preload import preload
from lmstudio_async._protocol._client_side import copy_of
from lmstudio_async._protocol._departure import Departure, departure_of, more_precise
from lmstudio_async._protocol._endpoints.models import GET_MODEL_INFO
from lmstudio_async._specifiers import instance_specifier
from lmstudio_async._wire._models import GetModelInfoParameter
from lmstudio_async.errors import (
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioServerError,
    LMStudioTimeoutError,
)

if TYPE_CHECKING:
    from lmstudio_async._session import Session

__all__ = ["InstancePoller"]

# The server's clock is known to about a second, so its idea of an idle time may be longer by this part of the TTL, and at
# most by these seconds.
_TTL_SLACK = 0.1
_TTL_SLACK_SECONDS = 2.0


class InstancePoller:
    """The poller of one client.

    Its task runs while there are watches. All methods but `remove_soon` are for the event loop of the client.

    :param sessions: the sessions of the namespaces of models.
    :param journal: the client's journal.
    """

    def __init__(self, sessions: Sequence[Session], journal: InstanceJournal) -> None:
        self._sessions = sessions
        self._journal = journal
        self._backlogs: list[EventBacklog] = []
        self._is_running = False
        # Keys of the instances that were there when the server was lost; None while it answers.
        self._lost: frozenset[str] | None = None
        self._wake: anyio.Event | None = None

    def check(self) -> None:
        """Check that the caller runs in the event loop of the client, which is open.

        :raises LMStudioError: if not.
        """
        self._sessions[0].check()

    async def add(self, backlog: EventBacklog) -> None:
        """Put events into a backlog from the next look on. It begins with the instances that are loaded then.

        :raises LMStudioError: if the client cannot be opened, or is closed.
        """
        await self._sessions[0].open()
        await preload("_wire._usage")
        if backlog.is_closed or backlog in self._backlogs:
            # Another task has closed the watch, or begun it, meanwhile.
            return
        if not self._is_running:
            self._sessions[0].start_soon(self._run)
            self._is_running = True
        self._backlogs.append(backlog)
        self.look_soon()

    def remove(self, backlog: EventBacklog) -> None:
        """Put no more events into a backlog. Without backlogs the task ends."""
        if backlog in self._backlogs:
            self._backlogs.remove(backlog)
            if not self._backlogs:
                self.look_soon()

    def remove_soon(self, backlog: EventBacklog) -> None:
        """Remove a backlog; legal from any thread, also in a finalizer."""
        self._sessions[0].run_soon(self._remove, backlog)

    async def _remove(self, backlog: EventBacklog) -> None:
        self.remove(backlog)

    def look_soon(self) -> None:
        """Make the next look now. While one is made, make another one after it."""
        if self._wake is not None:
            self._wake.set()

    def _put(self, event: InstanceEvent) -> None:
        for backlog in self._backlogs:
            backlog.put(event)

    async def _run(self) -> None:
        error: LMStudioError = LMStudioConnectionClosedError("The client was closed.")
        self._lost = None
        table = self._journal.listener = InstanceTable(self._journal, self._put, self.look_soon)
        try:
            while self._backlogs:
                self._wake = wake = anyio.Event()
                await self._look(table)
                if self._backlogs:
                    with anyio.move_on_after(min(backlog.interval for backlog in self._backlogs)):
                        await wake.wait()
        except LMStudioConnectionClosedError as reason:
            error = reason
        finally:
            self._journal.listener = self._wake = None
            self._is_running = False
            backlogs, self._backlogs = self._backlogs, []
            for backlog in backlogs:
                backlog.close(copy_of(error))

    async def _look(self, table: InstanceTable) -> None:
        mark = table.begin_look()
        # A watch that is added during this look begins with the next one, which finds all that was there before.
        new = [backlog for backlog in self._backlogs if not backlog.has_begun]
        seconds = self._sessions[0].limits.look_seconds
        try:
            with anyio.move_on_after(seconds) as limit:
                sightings = await survey(self._sessions)
                departures = await self._departures(table, sightings)
            if limit.cancelled_caught:
                raise LMStudioTimeoutError(
                    f"{self._sessions[0].address} did not list its instances within {seconds:g} seconds."
                )
        except LMStudioConnectionClosedError:
            raise
        except LMStudioError as error:
            self._lose(error, new, table)
            return
        if self._lost is not None:
            self._lost = None
            self._put(ServerBack(at=datetime.now(UTC)))
        table.end_look(mark, sightings, departures)
        for backlog in new:
            backlog.begin(table.present())
        self._remove_closed()

    async def _departures(self, table: InstanceTable, sightings: Sequence[Sighting]) -> dict[str, Departure]:
        """Find out why instances are gone. Leave an instance that is there nevertheless to the next look."""
        departures: dict[str, Departure] = {}
        found = {instance_key(sighting.info) for sighting in sightings}
        missing = table.missing(found)
        # A server that has none of the instances from before its loss was restarted.
        lost = self._lost or frozenset()
        restarted = lost if lost.isdisjoint(found) else frozenset()
        for session in self._sessions:
            rows = {key: row for key, row in missing.items() if row.info.type == session.namespace}
            parameters = [
                GetModelInfoParameter(specifier=instance_specifier(row.info), throw_if_not_found=True)
                for row in rows.values()
            ]
            responses = await session.call_each(GET_MODEL_INFO, parameters, returned=LMStudioServerError)
            for (key, row), response in zip(rows.items(), responses, strict=True):
                told: Departure | None = None
                if isinstance(response, LMStudioServerError):
                    told = departure_of(response)
                elif response is not None and instance_key(response) == key:
                    continue
                reason = more_precise(told, self._journal.explain(row.info))
                if reason is None and self._has_expired(row, session):
                    reason = Departure("ttl")
                departures[key] = reason or Departure("server_gone" if key in restarted else "unknown")
        return departures

    def _has_expired(self, row: KnownInstance, session: Session) -> bool:
        """Return whether an instance was idle for its TTL, as far as this client knows."""
        info = row.info
        if info.ttl is None or row.status not in ("idle", None):
            return False
        now = datetime.now(UTC).timestamp()
        if info.last_used_time is not None:
            idle = now + session.server_is_ahead - info.last_used_time / 1000
        else:
            loaded_at = self._journal.loaded_at(instance_key(info))
            idle = 0 if loaded_at is None else now - loaded_at
        return idle >= info.ttl - min(info.ttl * _TTL_SLACK, _TTL_SLACK_SECONDS)

    def _lose(self, error: LMStudioError, new: Sequence[EventBacklog], table: InstanceTable) -> None:
        for backlog in new:
            backlog.close(copy_of(error))
        self._remove_closed()
        if self._lost is None and any(backlog.has_begun for backlog in self._backlogs):
            self._lost = table.keys()
            self._put(ServerLost(at=datetime.now(UTC), error=error))

    def _remove_closed(self) -> None:
        self._backlogs = [each for each in self._backlogs if not each.is_closed]
