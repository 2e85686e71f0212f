"""Conversion of texts, dicts and objects to messages.

Messages are checked here because the server would report an error without its reason. Dicts may have keys in
snake_case or in camelCase. Each message is a copy, and shares nothing with the object that it was made from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

import attrs

from lmstudio_async._printable import printable, short_repr
from lmstudio_async._wire._history import (
    AssistantResponse,
    FileHandle,
    MessagePart,
    SystemPrompt,
    TextData,
    ToolCallRequestData,
    ToolCallResultData,
    ToolResultMessage,
    UserMessage,
)
from lmstudio_async._wire._predict import ToolCallRequest
from lmstudio_async._wire._reasoning_marker import after_marker
from lmstudio_async._wire._struct import MalformedError, WireObject, camel, read, write
from lmstudio_async.errors import LMStudioValueError

__all__ = [
    "AnyChatMessage",
    "HasContent",
    "answer_message",
    "make_message",
    "show_message",
    "to_message",
    "to_parts",
    "to_tool_request",
]

W = TypeVar("W", bound=WireObject)

AnyChatMessage = SystemPrompt | UserMessage | AssistantResponse | ToolResultMessage
"""A message of a chat."""

_MESSAGES: Mapping[str, type[AnyChatMessage]] = {
    "system": SystemPrompt,
    "user": UserMessage,
    "assistant": AssistantResponse,
    "tool": ToolResultMessage,
}
_PARTS: Mapping[str, type[Any]] = {
    kind.TAG: kind for kind in (TextData, FileHandle, ToolCallRequestData, ToolCallResultData)
}
_ALLOWED: Mapping[str, tuple[type[Any], ...]] = {
    "system": (TextData, FileHandle),
    "user": (TextData, FileHandle),
    "assistant": (TextData, FileHandle, ToolCallRequestData),
    "tool": (ToolCallResultData,),
}


def to_message(value: Any, where: str = "the message") -> AnyChatMessage:
    """Make a message out of a message, or of a role and its content as a dict or a pair.

    :raises LMStudioValueError: if it is none of these.
    """
    if isinstance(value, AnyChatMessage):
        return make_message(value.role, to_parts(value.role, value.content, where), value.extra)
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], str):
        value = {"role": value[0], "content": value[1]}
    if not isinstance(value, Mapping):
        raise LMStudioValueError(
            f"{where} must be a message, or a dict such as {{'role': 'user', 'content': 'Hello'}}, not {value!r:.80}"
        )
    members = dict(value)
    role = members.pop("role", None)
    content = members.pop("content", None)
    if role is None or content is None:
        raise LMStudioValueError(f"{where} needs a 'role' and a 'content': {value!r:.80}")
    if role == "tool" and isinstance(content, str):
        # The form of other chat APIs: the message has one result, with its id beside the text.
        content, members = [{"type": "toolCallResult", "content": content, **members}], {}
    if members:
        raise LMStudioValueError(f"{where} has {', '.join(map(repr, sorted(members)))}, which no message has")
    return make_message(role, to_parts(role, content, where))


def make_message(
    role: str, parts: Iterable[MessagePart], extra: Mapping[str, Any] | None = None
) -> AnyChatMessage:
    """Make a message out of parts that fit its role."""
    return _MESSAGES[role](content=list(parts), extra=copy.deepcopy(dict(extra or {})))


@runtime_checkable
class HasContent(Protocol):
    """Object with the text of an answer, such as a `PredictionResult`."""

    @property
    def content(self) -> str:
        """The whole text."""


def answer_message(answer: HasContent, requests: Iterable[Any]) -> AssistantResponse:
    """Make the chat message of an answer: its text, even an empty one, and tool calls.

    Reasoning between tags stays in the text, because the server separates it again. Reasoning without tags is left
    out, because nothing would separate it from the answer, unless the model generated nothing else.

    :param answer: the answer; its own tool calls are ignored.
    :param requests: the tool calls, in any form.
    :raises LMStudioValueError: if one of them is not a tool call.
    """
    text = answer.content
    reasoning, rest = getattr(answer, "reasoning_content", ""), getattr(answer, "non_reasoning_content", "")
    if reasoning and rest.strip() and text == reasoning + rest:
        text = rest
    parts = to_parts("assistant", text)
    return AssistantResponse(
        content=[*parts, *(ToolCallRequestData(tool_call_request=to_tool_request(each)) for each in requests)]
    )


def to_parts(role: Any, content: Any, where: str = "the message") -> list[MessagePart]:
    """Make the parts of a message out of one part or several.

    LM Studio's reasoning marker is removed from the assistant's texts, and so is reasoning that only the marker marks.

    :raises LMStudioValueError: if there is no such role, or its messages cannot have such a part.
    """
    if not isinstance(role, str) or role not in _MESSAGES:
        raise LMStudioValueError(f"{where} has the role {role!r:.80}; there are {', '.join(_MESSAGES)}")
    if isinstance(content, (str, Mapping, WireObject)):
        content = [content]
    if not isinstance(content, Iterable) or isinstance(content, (bytes, bytearray)):
        raise LMStudioValueError(
            f"the content of {where} must be a text, a file handle, or a list of these, not {content!r:.80}"
        )
    parts = [_part(item, role, where) for item in content]
    for part in parts:
        if not isinstance(part, _ALLOWED[role]):
            allowed = " or ".join(f"'{kind.TAG}'" for kind in _ALLOWED[role])
            raise LMStudioValueError(
                f"{where} has the role {role!r} and a part of type '{part.TAG}'; it can have {allowed}"
            )
    return [_without_marked_reasoning(part) for part in parts] if role == "assistant" else parts


def _without_marked_reasoning(part: MessagePart) -> MessagePart:
    return attrs.evolve(part, text=after_marker(part.text)) if isinstance(part, TextData) else part


def _part(value: Any, role: str, where: str) -> Any:
    if isinstance(value, str):
        return TextData(text=value)
    if isinstance(value, tuple(_PARTS.values())):
        return copy.deepcopy(value)
    if isinstance(value, ToolCallRequest):
        return ToolCallRequestData(tool_call_request=copy.deepcopy(value))
    if isinstance(value, Mapping):
        return _part_of_mapping(value, role, where)
    raise LMStudioValueError(
        f"{where} holds {value!r:.80}; a part is a text, a file handle, or a dict with a 'type' such as "
        "{'type': 'text', 'text': 'Hello'}"
    )


def _part_of_mapping(value: Mapping[Any, Any], role: str, where: str) -> Any:
    request = value.get("tool_call_request", value.get("toolCallRequest"))
    if request is not None and value.get("type") in (None, "toolCallRequest"):
        return ToolCallRequestData(tool_call_request=to_tool_request(request, where))
    kind = value.get("type")
    if kind is None and role == "tool":
        kind = "toolCallResult"
    if kind == "function":
        return ToolCallRequestData(tool_call_request=to_tool_request(value, where))
    if not isinstance(kind, str) or kind not in _PARTS:
        raise LMStudioValueError(
            f"{where} holds {dict(value)!r:.80}, whose 'type' is none of {', '.join(map(repr, _PARTS))}"
        )
    return _read_strictly(_PARTS[kind], value, where)


def to_tool_request(value: Any, where: str = "the message") -> ToolCallRequest:
    """Make a tool call request out of a request or a dict.

    :raises LMStudioValueError: if it is neither.
    """
    if isinstance(value, ToolCallRequestData):
        value = value.tool_call_request
    if isinstance(value, ToolCallRequest):
        return copy.deepcopy(value)
    if isinstance(value, Mapping):
        inner = value.get("tool_call_request", value.get("toolCallRequest"))
        if inner is not None:
            return to_tool_request(inner, where)
        request = _read_strictly(ToolCallRequest, value, where)
        if request.name:
            return request
    raise LMStudioValueError(
        f"{where} holds {value!r:.80}; a tool call is {{'id': ..., 'name': ..., 'arguments': {{...}}}}"
    )


def _read_strictly(kind: type[W], value: Mapping[Any, Any], where: str) -> W:
    """Read a dict of a user. Unknown members are errors here, but not in messages from a server."""
    spellings = {field.name: camel(field.name) for field in attrs.fields(kind)}
    wire = {spellings.get(key, key): copy.deepcopy(write(item)) for key, item in value.items()}
    try:
        made = read(kind, wire)
    except MalformedError as error:
        raise LMStudioValueError(f"{where} holds a wrong part: {error}") from error
    if made.extra:
        names = ", ".join(map(repr, sorted(map(str, made.extra))))
        raise LMStudioValueError(f"{where} holds a {kind.TAG or 'tool call'} with a wrong or unknown {names}")
    return made


def show_message(message: AnyChatMessage, width: int = 60) -> str:
    """Return a message as one readable line."""
    shown = [_show_part(part, width) for part in message.content]
    return f"{message.role}: {' '.join(shown)}"


def _show_part(part: MessagePart, width: int) -> str:
    match part:
        case TextData():
            return repr(part.text if len(part.text) <= width else part.text[: width - 1] + "…")
        case FileHandle():
            return f"[{printable(part.file_type, width)} {printable(part.name or part.identifier, width)}]"
        case ToolCallRequestData():
            request = part.tool_call_request
            # The first arguments fill the width.
            first = islice((request.arguments or {}).items(), width)
            arguments = ", ".join(f"{name}={short_repr(value, 30)}" for name, value in first)
            return f"-> {printable(f'{request.name}({arguments})', 4 * width)}"
        case ToolCallResultData():
            return f"<- {printable(part.content[:width], width)}"
        case _:
            return "[unknown]"
