"""What was said so far, in whatever form it is given, as the wire has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmstudio_async.errors import LMStudioValueError

__all__ = ["ChatInput", "chat_to_wire"]

ChatInput = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A text (one message of the user), a list of ``{"role": ..., "content": ...}``, or ``{"messages": [...]}``."""

_ROLES = ("system", "user", "assistant", "tool")


def chat_to_wire(chat: ChatInput) -> dict[str, Any]:
    """Make the wire's chat history out of a text or of messages.

    :raises LMStudioValueError: if it is neither, saying which message is wrong.
    """
    if isinstance(chat, str):
        return {"messages": [_message({"role": "user", "content": chat}, 0)]}
    messages: Any = chat
    if isinstance(chat, Mapping):
        if "messages" not in chat:
            raise LMStudioValueError("a chat given as a dict has a list of 'messages'")
        messages = chat["messages"]
    if not isinstance(messages, Iterable) or isinstance(messages, (str, bytes, Mapping)):
        raise LMStudioValueError(
            "a chat is a text, a list of messages such as {'role': 'user', 'content': 'Hello'}, or a dict with a list "
            f"of 'messages', not {type(chat).__name__}"
        )
    wire = [_message(message, index) for index, message in enumerate(messages)]
    if not wire:
        raise LMStudioValueError("a chat needs at least one message")
    return {"messages": wire}


def _message(message: Any, index: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise LMStudioValueError(
            f"message {index} of the chat needs a 'role' and a 'content': {message!r:.80}"
        )
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        raise LMStudioValueError(
            f"message {index} of the chat has the role {role!r}; there are {', '.join(_ROLES)}"
        )
    if isinstance(content, (str, Mapping)):
        content = [content]
    if not isinstance(content, Iterable):
        raise LMStudioValueError(
            f"the content of message {index} of the chat must be a text or a list of parts"
        )
    return {"role": role, "content": [_part(part, index) for part in content]}


def _part(part: Any, index: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Mapping) and isinstance(part.get("type"), str):
        return dict(part)
    raise LMStudioValueError(
        f"message {index} of the chat holds {part!r:.80}; a part is a text, or a dict with a 'type' "
        "such as {'type': 'text', 'text': 'Hello'}"
    )
