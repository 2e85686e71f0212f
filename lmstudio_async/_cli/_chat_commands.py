"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lmstudio_async._cli._answer import stats_text
from lmstudio_async._cli._chat_files import load_chat, save_chat
from lmstudio_async._cli._chat_input import QUOTES
from lmstudio_async._cli._run import message_of
from lmstudio_async.errors import LMStudioError

if TYPE_CHECKING:
    from lmstudio_async._cli._chat_session import ChatSession

__all__ = ["COMMANDS", "run_command"]

#: The commands, and the help on them.
_HELP = {
    "/help": "Show this help.",
    "/clear": "Forget the messages and images, but not the system prompt.",
    "/system TEXT": "Set the system prompt; without TEXT, show it.",
    "/stats": "Show the statistics of the last answer.",
    "/save FILE": "Write the conversation to a file.",
    "/load FILE": "Go on with the conversation of a file.",
    "/model KEY": "Go on with another model.",
    "/exit": "End the chat, as Ctrl-D does.",
}
_KEYS = {
    QUOTES: "Begin and end a message of several lines.",
    "Alt-Enter": "Begin a new line.",
    "Ctrl-C": "Stop the answer, or clear the line.",
}
COMMANDS = [name.split()[0] for name in _HELP]

#: A path such as /usr/bin is no command.
_COMMAND = re.compile(r"(/[a-z?]*)(?:\s+(.*))?", re.DOTALL | re.IGNORECASE)


async def run_command(session: ChatSession, line: str) -> bool:
    """Run the command in a line, if there is one; a failure is a message.

    :return: whether the line is a command.
    """
    found = _COMMAND.fullmatch(line)
    if found is None:
        return False
    try:
        await _run(session, found[1].lower(), (found[2] or "").strip())
    except (LMStudioError, OSError) as error:
        session.tell(message_of(error))
    return True


async def _run(session: ChatSession, name: str, argument: str) -> None:
    match name:
        case "/help" | "/?":
            width = max(map(len, _HELP)) + 2
            for key, text in (_HELP | _KEYS).items():
                session.tell(f"{key:{width}}{text}")
        case "/clear":
            session.clear()
            session.tell("The messages are forgotten.")
        case "/system":
            if argument:
                session.set_system_prompt(argument)
            session.tell(f"System prompt: {session.system_prompt or 'none'}")
        case "/stats":
            _show_stats(session)
        case "/save" | "/load" | "/model" if not argument:
            session.tell(f"{name} needs {'a KEY' if name == '/model' else 'a FILE'}.")
        case "/save":
            _save(session, _path(argument))
        case "/load":
            file = _path(argument)
            session.replace(load_chat(file))
            session.own_files.add(file)
            session.tell(f"Loaded {_count(len(session.chat), 'message')} from {file}.")
        case "/model":
            await session.change_model(argument)
            session.tell(f"The chat goes on with {session.llm.identifier}.")
        case "/exit" | "/quit" | "/bye":
            session.is_over = True
        case _:
            session.tell(f"There is no command {name}. /help lists them.")


def _show_stats(session: ChatSession) -> None:
    stats = session.stats
    if stats is None:
        session.tell("There is no answer yet.")
        return
    session.tell(stats_text(stats))
    if stats.total_tokens_count is not None:
        session.tell(
            f"{stats.total_tokens_count} of the {session.llm.info.context_length} tokens of the context are used."
        )


def _save(session: ChatSession, file: Path) -> None:
    images = save_chat(session.chat, session.llm.info.model_key, file, may_replace=file in session.own_files)
    session.own_files.add(file)
    without = f", without {_count(images, 'image')}" if images else ""
    session.tell(f"Saved {_count(len(session.chat), 'message')} to {file}{without}.")


def _path(argument: str) -> Path:
    try:
        words = shlex.split(argument)
    except ValueError:
        words = []
    # A name with blanks need not be quoted.
    return Path(words[0] if len(words) == 1 else argument).expanduser().absolute()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
