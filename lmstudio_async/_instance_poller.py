"""Poller of a client: it looks at the server's instances for all watches of the client, while there are any."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from lmstudio_async._instance_backlog import EventBacklog
from lmstudio_async._instance_events import InstanceEvent, ServerBack, ServerLost, UnloadReason
from lmstudio_async._instance_journal import Departure, InstanceJournal, departure_of
from lmstudio_async._instance_survey import Sighting, survey
from lmstudio_async._instance_table import InstanceTable, KnownInstance
from lmstudio_async._protocol._client_side import copy_of
from lmstudio_async._protocol._endpoints.models import GET_MODEL_INFO
from lmstudio_async._specifiers import instance_specifier
from lmstudio_async._wire._models import GetModelInfoParameter
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioError, LMStudioServerError

if TYPE_CHECKING:
    from lmstudio_async._session import Session

__all__ = ["InstancePoller"]

# An instance is taken for expired if it was idle for nearly its TTL in the last look, because looks have some time between.
_TTL_SLACK_SECONDS = 2.0


class InstancePoller:
    """The poller of one client.

    :param sessions: the sessions of the namespaces of models.
    :param journal: the client's journal.
    """

    def __init__(self, sessions: Sequence[Session], journal: InstanceJournal) -> None:
        self._sessions = sessions
        self._journal = journal
        self._backlogs: list[EventBacklog] = []
        self._table: InstanceTable | None = None
        self._is_lost = False
        self._wake = anyio.Event()

    async def add(self, backlog: EventBacklog) -> None:
        """Put events into a backlog from now on. Begin with the instances that are loaded, and wait until these are there.

        :raises LMStudioError: if the server cannot be reached.
        """
        await self._sessions[0].open()
        self._backlogs.append(backlog)
        if self._table is None:
            self._table = InstanceTable(self._journal, self._put, self._look_soon)
            self._sessions[0].start_soon(self._run, self._table)
        self._look_soon()
        await backlog.wait_begun()

    def _look_soon(self) -> None:
        self._wake.set()

    def _put(self, event: InstanceEvent) -> None:
        for backlog in self._backlogs:
            backlog.put(event)

    async def _run(self, table: InstanceTable) -> None:
        error: LMStudioError = LMStudioConnectionClosedError("The client was closed.")
        self._journal.listener = table
        try:
            while self._drop_closed():
                self._wake = wake = anyio.Event()
                await self._look(table)
                with anyio.move_on_after(min((each.interval for each in self._drop_closed()), default=0)):
                    await wake.wait()
        except LMStudioConnectionClosedError as reason:
            error = reason
        finally:
            self._journal.listener = self._table = None
            self._is_lost = False
            backlogs, self._backlogs = self._backlogs, []
            for backlog in backlogs:
                backlog.close(copy_of(error))

    def _drop_closed(self) -> list[EventBacklog]:
        self._backlogs = [each for each in self._backlogs if not each.is_closed]
        return self._backlogs

    async def _look(self, table: InstanceTable) -> None:
        began = table.begin_look()
        try:
            sightings = await survey(self._sessions)
            departures = await self._departures(table, sightings)
        except LMStudioConnectionClosedError:
            raise
        except LMStudioError as error:
            self._lose(error)
            return
        if self._is_lost:
            self._is_lost = False
            self._put(ServerBack(at=datetime.now(UTC)))
        table.end_look(began, sightings, departures)
        for backlog in self._backlogs:
            if not backlog.has_begun:
                backlog.begin(table.present())

    async def _departures(self, table: InstanceTable, sightings: Sequence[Sighting]) -> dict[str, Departure]:
        """Find out why instances are gone. An instance that is there nevertheless is left to the next look."""
        departures: dict[str, Departure] = {}
        missing = table.missing(sightings)
        server_is_new = self._is_lost and len(missing) == len(table)
        for session in self._sessions:
            rows = {key: row for key, row in missing.items() if row.info.type == session.namespace}
            parameters = [
                GetModelInfoParameter(specifier=instance_specifier(row.info)) for row in rows.values()
            ]
            responses = await session.call_each(GET_MODEL_INFO, parameters, returned=LMStudioServerError)
            for (key, row), response in zip(rows.items(), responses, strict=True):
                if response is None or isinstance(response, LMStudioServerError):
                    known = self._journal.departure(key)
                    told = None if response is None else departure_of(response)
                    if known is not None and known.reason == "unloaded_by_this_client":
                        told = known
                    guess: UnloadReason = "server_gone" if server_is_new else "unknown"
                    if self._has_expired(row, session):
                        guess = "ttl"
                    departures[key] = told or known or Departure(guess)
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
            loaded_at = self._journal.loaded_at(info.instance_reference)
            idle = 0 if loaded_at is None else now - loaded_at
        return idle >= info.ttl - _TTL_SLACK_SECONDS

    def _lose(self, error: LMStudioError) -> None:
        for backlog in self._backlogs:
            if not backlog.has_begun:
                backlog.close(copy_of(error))
        if not self._is_lost and self._drop_closed():
            self._is_lost = True
            self._put(ServerLost(at=datetime.now(UTC), error=error))
