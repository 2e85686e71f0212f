"""Requests that may fail, but only with an `LMStudioError`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from lmstudio_async import LMStudioError

__all__ = ["attempt_all"]


async def attempt_all(requests: Sequence[Callable[[], Awaitable[object]]]) -> None:
    """Make the requests at the same time, and check that each ends with a result or an `LMStudioError`."""
    ended = 0

    async def attempt(request: Callable[[], Awaitable[object]]) -> None:
        nonlocal ended
        try:
            await request()
        except LMStudioError:
            pass
        ended += 1

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(attempt, request)
    assert ended == len(requests)
