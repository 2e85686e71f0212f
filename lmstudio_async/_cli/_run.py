"""Runs the coroutine of a command, and turns its end into an exit code and at most one message."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

from lmstudio_async._cli._exit_codes import FAILURE, INTERRUPTED

__all__ = ["PROGRAM", "explain", "message_of", "run"]

#: The name of the program, as it is typed.
PROGRAM = "lmsa"

ArgumentsT = TypeVarTuple("ArgumentsT")


def run(
    command: Callable[[*ArgumentsT], Awaitable[None]],
    *arguments: *ArgumentsT,
    on_interrupt: str | None = "Interrupted.",
) -> None:
    """Run the coroutine of a command on asyncio, and exit if it fails.

    The first Ctrl-C, or SIGTERM, cancels the coroutine, which may clean up. A second one more than a second later ends
    the program at once.

    :param arguments: the arguments of the coroutine. A `Console` among them decides which notes are printed.
    :param on_interrupt: the message after Ctrl-C; None makes an interrupt a success without a message.
    :raises SystemExit: unless the command succeeds.
    """
    import anyio

    from lmstudio_async._cli._console import Console
    from lmstudio_async._cli._interrupts import patient_interrupts
    from lmstudio_async._cli._log_notes import log_notes
    from lmstudio_async._cli._output import discard_output, flush_or_discard
    from lmstudio_async._log_setup import set_up_log
    from lmstudio_async.errors import LMStudioError

    console = next((each for each in arguments if isinstance(each, Console)), Console())

    async def interruptible() -> None:
        with patient_interrupts():
            await command(*arguments)

    try:
        with log_notes(console):
            set_up_log()
            anyio.run(interruptible)
    except KeyboardInterrupt:
        if on_interrupt is None:
            return
        print(f"\n{on_interrupt}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except LMStudioError as error:
        from lmstudio_async._cli._exit_codes import exit_code_of

        explain(error)
        raise SystemExit(exit_code_of(error)) from None
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does, so that no message can be printed.
        discard_output(sys.stdout)
        raise SystemExit(FAILURE) from None
    except OSError as error:
        explain(error)
        # If the disk is full, the interpreter would end with its own exit code.
        flush_or_discard(sys.stdout)
        raise SystemExit(FAILURE) from None


def explain(error: Exception) -> None:
    """Print the message of an error."""
    from lmstudio_async._cli._progress_line import message_lines
    from lmstudio_async._printable import printable_lines

    text = printable_lines(message_of(error), 20_000)
    print(message_lines(f"{PROGRAM}: {text}"), file=sys.stderr)


def message_of(error: Exception) -> str:
    """Return the message of an error in the words of the command line."""
    from lmstudio_async._cli._shell_words import in_shell_words
    from lmstudio_async._cli._system_errors import system_error_text

    if isinstance(error, OSError) and error.strerror:
        return system_error_text(error)
    return in_shell_words(str(error))
