"""`Chat` and its messages."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lmstudio_async import (
    AssistantResponse,
    Chat,
    FileHandle,
    LMStudioError,
    LMStudioRuntimeError,
    LMStudioValueError,
    SystemPrompt,
    TextData,
    ToolCallRequest,
    ToolCallResultData,
    ToolResultMessage,
    UserMessage,
)
from lmstudio_async._chat import chat_to_wire

CAT = FileHandle(name="cat.png", identifier="1790 - 1.png", size_bytes=8123, file_type="image")
ADD = ToolCallRequest(id="tc1", name="add", arguments={"a": 1, "b": 2})


def full_chat() -> Chat:
    chat = Chat("Be brief.")
    chat.add_user_message("What is this?", images=[CAT])
    chat.add_assistant_response("Let me see.", [ADD])
    chat.add_tool_result({"content": "3", "tool_call_id": "tc1"})
    chat.add_assistant_response("Three.")
    return chat


# -- adding


def test_a_chat_grows_message_by_message() -> None:
    chat = full_chat()

    assert len(chat) == 5
    assert [message.role for message in chat] == ["system", "user", "assistant", "tool", "assistant"]
    assert [message.text for message in chat] == ["Be brief.", "What is this?", "Let me see.", "3", "Three."]
    assert isinstance(chat[0], SystemPrompt)
    assert isinstance(chat[3], ToolResultMessage)
    assert [message.text for message in chat[-2:]] == ["3", "Three."]


def test_a_chat_becomes_the_wire_form_of_the_protocol() -> None:
    assert chat_to_wire(full_chat()) == {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "file",
                        "name": "cat.png",
                        "identifier": "1790 - 1.png",
                        "sizeBytes": 8123,
                        "fileType": "image",
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {
                        "type": "toolCallRequest",
                        "toolCallRequest": {
                            "id": "tc1",
                            "type": "function",
                            "name": "add",
                            "arguments": {"a": 1, "b": 2},
                        },
                    },
                ],
            },
            {"role": "tool", "content": [{"type": "toolCallResult", "content": "3", "toolCallId": "tc1"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Three."}]},
        ]
    }


def test_successive_user_messages_are_joined_into_one() -> None:
    chat = Chat()
    chat.add_user_message("Hello")
    message = chat.add_user_message(["What is this?", CAT])

    assert len(chat) == 1
    assert message is chat[0]
    assert message.content == [TextData(text="Hello"), TextData(text="What is this?"), CAT]


def test_add_methods_return_the_added_message() -> None:
    chat = Chat()

    assert chat.add_system_prompt("Be brief.") is chat[0]
    assert chat.add_user_message(TextData(text="Hello")) is chat[1]
    assert chat.add_assistant_response({"type": "text", "text": "Hi"}) is chat[2]
    assert chat.add_tool_results([ToolCallResultData(content="1"), {"content": "2"}]) is chat[3]
    assert chat.add_tool_result({"content": "3"}) is chat[4]
    assert chat.add_entry("user", ["Thanks", CAT]) is chat[5]
    assert chat.append({"role": "assistant", "content": "Bye"}) is chat[6]


def test_an_answer_can_be_tool_calls_alone() -> None:
    chat = Chat.from_history("Add 1 and 2")
    message = chat.add_assistant_response(tool_call_requests=[ADD])

    assert [part.TAG for part in message.content] == ["toolCallRequest"]
    assert message.text == ""


@pytest.mark.parametrize(
    "request_",
    [
        ADD,
        {"id": "tc1", "name": "add", "arguments": {"a": 1, "b": 2}},
        {
            "type": "toolCallRequest",
            "toolCallRequest": {"id": "tc1", "name": "add", "arguments": {"a": 1, "b": 2}},
        },
        {"toolCallRequest": {"id": "tc1", "name": "add", "arguments": {"a": 1, "b": 2}}},
        {"tool_call_request": ADD},
    ],
)
def test_a_tool_call_may_be_written_in_any_form(request_: Any) -> None:
    chat = Chat.from_history("Add 1 and 2")
    chat.add_assistant_response("", [request_])

    assert chat[1].content[-1].tool_call_request == ADD  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "add",
    [
        lambda chat: chat.add_user_message(["Hello", 42]),
        lambda chat: chat.add_user_message("Look", images=["cat.png"]),
        lambda chat: chat.add_user_message("Look", images=[CAT, 42]),
        lambda chat: chat.add_user_message([]),
        lambda chat: chat.add_user_message(b"bytes"),
        lambda chat: chat.add_user_message({"type": "txt", "text": "Hello"}),
        lambda chat: chat.add_user_message({"type": "text", "text": 42}),
        lambda chat: chat.add_user_message({"type": "text", "text": "Hello", "txet": 1}),
        lambda chat: chat.add_assistant_response(),
        lambda chat: chat.add_assistant_response("Hi", [{"arguments": {}}]),
        lambda chat: chat.add_assistant_response("Hi", ["add"]),
        lambda chat: chat.add_tool_results([]),
        lambda chat: chat.add_tool_results([{"content": "1"}, {"conten": "2"}]),
        lambda chat: chat.add_tool_result("3"),
        lambda chat: chat.add_entry("developer", "Hello"),
        lambda chat: chat.add_entry("tool", "Hello"),
        lambda chat: chat.add_entry("user", ADD),
        lambda chat: chat.append({"role": "user"}),
        lambda chat: chat.append({"role": "user", "content": "Hello", "name": "me"}),
        lambda chat: chat.append("Hello"),
        lambda chat: chat.append(None),
    ],
)
def test_an_add_that_fails_changes_nothing(add: Any) -> None:
    chat = full_chat()
    chat.add_user_message("Thanks")
    before = chat.copy()

    with pytest.raises(LMStudioError):
        add(chat)

    assert chat == before


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_two_system_prompts_or_two_answers_in_a_row_are_refused(role: str) -> None:
    chat = Chat()
    chat.add_entry(role, "One")

    with pytest.raises(LMStudioRuntimeError, match="cannot follow another one"):
        chat.add_entry(role, "Two")
    assert len(chat) == 1


def test_an_empty_answer_is_added_to_a_chat() -> None:
    chat = Chat.from_history("Hello")
    chat.add_assistant_response("")

    assert chat[1] == AssistantResponse(content=[TextData(text="")])


def test_error_for_two_answers_in_a_row_tells_how_to_fix_it() -> None:
    chat = Chat.from_history("Hello")
    chat.add_assistant_response("One")

    with pytest.raises(LMStudioRuntimeError, match="an assistant response cannot follow another one: add a"):
        chat.add_assistant_response("Two")


# -- LM Studio's marker at the end of reasoning

MARKER = "__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_f4e9a8d2c6b14d0c9e5f3a7b8c1d2e6a__"


@pytest.mark.parametrize(
    "add",
    [
        lambda chat, text: chat.add_assistant_response(text),
        lambda chat, text: chat.add_entry("assistant", [text]),
        lambda chat, text: chat.append({"role": "assistant", "content": text}),
        lambda chat, text: chat.append(AssistantResponse(content=[TextData(text=text)])),
    ],
)
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"The user greets me.\n{MARKER}\n\nHello!", "\n\nHello!"),
        (f"One.{MARKER}Two.{MARKER}Hello!", "Hello!"),
        # The server may label a whole answer as reasoning if a grammar constrains it.
        (f"Hello!{MARKER}\n", "Hello!\n"),
        ("<think>Hm</think>Hello!", "<think>Hm</think>Hello!"),
    ],
)
def test_reasoning_before_the_marker_is_not_kept(add: Any, text: str, kept: str) -> None:
    chat = Chat.from_history("Hello")
    add(chat, text)

    assert chat[1].text == kept
    assert Chat.from_history([{"role": "assistant", "content": text}])[0].text == kept


def test_the_user_may_ask_about_the_marker() -> None:
    question = f"Why does your answer say {MARKER}?"

    assert Chat.from_history(question)[0].text == question


# -- from histories


@pytest.mark.parametrize(
    "history",
    [
        "Hello",
        [{"role": "user", "content": "Hello"}],
        [("user", "Hello")],
        [UserMessage(content=[TextData(text="Hello")])],
        ({"role": "user", "content": ["Hello"]},),
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
        Chat.from_history("Hello"),
    ],
)
def test_a_chat_is_made_of_any_history(history: Any) -> None:
    chat = Chat.from_history(history)

    assert list(chat) == [UserMessage(content=[TextData(text="Hello")])]
    assert chat_to_wire(history) == chat_to_wire(chat)


def test_a_chat_read_from_its_wire_form_is_equal() -> None:
    assert Chat.from_history(chat_to_wire(full_chat())) == full_chat()


def test_a_tool_message_may_have_the_form_of_other_apis() -> None:
    chat = Chat.from_history([{"role": "tool", "content": "3", "tool_call_id": "tc1", "name": "add"}])

    assert chat[0].content == [ToolCallResultData(content="3", tool_call_id="tc1", name="add")]


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ({"message": []}, "'messages'"),
        (42, "not int"),
        (b"Hello", "not bytes"),
        ([{"role": "user", "content": "Hello"}, "Bye"], "message 1 of the chat"),
        ([{"role": "robot", "content": "Hello"}], "there are system, user, assistant, tool"),
    ],
)
def test_error_for_an_invalid_history_names_the_reason(history: Any, reason: str) -> None:
    with pytest.raises(LMStudioValueError, match=reason):
        Chat.from_history(history)


def test_an_empty_chat_cannot_be_sent() -> None:
    with pytest.raises(LMStudioValueError, match="at least one message"):
        chat_to_wire([])
    with pytest.raises(LMStudioValueError, match="at least one message"):
        chat_to_wire(Chat())


# -- as a value


@pytest.mark.parametrize("copied", [Chat.copy, copy.copy, copy.deepcopy])
def test_a_copy_is_equal_and_independent(copied: Any) -> None:
    chat = full_chat()
    other = copied(chat)

    assert other == chat
    other.add_user_message("Bye")
    assert other != chat
    assert len(chat) == 5


def test_a_chat_copies_the_messages_that_are_added() -> None:
    arguments = {"a": [1]}
    message = AssistantResponse(content=[TextData(text="Hi")])
    chat = Chat.from_history("Hello")
    chat.append(message)
    chat.add_tool_result({"content": "3"})
    chat.add_assistant_response("x", [{"name": "add", "arguments": arguments}])

    message.content.clear()
    arguments["a"].append(2)

    assert chat[1].text == "Hi"
    assert chat[3].content[1].tool_call_request.arguments == {"a": [1]}  # type: ignore[union-attr]


def test_a_chat_is_unhashable_and_not_equal_to_a_list() -> None:
    with pytest.raises(TypeError):
        hash(Chat())
    assert Chat() != []


def test_str_of_a_chat_shows_each_message_shortened() -> None:
    chat = full_chat()
    chat.add_user_message("very " * 100)

    assert str(chat).splitlines()[:6] == [
        "Chat(",
        "  system: 'Be brief.'",
        "  user: 'What is this?' [image cat.png]",
        "  assistant: 'Let me see.' -> add(a=1, b=2)",
        "  tool: <- 3",
        "  assistant: 'Three.'",
    ]
    assert len(str(chat)) < 300
