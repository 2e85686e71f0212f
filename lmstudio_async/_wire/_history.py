"""Wire types of a chat: its messages, their parts, and the tools that a model may call."""

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


@attrs.frozen(kw_only=True, repr=False)
class TextData(WireObject):
    """A text in a message.

    :param text: the text.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "text"
    text: str


@attrs.frozen(kw_only=True, repr=False)
class FileHandle(WireObject):
    """A file on the server, as part of a message. `AsyncClient.prepare_image` returns it.

    :param name: a name for people.
    :param identifier: the server's name for it. Only the client that uploaded the file can use it.
    :param size_bytes: its size.
    :param file_type: ``image``, ``text/plain``, ``application/pdf``, ``application/word``, ``text/other``,
        ``unknown``, or a type that this SDK does not know.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "name file_type size_bytes identifier"

    TAG: ClassVar[str] = "file"
    name: str = ""
    identifier: str
    size_bytes: int = 0
    file_type: str = "unknown"


@attrs.frozen(kw_only=True, repr=False)
class ToolCallRequestData(WireObject):
    """A tool call in a message of the assistant.

    :param tool_call_request: the tool call that the model requests.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "toolCallRequest"
    tool_call_request: ToolCallRequest


@attrs.frozen(kw_only=True, repr=False)
class ToolCallResultData(WireObject):
    """Result of a tool call.

    :param content: the result as a text, usually JSON.
    :param tool_call_id: ``id`` of the request that this is the result of.
    :param name: name of the tool.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "toolCallResult"
    content: str
    tool_call_id: str | None = None
    name: str | None = None


MessagePart = TextData | FileHandle | ToolCallRequestData | ToolCallResultData | Unknown


@attrs.frozen(kw_only=True, repr=False)
class _Message(WireObject):
    TAG_KEY: ClassVar[str] = "role"
    content: list[MessagePart] = attrs.field(hash=False)

    @property
    def role(self) -> str:
        """Author of the message: ``system``, ``user``, ``assistant`` or ``tool``."""
        return self.TAG

    @property
    def text(self) -> str:
        """All text of the message, results of tools included."""
        texts = []
        for part in self.content:
            if isinstance(part, TextData):
                texts.append(part.text)
            elif isinstance(part, ToolCallResultData):
                texts.append(part.content)
        return "".join(texts)


@attrs.frozen(kw_only=True, repr=False)
class SystemPrompt(_Message):
    """Instructions to the model.

    :param content: parts: texts and files.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "system"


@attrs.frozen(kw_only=True, repr=False)
class UserMessage(_Message):
    """A message of the user.

    :param content: parts: texts and files.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "user"


@attrs.frozen(kw_only=True, repr=False)
class AssistantResponse(_Message):
    """A message of the model: its answer, and the tool calls that it requests.

    :param content: parts: texts, files and tool calls.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "assistant"


@attrs.frozen(kw_only=True, repr=False)
class ToolResultMessage(_Message):
    """A message with the results of tool calls.

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
    """A function that a model may call. Its parameters stay plain JSON: the schema of an object."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class FunctionTool(WireObject):
    TAG: ClassVar[str] = "function"
    function: ToolFunction


Tool = FunctionTool | Unknown
