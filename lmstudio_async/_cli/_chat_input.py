"""The line that the user types in a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._cli._chat_history import open_history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

__all__ = ["QUOTES", "ChatInput"]

PROMPT = ">>> "
CONTINUED = "... "

#: They begin and end a message of several lines.
QUOTES = '"""'


class ChatInput:
    """Reads messages from the terminal, with line editing and a history.

    :param keeps_history: whether the history is a file; otherwise it ends with the chat.
    :param commands: the commands of the chat, which Tab completes.
    """

    def __init__(self, commands: Sequence[str], *, keeps_history: bool) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter

        self._session: PromptSession[str] = PromptSession(
            history=open_history(is_kept=keeps_history),
            # With several lines, Enter is one of our keys.
            multiline=True,
            key_bindings=_keys(),
            # A line that is too long for the terminal goes on without a sign of a new line.
            prompt_continuation=lambda width, _line, wraps: " " * width if wraps else CONTINUED,
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            # No empty lines below the prompt.
            reserve_space_for_menu=0,
        )

    async def read(self) -> str | None:
        """Return the next message; None after Ctrl-D. Ctrl-C clears the line."""
        while True:
            try:
                # SIGINT from elsewhere ends the command, as during an answer.
                text = await self._session.prompt_async(PROMPT, handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None
            text = text.strip()
            if text.startswith(QUOTES):
                text = text[len(QUOTES) :].removesuffix(QUOTES).strip("\n")
            if text:
                return text


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    # Ctrl-J is Enter, typed before there was a prompt.
    @keys.add("enter")
    @keys.add("c-j")
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if _is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _is_open(text: str) -> bool:
    """Return whether a message of several lines has begun, and not ended."""
    text = text.strip()
    return text.startswith(QUOTES) and not (len(text) >= 2 * len(QUOTES) and text.endswith(QUOTES))
