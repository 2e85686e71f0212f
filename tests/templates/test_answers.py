"""Answers in the format of each family: the server separates reasoning, text and tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import lmstudio_sync as lms
from tests.templates.conftest import Speaker
from tests.templates.families import FAMILIES
from tests.templates.faults import case
from tests.templates.reference import rendered
from tests.templates.scripts import PLAIN, THOUGHT, TOOLS, calls_of


def answers(*, tools: bool) -> Iterator[Any]:
    # Without tools the server does not search an answer for calls, so two cases stand for all.
    scripts = PLAIN if tools else ("words", "dict")
    for name in FAMILIES:
        for script in scripts:
            yield case(name, script + "+tools" if tools else script, script)


def calls() -> Iterator[Any]:
    for name, family in FAMILIES.items():
        for script in calls_of(family):
            yield case(name, script, script)


def thinking() -> Iterator[Any]:
    return (case(name, "next") for name, family in FAMILIES.items() if family.thought is not None)


@pytest.mark.parametrize(("speaker", "script"), [*answers(tools=False)], indirect=["speaker"])
def test_reasoning_is_separated_from_the_answer(speaker: Speaker, script: str) -> None:
    result = speaker.ask(script)
    assert (result.reasoning_content.strip(), str(result).strip()) == (speaker.thought, PLAIN[script])


@pytest.mark.parametrize(("speaker", "script"), [*answers(tools=True)], indirect=["speaker"])
def test_answer_without_calls_stays_whole_where_tools_are_offered(speaker: Speaker, script: str) -> None:
    result = speaker.ask(script, TOOLS)
    assert (result.reasoning_content.strip(), str(result).strip()) == (speaker.thought, PLAIN[script])
    assert result.tool_call_requests == ()


@pytest.mark.parametrize(("speaker", "script"), [*calls()], indirect=["speaker"])
def test_tool_calls_are_parsed(speaker: Speaker, script: str) -> None:
    result = speaker.ask(script, TOOLS)
    found = [(request.name, request.arguments) for request in result.tool_call_requests]
    assert found == calls_of(speaker.family)[script]
    assert (result.reasoning_content.strip(), str(result).strip()) == (speaker.thought, "")


@pytest.mark.parametrize("speaker", [*thinking()], indirect=True)
def test_reasoning_of_an_old_answer_reaches_the_template_as_reasoning(speaker: Speaker) -> None:
    chat = lms.Chat()
    question = speaker.question("words")
    chat.add_user_message(question)
    chat.append(speaker.llm.respond(chat))
    chat.add_user_message("More")
    answer: Any = PLAIN["words"]
    if speaker.family.thought_is_block:
        answer = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": answer}]
    prompt = rendered(
        speaker.template,
        [
            {"role": "user", "content": question},
            # gpt-oss has another name for the reasoning.
            {"role": "assistant", "content": answer, "reasoning_content": THOUGHT, "thinking": THOUGHT},
            {"role": "user", "content": "More"},
        ],
    )
    # White space between reasoning and answer may belong to either.
    assert "".join(speaker.llm.apply_prompt_template(chat).split()) == "".join(prompt.split())
