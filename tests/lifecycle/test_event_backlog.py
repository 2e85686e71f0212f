"""Backlog of a watch: which unread events a later one replaces, and what is left at the end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    InstanceChanged,
    InstanceEvent,
    InstanceLoaded,
    InstanceLoading,
    InstanceUnloaded,
    LMStudioBacklogError,
    LMStudioConnectionClosedError,
)
from lmstudio_async._instance_backlog import EventBacklog


def event(kind: type[InstanceEvent], name: str, **more: Any) -> InstanceEvent:
    return kind(at=datetime.now(UTC), identifier=name, instance_reference=f"r-{name}", kind="llm", **more)


def changed(name: str, queued: int) -> InstanceEvent:
    return event(InstanceChanged, name, queued=queued)


def begun(most: int = 100) -> EventBacklog:
    backlog = EventBacklog(1.0, most)
    backlog.begin([])
    return backlog


async def read(backlog: EventBacklog, count: int) -> list[Any]:
    """Return events in short: the number in the queue of a change, the class and the name of others."""
    events = [await backlog.next() for _ in range(count)]
    return [
        (each.identifier, each.queued)
        if isinstance(each, InstanceChanged)
        else (type(each).__name__, each and each.identifier)
        for each in events
    ]


async def test_a_change_takes_the_place_of_an_unread_one_of_its_instance() -> None:
    backlog = begun()
    for name, queued in [("a", 1), ("b", 1), ("a", 2), ("a", 3)]:
        backlog.put(changed(name, queued))

    # In this order, so that an instance that changes all the time does not keep others from being read.
    assert await read(backlog, 2) == [("a", 3), ("b", 1)]


async def test_a_change_replaces_none_from_before_a_load_or_unload() -> None:
    backlog = begun()
    backlog.put(changed("a", 1))
    backlog.put(event(InstanceUnloaded, "b"))
    backlog.put(changed("a", 2))

    assert await read(backlog, 3) == [("a", 1), ("InstanceUnloaded", "b"), ("a", 2)]


async def test_a_change_after_one_that_was_read_is_another_event() -> None:
    backlog = begun()
    backlog.put(changed("a", 1))
    backlog.put(changed("b", 1))
    assert await read(backlog, 1) == [("a", 1)]
    backlog.put(changed("a", 2))

    assert await read(backlog, 2) == [("b", 1), ("a", 2)]


async def test_the_progress_of_a_load_conflates_apart_from_changes() -> None:
    backlog = begun()
    for fraction in (0.1, 0.5, 0.9):
        backlog.put(event(InstanceLoading, "a", fraction=fraction))
        backlog.put(changed("a", int(fraction * 10)))

    latest = await backlog.next()
    assert isinstance(latest, InstanceLoading)
    assert latest.fraction == 0.9
    assert await read(backlog, 1) == [("a", 9)]


async def test_an_event_that_is_put_back_comes_first_and_is_not_replaced() -> None:
    backlog = begun()
    backlog.put(changed("a", 1))
    backlog.put(event(InstanceLoaded, "b"))
    first = await backlog.next()
    assert first is not None
    backlog.put_back(first)
    backlog.put(changed("a", 2))

    assert await read(backlog, 3) == [("a", 1), ("InstanceLoaded", "b"), ("a", 2)]


async def test_events_before_the_beginning_are_ignored() -> None:
    backlog = EventBacklog(1.0, 100)
    backlog.put(event(InstanceLoaded, "a"))
    backlog.begin([event(InstanceLoaded, "b")])

    assert await read(backlog, 1) == [("InstanceLoaded", "b")]


async def test_an_error_comes_after_the_unread_events_and_closing_drops_them() -> None:
    failed, closed = begun(), begun()
    for backlog in (failed, closed):
        backlog.put(event(InstanceLoaded, "a"))
    failed.close(LMStudioConnectionClosedError("The client was closed."))
    closed.close()
    closed.close(LMStudioConnectionClosedError("The client was closed."))
    for backlog in (failed, closed):
        backlog.put(event(InstanceLoaded, "late"))

    assert await read(failed, 1) == [("InstanceLoaded", "a")]
    for _ in range(2):
        with pytest.raises(LMStudioConnectionClosedError):
            await failed.next()
        assert await closed.next() is None


async def test_too_many_unread_events_end_the_watch_and_conflated_ones_do_not_count() -> None:
    backlog = begun(most=3)
    for number in range(100):
        backlog.put(changed(str(number % 3), number))
    assert not backlog.is_closed

    backlog.put(event(InstanceLoaded, "one too many"))
    with pytest.raises(LMStudioBacklogError, match="more than 3 events"):
        await backlog.next()


async def test_a_wait_ends_with_an_event_and_with_the_end() -> None:
    backlog = begun()
    async with anyio.create_task_group() as tasks:
        results: list[InstanceEvent | None] = []

        async def read_two() -> None:
            results.extend([await backlog.next(), await backlog.next()])

        tasks.start_soon(read_two)
        await anyio.wait_all_tasks_blocked()
        backlog.put(changed("a", 1))
        await anyio.wait_all_tasks_blocked()
        backlog.close()

    assert [each and each.identifier for each in results] == ["a", None]
