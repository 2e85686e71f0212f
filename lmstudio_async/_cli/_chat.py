"""A chat in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._cli._chat_commands import COMMANDS, run_command
from lmstudio_async._cli._chat_input import ChatInput

if TYPE_CHECKING:
    from lmstudio_async._cli._chat_session import ChatSession

__all__ = ["chat"]


async def chat(session: ChatSession, *, keeps_history: bool) -> None:
    """Read and answer messages until the user ends the chat.

    :param keeps_history: whether the typed lines are kept for the next chat.
    """
    reader = ChatInput(COMMANDS, keeps_history=keeps_history)
    session.console.note(
        f"Chat with {session.llm.identifier}. /help lists the commands, Ctrl-D ends the chat."
    )
    while not session.is_over:
        line = await reader.read()
        if line is None:
            return
        if not await run_command(session, line):
            await session.reply(line)
