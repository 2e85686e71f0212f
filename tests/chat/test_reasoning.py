"""Answers of reasoning models, and LM Studio's marker at the end of reasoning that has no tag of the model's own."""

from __future__ import annotations

from typing import Any

import pytest

from lmstudio_async import AsyncLLM, Chat, LMStudioPredictionError, PredictionResult
from tests.chat.scripted_predictions import Asked, Both, ask, say_and_end
from tests.chat.shapes import Person

MARKER = "__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_f4e9a8d2c6b14d0c9e5f3a7b8c1d2e6a__"


async def reason(asked: Asked, thought: str = "Hm. ") -> None:
    """Send reasoning of a model whose chat template begins it, so that only LM Studio's own marker ends it."""
    await asked.say(thought, reasoningType="reasoning")
    await asked.say(MARKER, reasoningType="reasoningEndTag", isStructural=True)


@pytest.mark.parametrize("way", ["append", "add_assistant_response", "on_message"])
async def test_the_marker_at_the_end_of_reasoning_is_removed_from_the_text(both: Both, way: str) -> None:
    chat = Chat.from_history("Hi")
    fragments: list[str] = []
    contents: list[str] = []

    async def respond(llm: AsyncLLM) -> PredictionResult:
        stream = llm.respond_stream(
            "Hi",
            on_prediction_fragment=lambda fragment: fragments.append(fragment.content),
            on_message=chat.append if way == "on_message" else None,
        )
        async for fragment in stream:
            fragments.append(fragment.content)
            contents.append(stream.content)
        return await stream.wait_for_result()

    async def play(asked: Asked) -> None:
        await reason(asked)
        await say_and_end(asked, "Hello", f"!{MARKER}")

    result = (await ask(both, respond, play)).result

    assert result is not None
    assert str(result) == result.non_reasoning_content == "Hello!"
    assert result.reasoning_content == "Hm. "
    assert result.content == result.parsed == "Hm. Hello!"
    assert contents[-1] == result.content
    assert "".join(fragments[::2]) == "".join(fragments[1::2]) == result.content
    if way != "on_message":
        getattr(chat, way)(result)
    # Without a tag around it, the reasoning could not be told from the answer.
    assert [message.text for message in chat] == ["Hi", "Hello!"]


async def test_the_marker_is_removed_from_the_content_of_an_error(both: Both) -> None:
    async def respond(llm: AsyncLLM) -> Any:
        with pytest.raises(LMStudioPredictionError) as caught:
            await llm.respond("Hi")
        assert caught.value.content == "Hm. Hel"

    async def play(asked: Asked) -> None:
        await reason(asked)
        await asked.say("Hel")
        await asked.server.packet(asked.message, type="toolCallGenerationFailed", error={"title": "no JSON"})
        await asked.end()

    await ask(both, respond, play)


async def test_reasoning_is_kept_in_the_chat_if_there_is_no_answer(both: Both) -> None:
    chat = Chat.from_history("Hi")

    async def play(asked: Asked) -> None:
        await reason(asked)
        await asked.end()

    await ask(both, lambda llm: llm.respond("Hi", on_message=chat.append), play)

    assert chat[1].text == "Hm. "


async def test_json_is_parsed_if_the_server_labels_it_as_reasoning(both: Both) -> None:
    async def play(asked: Asked) -> None:
        await reason(asked, '{"name": "Ada"}')
        await asked.end()

    result = (await ask(both, lambda llm: llm.respond("Who?", response_format=Person), play)).result

    assert result is not None
    assert result.parsed == Person(name="Ada")
