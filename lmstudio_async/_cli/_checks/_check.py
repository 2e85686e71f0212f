"""Result of a check, and a call that cannot hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias, TypeVar, TypeVarTuple

import anyio
import anyio.from_thread
import anyio.lowlevel
import attrs

__all__ = ["Check", "Status", "in_daemon_thread"]

Status: TypeAlias = Literal["ok", "note", "problem"]

ResultT = TypeVar("ResultT")
ArgumentsT = TypeVarTuple("ArgumentsT")


@attrs.frozen
class Check:
    """Result of a check.

    :param name: the subject.
    :param status: ``problem`` if something must be done, ``note`` if something is worth knowing.
    :param text: the finding.
    :param remedy: the advice about it.
    :param details: the finding as JSON.
    """

    name: str
    status: Status
    text: str
    remedy: str | None = None
    details: Mapping[str, Any] = attrs.field(factory=dict)


async def in_daemon_thread(
    seconds: float, function: Callable[[*ArgumentsT], ResultT], *arguments: *ArgumentsT
) -> ResultT:
    """Call a function that may block for ever, as a dead network drive or a dead name server does.

    The thread is a daemon, so that the interpreter can end while the function still blocks. anyio's threads are none.

    :raises TimeoutError: if it has not returned after this time.
    """
    done = anyio.Event()
    loop = anyio.lowlevel.current_token()
    outcome: list[tuple[ResultT | None, Exception | None]] = []

    def work() -> None:
        try:
            outcome.append((function(*arguments), None))
        except Exception as error:  # noqa: BLE001 - it is raised in the task that waits
            outcome.append((None, error))
        with suppress(RuntimeError):  # the command has ended meanwhile
            anyio.from_thread.run_sync(done.set, token=loop)

    threading.Thread(target=work, name=f"check {function!r:.60}", daemon=True).start()
    with anyio.fail_after(seconds):
        await done.wait()
    ((result, error),) = outcome
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
