"""The lines that the user has typed in chats, in a file of the user's data folder."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmstudio_async._data_folder import data_folder

if TYPE_CHECKING:
    from prompt_toolkit.history import History

__all__ = ["history_file", "open_history"]


def history_file() -> Path:
    """Return the path of the history: ``lmstudio-async/chat_history`` in the user's data folder."""
    return data_folder() / "chat_history"


def open_history(*, is_kept: bool) -> History:
    """Return the history of a chat: in a file that only the user can read, or in memory.

    It is in memory if the user wants that, by ``LMSA_HISTORY=0`` or ``--no-history``, and if the file cannot be written.
    """
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class PrivateHistory(FileHistory):
        def store_string(self, string: str) -> None:
            """Append a line. A full disk must not end the chat."""
            with contextlib.suppress(OSError):
                super().store_string(string)

    if not is_kept or os.environ.get("LMSA_HISTORY", "").strip() == "0":
        return InMemoryHistory()
    try:
        file = history_file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            if sys.platform != "win32":
                # It may have been made by a copy, or with other rights.
                os.fchmod(number, 0o600)
        finally:
            os.close(number)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return InMemoryHistory()
    return PrivateHistory(file)
