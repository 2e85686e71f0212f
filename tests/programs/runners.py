"""Ways in which users run a program: each runner takes the main function, and returns when the program has ended."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

__all__ = ["RUNNERS", "Main", "interpreter_options", "runs_on_trio", "why_not"]

Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def _asyncio_run(main: Main) -> None:
    asyncio.run(main())


def _debug(main: Main) -> None:
    async def debugged() -> None:
        # A busy machine makes callbacks slow, and debug mode would report that on stderr.
        asyncio.get_running_loop().slow_callback_duration = 60
        await main()

    asyncio.run(debugged(), debug=True)


def _uvloop(main: Main) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _eager_tasks(main: Main) -> None:
    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - Python 3.11 has none
        return loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def _anyio_run(main: Main) -> None:
    import anyio

    anyio.run(main)


def _trio_run(main: Main) -> None:
    import trio

    trio.run(main)


RUNNERS: dict[str, Callable[[Main], None]] = {
    "asyncio.run": _asyncio_run,
    "debug mode": _debug,
    "uvloop": _uvloop,
    "eager tasks": _eager_tasks,
    "anyio.run": _anyio_run,
    "trio.run": _trio_run,
}


def runs_on_trio(runner: str) -> bool:
    """Return whether programs of this runner use trio; all others use asyncio."""
    return runner == "trio.run"


def interpreter_options(runner: str) -> list[str]:
    """Return the options of the interpreter for a runner. Warnings are errors for each runner."""
    return ["-W", "error", *(["-X", "dev"] if runner == "debug mode" else [])]


def why_not(runner: str) -> str | None:
    """Return the reason why this interpreter does not have the runner; None if it has."""
    if runner == "uvloop" and importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed"
    if runner == "eager tasks" and sys.version_info < (3, 12):
        return "Python 3.11 has no eager tasks"
    return None
