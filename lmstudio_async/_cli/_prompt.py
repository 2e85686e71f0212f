"""The prompt of a command, from its arguments and from standard input."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence

import typer

from lmstudio_async._cli._console import Console

__all__ = ["piped_text", "prompt_text"]

#: Seconds after which a note says that the command waits for standard input.
_PATIENCE = 2.0


def prompt_text(words: Sequence[str], console: Console) -> str | None:
    """Return the prompt: the arguments, with the text of standard input below them; None if there are neither.

    None means that standard input is a terminal: the user wants a chat.

    :raises typer.BadParameter: if standard input is no terminal and has no text, and there are no arguments.
    """
    given = " ".join(words)
    piped = piped_text(console, is_needed=not given.strip())
    if piped is None and not given.strip():
        return None
    prompt = "\n\n".join(part for part in (given, (piped or "").rstrip("\n")) if part.strip())
    if not prompt:
        raise typer.BadParameter("The prompt is empty: standard input has no text.", param_hint="PROMPT")
    return prompt


def piped_text(console: Console, *, is_needed: bool) -> str | None:
    """Return the text of standard input; None if that is a terminal, or is closed.

    It is read before there is an event loop, so that Ctrl-C ends the command at any moment.

    :param is_needed: whether the command has no other text.
    :raises typer.BadParameter: if it is not text in UTF-8.
    """
    # Closed by the shell, as by `<&-`.
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    number = sys.stdin.fileno()
    if sys.platform != "win32" and not select.select([number], [], [], _PATIENCE)[0]:
        console.note(
            f"Reading standard input to its end.{'' if is_needed else ' To use none, add: < /dev/null'}"
        )
    parts = []
    while part := os.read(number, 1 << 20):
        parts.append(part)
    try:
        return b"".join(parts).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise typer.BadParameter("Standard input is not text in UTF-8.") from None
