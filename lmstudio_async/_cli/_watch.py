"""The loaded instances as they change: for `lmsa top` and `lmsa ps --watch`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
import attrs

from lmstudio_async._cli._event_lines import event_line
from lmstudio_async._cli._instance_rows import nothing_loaded
from lmstudio_async._cli._output import check_reader
from lmstudio_async._cli._watch_views import Look, make_view
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioError

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient, AsyncInstanceWatch, InstanceEvent
    from lmstudio_async._cli._console import Console
    from lmstudio_async._cli._target import Target

__all__ = ["watch_instances"]

#: Seconds between two looks, if nothing happens.
_INTERVAL = 1.0
#: Seconds in which further events belong to the same look: loads and unloads often come together.
_BURST = 0.05
#: Seconds that a look may take.
_LONGEST_LOOK = 10.0
#: Events that are kept.
_NEWEST = 5


async def watch_instances(target: Target, console: Console) -> None:
    """Show the instances of a server until the task is cancelled.

    :raises LMStudioError: the server does not answer when the command begins. Later on, the command tries again.
    """
    async with target.connect(console, may_embed=False) as client, client.watch_instances() as events:
        lines: deque[str] = deque(maxlen=_NEWEST)
        look = Look()
        # The view ends before the client closes, which may take a while: the terminal is then as it was.
        with make_view(console, client.api_host, nothing_loaded(target)) as view:
            while True:
                look = attrs.evolve(await _look(client, look), events=tuple(lines))
                view.show(look)
                check_reader(sys.stdout)
                lines.extend(event_line(event) for event in await _news(events) if _is_shown(event))


async def _look(client: AsyncClient, before: Look) -> Look:
    try:
        with anyio.fail_after(_LONGEST_LOOK):
            return Look(await client.list_instances())
    except LMStudioConnectionClosedError:
        raise
    except TimeoutError as error:
        # Also the SDK's own timeout, which has a text.
        reason = str(error) or f"no answer within {_LONGEST_LOOK:g} seconds"
    except LMStudioError as error:
        reason = str(error)
    since = before.lost_since or datetime.now().astimezone()
    return attrs.evolve(before, lost_since=since, error=reason.partition("\n")[0])


async def _news(events: AsyncInstanceWatch) -> Sequence[InstanceEvent]:
    """Wait for the next events; return none if the interval passes without any."""
    news: list[InstanceEvent] = []
    # A timeout loses no event.
    with anyio.move_on_after(_INTERVAL):
        news.append(await anext(events))
        with anyio.move_on_after(_BURST):
            while True:
                news.append(await anext(events))
    return news


def _is_shown(event: InstanceEvent) -> bool:
    """Return whether an event is worth a line: the table has the rest."""
    return type(event).__name__ not in ("InstancePresent", "InstanceChanged")
