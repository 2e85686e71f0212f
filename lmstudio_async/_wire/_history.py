"""A chat as it is sent: its messages and what they are made of, and the tools a model may call."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._predict import ToolCallRequest
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "AssistantMessage",
    "ChatHistory",
    "ChatMessage",
    "FilePart",
    "FunctionTool",
    "MessagePart",
    "SystemMessage",
    "TextPart",
    "Tool",
    "ToolCallRequestPart",
    "ToolCallResultPart",
    "ToolFunction",
    "ToolMessage",
    "UserMessage",
]


@attrs.frozen(kw_only=True)
class TextPart(WireObject):
    TAG: ClassVar[str] = "text"
    text: str


@attrs.frozen(kw_only=True)
class FilePart(WireObject):
    """A file that the server has; see `FileHandleInfo`."""

    TAG: ClassVar[str] = "file"
    name: str = ""
    identifier: str
    size_bytes: int = 0
    file_type: str = "unknown"


@attrs.frozen(kw_only=True)
class ToolCallRequestPart(WireObject):
    TAG: ClassVar[str] = "toolCallRequest"
    tool_call_request: ToolCallRequest


@attrs.frozen(kw_only=True)
class ToolCallResultPart(WireObject):
    TAG: ClassVar[str] = "toolCallResult"
    content: str
    tool_call_id: str | None = None
    name: str | None = None


MessagePart = TextPart | FilePart | ToolCallRequestPart | ToolCallResultPart | Unknown


@attrs.frozen(kw_only=True)
class SystemMessage(WireObject):
    TAG: ClassVar[str] = "system"
    TAG_KEY: ClassVar[str] = "role"
    content: list[MessagePart]


@attrs.frozen(kw_only=True)
class UserMessage(WireObject):
    TAG: ClassVar[str] = "user"
    TAG_KEY: ClassVar[str] = "role"
    content: list[MessagePart]


@attrs.frozen(kw_only=True)
class AssistantMessage(WireObject):
    TAG: ClassVar[str] = "assistant"
    TAG_KEY: ClassVar[str] = "role"
    content: list[MessagePart]


@attrs.frozen(kw_only=True)
class ToolMessage(WireObject):
    TAG: ClassVar[str] = "tool"
    TAG_KEY: ClassVar[str] = "role"
    content: list[MessagePart]


ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage | Unknown


@attrs.frozen(kw_only=True)
class ChatHistory(WireObject):
    messages: list[ChatMessage]


@attrs.frozen(kw_only=True)
class ToolFunction(WireObject):
    """The parameters are a JSON schema of an object, and stay one."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class FunctionTool(WireObject):
    TAG: ClassVar[str] = "function"
    function: ToolFunction


Tool = FunctionTool | Unknown
