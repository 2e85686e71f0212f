"""Conversion of a chat history from the wire to the messages that the engine's chat templates take."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._history import (
    AssistantResponse,
    ChatHistory,
    FileHandle,
    MessagePart,
    SystemPrompt,
    TextData,
    ToolCallRequestData,
    ToolCallResultData,
    ToolResultMessage,
    UserMessage,
)
from lmstudio_async._wire._struct import read
from lmstudio_async.embedded._connections._clients import UploadedFile
from lmstudio_async.embedded._documents._file_content import decode, sniff
from lmstudio_async.embedded._templates._template_message import TemplateMessage
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioServerError

__all__ = ["ToolNames", "has_images", "manual_prompt", "messages_of", "plain_text"]


class ToolNames:
    """Mapping between the names of tools at the client and the names that the model gets.

    :param naming: ``passThrough``, ``removeSpecial``, ``snakeCase`` or ``camelCase``.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], naming: str) -> None:
        self._renamed: dict[str, str] = {}
        self._original: dict[str, str] = {}
        names = dict.fromkeys(tool["function"]["name"] for tool in tools)
        for name in names:
            new = _RENAMES[naming](name)
            # A tool keeps its own name if another tool has the new one.
            if not new or new in self._original or (new != name and new in names):
                new = name
            self._renamed[name] = new
            self._original[new] = name

    def renamed(self, name: str) -> str:
        """Return the name that the model gets for the client's name."""
        return self._renamed.get(name, name)

    def renamed_tools(self, tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the tools, with the names that the model gets."""
        return [
            {**tool, "function": {**tool["function"], "name": self.renamed(tool["function"]["name"])}}
            for tool in tools
        ]

    def original(self, renamed: str) -> str:
        """Return the client's name for the name that the model got."""
        return self._original.get(renamed, renamed)


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)


_RENAMES: dict[str, Callable[[str], str]] = {
    "passThrough": lambda name: name,
    "removeSpecial": lambda name: re.sub(r"[^A-Za-z0-9_-]", "_", name),
    "snakeCase": lambda name: "_".join(_words(name)).lower(),
    "camelCase": lambda name: "".join(
        word.capitalize() if index else word.lower() for index, word in enumerate(_words(name))
    ),
}


def messages_of(
    history: Mapping[str, Any],
    files: Mapping[str, UploadedFile],
    names: ToolNames,
    *,
    system_prompt: str,
    no_vision_reason: str | None,
) -> list[TemplateMessage]:
    """Return the messages of a chat, in the form of OpenAI's chat completions.

    :param files: the files that the client has uploaded, by identifier.
    :param system_prompt: text of a system message to put before them; empty for none.
    :param no_vision_reason: the reason why the model sees no images; None if it sees them, empty for a model without
        vision.
    :raises LMStudioServerError: the history has something that this server or the model cannot read.
    """
    messages: list[TemplateMessage] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for message in read(ChatHistory, dict(history)).messages:
        match message:
            case SystemPrompt() | UserMessage():
                messages.append(
                    {
                        "role": message.TAG,
                        "content": _content(message.content, files, no_vision_reason=no_vision_reason),
                    }
                )
            case AssistantResponse():
                messages.append(_assistant(message.content, files, names, no_vision_reason=no_vision_reason))
            case ToolResultMessage():
                messages += [_tool_result(part, names) for part in message.content]
            case _:
                raise server_error(
                    f"The chat has a message of the unknown role {message.extra.get('role')!r:.60}."
                )
    return messages


def _content(
    parts: Sequence[MessagePart], files: Mapping[str, UploadedFile], *, no_vision_reason: str | None
) -> Any:
    texts: list[str] = []
    images: list[TemplateMessage] = []
    for part in parts:
        match part:
            case TextData():
                texts.append(part.text)
            case FileHandle():
                images.append(_image(part, files, no_vision_reason=no_vision_reason))
            case _:
                raise server_error("A message has a part that its role cannot have.")
    text = "".join(texts)
    return [{"type": "text", "text": text}, *images] if images else text


def _image(
    part: FileHandle, files: Mapping[str, UploadedFile], *, no_vision_reason: str | None
) -> TemplateMessage:
    if part.identifier.startswith("base64:"):
        try:
            content = decode(part.identifier.removeprefix("base64:"))
        except ValueError:
            raise server_error(f'The content of the file "{part.name[:100]}" is not valid base64.') from None
        file_type, mime_type = sniff(content)
    else:
        file = files.get(part.identifier.removeprefix("local:"))
        if file is None:
            raise server_error(
                f'There is no file "{part.identifier[:100]}".', "Upload it with the same client."
            )
        content, file_type, mime_type = file.content, file.file_type, file.mime_type
    if file_type != "image":
        raise server_error(
            f'The file "{part.name[:100]}" is not an image (JPEG or PNG), and a message can have no other files.'
        )
    if no_vision_reason is not None:
        raise _no_vision_error(no_vision_reason)
    if mime_type == "image/webp":
        raise unsupported_feature(
            mime_type,
            engine_version(),
            f'the engine reads no WebP, and "{part.name[:100]}" is one',
            "Save it as PNG or JPEG.",
        )
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{mime_type};base64,{base64.b64encode(content).decode()}"},
    }


def _no_vision_error(no_vision_reason: str) -> LMStudioServerError:
    if not no_vision_reason:
        return server_error(
            "This model cannot see images.", "Load a model with vision, or leave the image out."
        )
    return server_error(
        f"This model cannot see images, because its vision projector does not work: {no_vision_reason}.",
        "Put the projector that belongs to the model beside it and load the model again, or leave the images out.",
    )


def _assistant(
    parts: Sequence[MessagePart],
    files: Mapping[str, UploadedFile],
    names: ToolNames,
    *,
    no_vision_reason: str | None,
) -> TemplateMessage:
    calls = [part.tool_call_request for part in parts if isinstance(part, ToolCallRequestData)]
    others = [part for part in parts if not isinstance(part, ToolCallRequestData)]
    message: TemplateMessage = {
        "role": "assistant",
        "content": _content(others, files, no_vision_reason=no_vision_reason),
    }
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call_{number}",
                "type": "function",
                "function": {"name": names.renamed(call.name), "arguments": json.dumps(call.arguments or {})},
            }
            for number, call in enumerate(calls)
        ]
    return message


def _tool_result(part: MessagePart, names: ToolNames) -> TemplateMessage:
    if not isinstance(part, ToolCallResultData):
        raise server_error("A message of the role tool has a part that is not a tool result.")
    message: TemplateMessage = {"role": "tool", "content": part.content}
    if part.tool_call_id is not None:
        message["tool_call_id"] = part.tool_call_id
    if part.name is not None:
        message["name"] = names.renamed(part.name)
    return message


def has_images(messages: Sequence[TemplateMessage]) -> bool:
    """Return whether any message has more than text."""
    return any(not isinstance(message["content"], str) for message in messages)


def plain_text(messages: Sequence[TemplateMessage]) -> str:
    """Return the joined contents of the messages: the prompt of a client that formats it itself."""
    if has_images(messages):
        raise server_error("A text completion takes no images.")
    return "".join(message["content"] for message in messages)


def manual_prompt(messages: Sequence[TemplateMessage], template: Mapping[str, str]) -> str:
    """Format a prompt with a manual template: a prefix and a suffix for the messages of each role."""
    if has_images(messages):
        raise server_error("A manual prompt template takes no images.")
    prompt = ""
    for message in messages:
        role = message["role"].capitalize()
        if f"before{role}" not in template:
            raise server_error(
                f"The manual prompt template has no texts for messages of the role {message['role']}."
            )
        prompt += template[f"before{role}"] + message["content"] + template[f"after{role}"]
    # A last message of the assistant is the beginning of the answer, which the model continues.
    if messages and messages[-1]["role"] == "assistant":
        return prompt.removesuffix(template["afterAssistant"]) if template["afterAssistant"] else prompt
    return prompt + template["beforeAssistant"]
