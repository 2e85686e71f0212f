"""The prompt of each chat template equals the prompt that transformers makes, character for character."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
import pytest

import lmstudio_sync as lms
from tests.templates.conftest import Speaker
from tests.templates.families import FAMILIES
from tests.templates.faults import case
from tests.templates.reference import rendered
from tests.templates.scripts import CALLS, TOOLS

TemplateMessage = dict[str, Any]

SYSTEM: TemplateMessage = {"role": "system", "content": "Be kind."}
GO: TemplateMessage = {"role": "user", "content": "Go"}
YES: TemplateMessage = {"role": "assistant", "content": "Yes"}
MORE: TemplateMessage = {"role": "user", "content": "More"}


def with_results(*results: str) -> list[TemplateMessage]:
    """Return a chat with tool calls and their results."""
    calls, answers = list[TemplateMessage](), list[TemplateMessage]()
    for number, (result, (name, arguments)) in enumerate(zip(results, CALLS, strict=False)):
        # Mistral requires nine letters or digits, Kimi the name and the number.
        identifier = f"call{number:05}"
        function = {"name": name, "arguments": arguments}
        calls.append({"id": identifier, "type": "function", "function": function})
        answers.append({"role": "tool", "tool_call_id": identifier, "name": name, "content": result})
    return [GO, {"role": "assistant", "content": "", "tool_calls": calls}, *answers]


#: Name -> a chat, and whether tools are offered.
CHATS: Mapping[str, tuple[list[TemplateMessage], bool]] = {
    "plain": ([GO], False),
    "system": ([SYSTEM, GO], False),
    "turns": ([GO, YES, MORE], False),
    "tools": ([GO], True),
    "call": (with_results("sunny"), True),
    "calls": (with_results("sunny", "12:00"), True),
}
WITHOUT_TOOLS = ("plain", "system", "turns")

#: Templates that require the arguments of tool calls as a text.
TEXT_ARGUMENTS = {"meetkai-functionary-medium-v3.2"}

_NO_TOOLS = (
    "The template iterates over missing tools, which is an error in jinja2 and an empty loop in the engine."
)
#: Template -> chats whose prompt differs, and the reason why that is correct.
EXPLAINED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "CohereForAI-c4ai-command-r-plus-tool_use": (WITHOUT_TOOLS, _NO_TOOLS),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": (WITHOUT_TOOLS, _NO_TOOLS),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": (WITHOUT_TOOLS, _NO_TOOLS),
    "fireworks-ai-llama-3-firefunction-v2": (WITHOUT_TOOLS, _NO_TOOLS),
    "Apertus-8B-Instruct": (
        tuple(CHATS),
        "The template has a switch for reasoning that the engine does not know, so the switch stays off.",
    ),
    "google-gemma-4-31B-it-interleaved": (
        ("call", "calls"),
        "The engine passes tool results in the form of the family, as the template of its sibling does.",
    ),
    "meetkai-functionary-medium-v3.1": (
        ("tools", "call", "calls"),
        "The template marks a text as safe, after which jinja2 escapes quotes as in HTML.",
    ),
    "Kimi-K2-Instruct": (("call", "calls"), "The template appends to a list, which the sandbox forbids."),
    "Kimi-K2-Thinking": (("call", "calls"), "The template appends to a list, which the sandbox forbids."),
    "google-gemma-2-2b-it": (
        ("system",),
        "The template refuses a system message, so the server puts it before the user message.",
    ),
    "llama-cpp-deepseek-r1": (
        ("tools", "call", "calls"),
        "The template writes a generator as JSON, which is an error in jinja2; the template is the engine's own.",
    ),
}


def chats() -> Iterator[Any]:
    for name, family in FAMILIES.items():
        for chat, (_, has_tools) in CHATS.items():
            # For the other templates the server describes the tools itself.
            if family.calls is not None or not has_tools:
                yield case(name, f"prompt-of-{chat}", chat)


def chat_of(messages: list[TemplateMessage]) -> lms.Chat:
    chat = lms.Chat()
    for message in messages:
        match message:
            case {"role": "assistant", "tool_calls": calls}:
                requests = [{"type": "function", "id": call["id"], **call["function"]} for call in calls]
                chat.add_assistant_response(None, requests)
            case {"role": "tool"}:
                chat.add_tool_result({name: message[name] for name in ("tool_call_id", "name", "content")})
            case _:
                chat.add_entry(message["role"], message["content"])
    return chat


def ours(llm: lms.LLM, messages: list[TemplateMessage], tools: list[TemplateMessage]) -> str:
    try:
        return llm.apply_prompt_template(chat_of(messages), {"tool_definitions": tools})
    except lms.LMStudioServerError as error:
        return str(error).rpartition("The model's chat template refuses this chat: ")[2]


def theirs(
    template: str, messages: list[TemplateMessage], tools: list[TemplateMessage], *, text_arguments: bool
) -> str:
    if text_arguments:
        messages = json.loads(json.dumps(messages), object_hook=_arguments_as_text)
    try:
        return rendered(template, messages, tools or None)
    except (jinja2.TemplateError, TypeError) as error:
        return str(error)


def _arguments_as_text(value: TemplateMessage) -> TemplateMessage:
    return {**value, "arguments": json.dumps(value["arguments"])} if "arguments" in value else value


@pytest.mark.parametrize(("speaker", "chat"), [*chats()], indirect=["speaker"])
def test_prompt_equals_the_one_of_transformers(speaker: Speaker, chat: str) -> None:
    messages, has_tools = CHATS[chat]
    tools = TOOLS if has_tools else []
    text_arguments = speaker.name in TEXT_ARGUMENTS
    differing, _ = EXPLAINED.get(speaker.name, ((), ""))
    # Many prompts contain the date, which may change in between.
    before = theirs(speaker.template, messages, tools, text_arguments=text_arguments)
    prompt = ours(speaker.llm, messages, tools)
    after = theirs(speaker.template, messages, tools, text_arguments=text_arguments)
    if chat in differing:
        assert prompt not in (before, after), "the prompts are equal now: remove the chat from EXPLAINED"
    else:
        assert prompt in (before, after)
