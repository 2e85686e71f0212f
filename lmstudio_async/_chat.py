"""Chats: the messages of a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypeVar, overload

import attrs

from lmstudio_async._messages import (
    AnyChatMessage,
    HasContent,
    answer_message,
    make_message,
    show_message,
    to_message,
    to_parts,
    to_tool_request,
)
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
from lmstudio_async._wire._struct import write
from lmstudio_async.errors import LMStudioRuntimeError, LMStudioValueError

__all__ = ["Chat", "ChatInput", "chat_to_wire"]

MessageT = TypeVar("MessageT", bound=AnyChatMessage)

PartInput: TypeAlias = str | TextData | FileHandle | Mapping[str, Any]
FileInput: TypeAlias = FileHandle | Mapping[str, Any]
ToolRequestInput: TypeAlias = ToolCallRequest | ToolCallRequestData | Mapping[str, Any]
ToolResultInput: TypeAlias = ToolCallResultData | Mapping[str, Any]


class Chat:  # noqa: PLW1641 - mutable, so it has no hash, like a list
    """A conversation: messages of the system, the user, the assistant and of tools.

    Change a chat by its methods only, not through its messages. The methods copy their arguments, and a method that
    raises changes nothing. Consecutive messages of the user become one. ``len``, iteration, indexing and ``==`` work as
    on a list of messages. ``print`` shows a line for each message, and the repr is one line.

    :param initial_prompt: the system prompt, if there is one.
    :raises LMStudioValueError: if the system prompt is not a text.

    ::

        chat = Chat("You answer in rhymes.")
        chat.add_user_message("What is the meaning of life?")
        chat.append(await llm.respond(chat))
        chat.add_user_message("Say more.")
        for message in chat:
            print(message.role, message.text)
    """

    def __init__(self, initial_prompt: str | TextData | Mapping[str, Any] | None = None) -> None:
        self._messages: list[AnyChatMessage] = []
        if initial_prompt is not None:
            self.add_system_prompt(initial_prompt)

    @classmethod
    def from_history(cls, history: ChatInput) -> Self:
        """Make a chat out of existing messages.

        :param history: a text, which is one message of the user; another chat, which is copied; a list of messages, as
            objects or as dicts such as ``{"role": "user", "content": "Hello"}``; or a dict with such a list as
            ``messages``.
        :return: a new chat.
        :raises LMStudioValueError: if it is none of these; the error names the wrong message.
        :raises LMStudioRuntimeError: if two system prompts, or two assistant responses, follow each other.

        ::

            chat = Chat.from_history([
                {"role": "system", "content": "You answer in rhymes."},
                {"role": "user", "content": "Hello"},
            ])
        """
        chat = cls()
        if isinstance(history, str):
            chat.add_user_message(history)
            return chat
        for index, message in enumerate(_messages_in(history)):
            chat._add(to_message(message, f"message {index} of the chat"))
        return chat

    # -- reading

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[AnyChatMessage]:
        return iter(tuple(self._messages))

    @overload
    def __getitem__(self, index: int) -> AnyChatMessage: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[AnyChatMessage]: ...

    def __getitem__(self, index: int | slice) -> AnyChatMessage | Sequence[AnyChatMessage]:
        return self._messages[index]

    def __eq__(self, other: object) -> bool:
        return self._messages == other._messages if isinstance(other, Chat) else NotImplemented

    def __repr__(self) -> str:
        count = len(self._messages)
        # The first message and the last two tell chats apart.
        ends = [*self._messages[:1], *self._messages[max(1, count - 2) :]]
        shown = [_excerpt(show_message(message, 24), 48) for message in ends]
        if count > len(ends):
            shown.insert(1, "…")
        if count:
            shown.insert(0, "1 message" if count == 1 else f"{count} messages")
        return f"{type(self).__name__}({'; '.join(shown)})"

    def __str__(self) -> str:
        lines = [f"  {show_message(message)}\n" for message in self._messages]
        return "".join([f"{type(self).__name__}(", "\n" if lines else "", *lines, ")"])

    # -- copying

    def copy(self) -> Self:
        """Make an independent copy, with copies of the messages.

        :return: a new chat.
        """
        chat = type(self)()
        chat._messages = [to_message(message) for message in self._messages]
        return chat

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    # -- adding messages

    def add_system_prompt(self, prompt: str | TextData | Mapping[str, Any]) -> SystemPrompt:
        """Add a system prompt: instructions for the model.

        :param prompt: the text.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if it is not a text.
        :raises LMStudioRuntimeError: if the last message is a system prompt.
        """
        return self._add(SystemPrompt(content=to_parts("system", prompt)))

    def add_user_message(
        self,
        content: PartInput | Iterable[PartInput],
        *,
        images: Iterable[FileInput] = (),
        _files: Iterable[FileInput] = (),
    ) -> UserMessage:
        """Add a message of the user. If the last message is the user's, the content is appended to it.

        :param content: a text, a file handle, or several of these.
        :param images: file handles that `AsyncClient.prepare_image` returned; they come after the content.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if the message is empty, or has a part that a user message cannot have.

        ::

            chat = Chat()
            image = await client.prepare_image("cat.png")
            chat.add_user_message("What is this?", images=[image])
        """
        files = [part for file in (*images, *_files) for part in to_parts("user", file)]
        if any(not isinstance(file, FileHandle) for file in files):
            raise LMStudioValueError("images are file handles: make them with prepare_image()")
        return self._add(UserMessage(content=[*to_parts("user", content), *files]))

    def add_assistant_response(
        self,
        response: str | TextData | FileHandle | Mapping[str, Any] | HasContent | None = None,
        tool_call_requests: Iterable[ToolRequestInput] = (),
    ) -> AssistantResponse:
        """Add an answer of the model, tool call requests, or both.

        An answer may be empty. Reasoning between the model's own tags stays in the text. Reasoning that only LM
        Studio's internal marker separates from the answer is left out.

        :param response: a text, or an answer such as a `PredictionResult`. None for tool calls alone.
        :param tool_call_requests: the tool calls, as objects or dicts. Requests of an answer are added automatically.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if the message has no part, or one that an assistant response cannot have.
        :raises LMStudioRuntimeError: if the last message is an assistant response, too.
        """
        if isinstance(response, HasContent) and isinstance(response.content, str):
            requests = (*getattr(response, "tool_call_requests", ()), *tool_call_requests)
            return self._add(answer_message(response, requests))
        parts: list[MessagePart] = [] if response is None else to_parts("assistant", response)
        parts += [ToolCallRequestData(tool_call_request=to_tool_request(each)) for each in tool_call_requests]
        return self._add(AssistantResponse(content=parts))

    def add_tool_result(self, result: ToolResultInput) -> ToolResultMessage:
        """Add the result of a tool call.

        :param result: the result, as an object or a dict with a ``content`` and a ``tool_call_id``.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if it is not a result.

        ::

            chat = Chat.from_history("What is 6 times 7?")
            request = {"id": "1", "name": "multiply", "arguments": {"a": 6, "b": 7}}
            chat.add_assistant_response(tool_call_requests=[request])
            chat.add_tool_result({"content": "42", "tool_call_id": request["id"]})
            print(await llm.respond(chat))
        """
        return self.add_tool_results([result])

    def add_tool_results(self, results: Iterable[ToolResultInput]) -> ToolResultMessage:
        """Add the results of several tool calls, as one message.

        :param results: the results, as objects or dicts.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if there are none, or one of them is not a result.
        """
        return self._add(ToolResultMessage(content=to_parts("tool", results)))

    def add_entry(self, role: str, content: Any) -> AnyChatMessage:
        """Add a message of any role.

        :param role: ``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``.
        :param content: a part or several, as the method for this role takes them.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if there is no such role, or its messages cannot have this content.
        :raises LMStudioRuntimeError: if a message of this role cannot follow the last message.
        """
        return self._add(make_message(role, to_parts(role, content)))

    def append(self, message: AnyChatMessage | Mapping[str, Any] | HasContent) -> AnyChatMessage:
        """Add a message. Can be passed as a callback such as ``on_message``.

        :param message: a message as an object or a dict, or an answer such as a `PredictionResult`.
        :return: the message, as it is in the chat.
        :raises LMStudioValueError: if it is not a message.
        :raises LMStudioRuntimeError: if it cannot follow the last message.
        """
        if isinstance(message, AnyChatMessage) or not isinstance(message, HasContent):
            return self._add(to_message(message))
        return self.add_assistant_response(message)

    def _add(self, message: MessageT) -> MessageT:
        last = self._messages[-1] if self._messages else None
        if not message.content:
            raise LMStudioValueError(f"a message of the role {message.role!r} cannot be empty")
        if isinstance(message, UserMessage) and isinstance(last, UserMessage):
            extra = {**last.extra, **message.extra}
            message = attrs.evolve(message, content=[*last.content, *message.content], extra=extra)
            self._messages[-1] = message
            return message
        if isinstance(message, (SystemPrompt, AssistantResponse)) and type(message) is type(last):
            kind = "a system prompt" if isinstance(message, SystemPrompt) else "an assistant response"
            raise LMStudioRuntimeError(f"{kind} cannot follow another one: add a message in between")
        self._messages.append(message)
        return message


ChatInput: TypeAlias = str | Chat | Mapping[str, Any] | Sequence[AnyChatMessage | Mapping[str, Any]]
"""A text (one message of the user), a `Chat`, a list of messages, or ``{"messages": [...]}``."""


def chat_to_wire(chat: ChatInput) -> dict[str, Any]:
    """Make the wire's chat history out of a text, a chat or messages.

    :raises LMStudioValueError: if it is empty or none of these; the error names the wrong message.
    :raises LMStudioRuntimeError: if two system prompts, or two assistant responses, follow each other.
    """
    if not isinstance(chat, Chat):
        chat = Chat.from_history(chat)
    if not len(chat):
        raise LMStudioValueError("a chat needs at least one message")
    return {"messages": [write(message) for message in chat]}


def _excerpt(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _messages_in(history: Any) -> Iterable[Any]:
    if isinstance(history, Mapping):
        if "messages" not in history:
            raise LMStudioValueError("a chat given as a dict has a list of 'messages'")
        history = history["messages"]
    if not isinstance(history, Iterable) or isinstance(history, (str, bytes, Mapping)):
        raise LMStudioValueError(
            "a chat is a text, a Chat, a list of messages such as {'role': 'user', 'content': 'Hello'}, or a dict "
            f"with a list of 'messages', not {type(history).__name__}"
        )
    return history
