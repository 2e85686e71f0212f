"""A chat as it is sent: its messages and what they are made of, and the tools a model may call."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._predict import ToolCallRequest
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "AssistantResponse",
    "ChatHistory",
    "ChatMessage",
    "FileHandle",
    "FunctionTool",
    "MessagePart",
    "SystemPrompt",
    "TextData",
    "Tool",
    "ToolCallRequestData",
    "ToolCallResultData",
    "ToolFunction",
    "ToolResultMessage",
    "UserMessage",
]


@attrs.frozen(kw_only=True)
class TextData(WireObject):
    """A text in a message.

    :param text: the text.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "text"
    text: str


@attrs.frozen(kw_only=True)
class FileHandle(WireObject):
    """A file that the server has, for messages. What `AsyncClient.prepare_image` gives.

    :param name: what it is called, for people.
    :param identifier: what the server calls it. It is known to the client that uploaded it, and to nobody else.
    :param size_bytes: its size.
    :param file_type: ``image``, ``text/plain``, ``application/pdf``, ``application/word``, ``text/other``,
        ``unknown``, or a type that this SDK does not know.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "file"
    name: str = ""
    identifier: str
    size_bytes: int = 0
    file_type: str = "unknown"


@attrs.frozen(kw_only=True)
class ToolCallRequestData(WireObject):
    """A tool call in a message of the assistant's.

    :param tool_call_request: the tool that the model wants to be called.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "toolCallRequest"
    tool_call_request: ToolCallRequest


@attrs.frozen(kw_only=True)
class ToolCallResultData(WireObject):
    """What a tool gave.

    :param content: it, as a text: JSON, as a rule.
    :param tool_call_id: the ``id`` of the request that it answers.
    :param name: of the tool.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "toolCallResult"
    content: str
    tool_call_id: str | None = None
    name: str | None = None


MessagePart = TextData | FileHandle | ToolCallRequestData | ToolCallResultData | Unknown


@attrs.frozen(kw_only=True)
class _Message(WireObject):
    TAG_KEY: ClassVar[str] = "role"
    content: list[MessagePart] = attrs.field(hash=False)

    @property
    def role(self) -> str:
        """Who says it: ``system``, ``user``, ``assistant`` or ``tool``."""
        return self.TAG

    @property
    def text(self) -> str:
        """All of its text; of tools, what they gave."""
        texts = []
        for part in self.content:
            if isinstance(part, TextData):
                texts.append(part.text)
            elif isinstance(part, ToolCallResultData):
                texts.append(part.content)
        return "".join(texts)


@attrs.frozen(kw_only=True)
class SystemPrompt(_Message):
    """What the model is told of its part.

    :param content: parts: texts and files.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "system"


@attrs.frozen(kw_only=True)
class UserMessage(_Message):
    """What the user says.

    :param content: parts: texts and files.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "user"


@attrs.frozen(kw_only=True)
class AssistantResponse(_Message):
    """What the model says, and which tools it wants to be called.

    :param content: parts: texts, files and tool calls.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "assistant"


@attrs.frozen(kw_only=True)
class ToolResultMessage(_Message):
    """What tools gave.

    :param content: parts: the results.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "tool"


ChatMessage = SystemPrompt | UserMessage | AssistantResponse | ToolResultMessage | Unknown


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
