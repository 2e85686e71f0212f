"""Questions to the user in a terminal."""

from __future__ import annotations

import sys

from lmstudio_async._cli._progress_line import message_lines
from lmstudio_async._printable import printable_lines

__all__ = ["ask", "can_ask", "confirm"]


def can_ask() -> bool:
    """Return whether there is a user who can read a question and answer it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


async def ask(question: str) -> str | None:
    """Ask a question on standard error. Ctrl-C ends the command, as everywhere.

    :return: the answer, without spaces around it; None at the end of the input, which is Ctrl-D.
    """
    import anyio
    import anyio.to_thread

    print(f"{message_lines(printable_lines(question))} ", end="", file=sys.stderr, flush=True)
    if sys.platform == "win32":
        answer = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    else:
        # A terminal becomes readable with a whole line, so that reading it does not block. A thread could not be ended.
        await anyio.wait_readable(sys.stdin)
        answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
    return answer.strip() if answer else None


async def confirm(question: str) -> bool:
    """Ask a question on standard error; only ``y`` and ``yes`` are a yes. Ctrl-C ends the command, as everywhere."""
    answer = await ask(f"{question} [y/N]")
    return (answer or "").lower() in ("y", "yes")
