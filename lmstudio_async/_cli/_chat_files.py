"""Conversations in files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lmstudio_async import Chat, FileHandle
from lmstudio_async.errors import LMStudioError, LMStudioValueError

__all__ = ["load_chat", "save_chat"]


def save_chat(chat: Chat, model_key: str, file: Path, *, may_replace: bool) -> int:
    """Write the messages of a chat to a file that only the user can read: ``{"model": …, "messages": [{"role": …}]}``.

    :param may_replace: whether a file that exists is replaced.
    :return: the number of images, which a file cannot have.
    :raises LMStudioValueError: if the file exists and is not replaced.
    :raises OSError: if it cannot be written.
    """
    messages = [{"role": message.role, "content": message.text} for message in chat]
    text = json.dumps({"model": model_key, "messages": messages}, ensure_ascii=False, indent=2) + "\n"
    if file.exists() and not may_replace:
        raise LMStudioValueError(f"{file} exists already: choose another name.")
    # A file that is not complete must not replace the old one.
    partial = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with open(
            os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as output:
            output.write(text)
        partial.replace(file)
    except OSError as error:
        # It may name the other file.
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        partial.unlink(missing_ok=True)
    return sum(isinstance(part, FileHandle) for message in chat for part in message.content)


def load_chat(file: Path) -> Chat:
    """Return the chat in a file: one of `save_chat`, or a list of messages such as ``{"role": "user", "content": "Hi"}``.

    :raises LMStudioValueError: if there is no chat in it.
    :raises OSError: if it cannot be read.
    """
    try:
        content: Any = json.loads(file.read_text("utf-8"))
        return Chat.from_history(content if isinstance(content, dict) else list(content))
    except (ValueError, TypeError, LMStudioError) as error:
        if isinstance(error, OSError):
            raise
        raise LMStudioValueError(f"{file} has no chat: {error}") from error
