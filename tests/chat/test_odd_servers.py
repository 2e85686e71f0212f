"""Predictions with scripted servers: the exact requests, unusual answers, and servers of older versions."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AssistantResponse,
    AsyncLLM,
    Chat,
    LMStudioPredictionError,
    LMStudioProtocolError,
    LMStudioStructuredOutputError,
    LMStudioValueError,
    PredictionResult,
)
from tests.chat.scripted_predictions import Asked, Both, ask, hello, say_and_end
from tests.chat.shapes import Person
from tests.scripted_server import INSTANCE, ScriptedServer, loaded_llm

# -- requests


async def test_settings_are_sent_in_the_wire_form_of_the_protocol(both: Both) -> None:
    asked = await ask(
        both,
        lambda llm: llm.respond(
            "Hi",
            preset="mine",
            response_format=Person,
            config={
                "draft_model": "small",
                "speculative_decoding_num_draft_tokens_exact": 4,
                "speculativeDecodingMinDraftLengthToConsider": 1,
                "speculative_decoding_min_continue_drafting_probability": 0.5,
            },
        ),
        lambda asked: say_and_end(asked, '{"name": "Ada"}'),
    )

    parameter = asked.message["creationParameter"]
    assert parameter["fuzzyPresetIdentifier"] == "mine"
    assert parameter["modelSpecifier"] == {"type": "instanceReference", "instanceReference": "r1"}
    assert asked.fields == {
        "llm.prediction.structured": {"type": "json", "jsonSchema": Person.model_json_schema()},
        "llm.prediction.speculativeDecoding.draftModel": "small",
        "llm.prediction.speculativeDecoding.numDraftTokensExact": 4,
        "llm.prediction.speculativeDecoding.minDraftLengthToConsider": 1,
        "llm.prediction.speculativeDecoding.minContinueDraftingProbability": 0.5,
    }
    assert asked.result is not None
    assert asked.result.parsed == Person(name="Ada")


NAMED: Any = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("response_format", "setting"),
    [
        (
            {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": NAMED}},
            {"type": "json", "jsonSchema": NAMED},
        ),
        ({"type": "json_schema", "name": "person", "schema": NAMED}, {"type": "json", "jsonSchema": NAMED}),
        ({"type": "json_object"}, {"type": "json"}),
    ],
)
async def test_response_formats_of_openai_are_converted(
    both: Both, response_format: Any, setting: Any
) -> None:
    asked = await ask(
        both,
        lambda llm: llm.respond("Hi", response_format=response_format),
        lambda asked: say_and_end(asked, '{"name": "Ada"}'),
    )

    assert asked.fields == {"llm.prediction.structured": setting}
    assert asked.result is not None
    assert asked.result.parsed == {"name": "Ada"}


async def test_response_format_text_of_openai_sets_no_structure(both: Both) -> None:
    text: Any = {"type": "text"}
    asked = await ask(both, lambda llm: llm.respond("Hi", response_format=text), hello)

    assert asked.fields == {"llm.prediction.structured": {"type": "none"}}
    assert asked.result is not None
    assert asked.result.parsed == "Hello"


@pytest.mark.parametrize("described", [{}, {"json_schema": None}, {"json_schema": {"schema": "object"}}])
async def test_error_for_an_openai_response_format_without_schema_shows_the_form(
    both: Both, described: Any
) -> None:
    llm = await loaded_llm(*both)

    with pytest.raises(LMStudioValueError, match="needs the schema as {'type': 'json_schema'"):
        llm.respond_stream("Hi", response_format={"type": "json_schema", **described})


async def test_a_template_and_its_options_are_sent(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    template: Any = {"type": "jinja", "stop_strings": [], "jinja_prompt_template": {"template": "only this"}}
    prompts: list[str] = []

    async def make() -> None:
        prompts.append(
            await llm.apply_prompt_template(
                "Hi", {"omit_bos_token": True}, config={"prompt_template": template}
            )
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make)
        call = await server.next_message()
        await server.answer(call, {"formatted": "only this"})

    assert prompts == ["only this"]
    assert call["parameter"]["opts"] == {"omitBosToken": True}
    (layer,) = call["parameter"]["predictionConfigStack"]["layers"]
    assert layer["config"]["fields"][0]["key"] == "llm.prediction.promptTemplate"


# -- answers


async def test_prompt_progress_goes_from_0_to_1_without_going_back(both: Both) -> None:
    received: list[float] = []

    async def play(asked: Asked) -> None:
        for progress in (0.25, 0.75, 0.5, 0.75):
            await asked.server.packet(asked.message, type="promptProcessingProgress", progress=progress)
        await hello(asked)

    await ask(both, lambda llm: llm.respond("Hi", on_prompt_processing_progress=received.append), play)

    assert received == [0.0, 0.25, 0.75, 1.0]


async def test_unknown_packets_and_fields_are_ignored_or_kept_as_extra(both: Both) -> None:
    async def play(asked: Asked) -> None:
        await asked.server.packet(asked.message, type="news", of="the future")
        await asked.server.say(type="newsOfTheFuture")
        await asked.say("Hi", reasoningType="daydream", tokensCount="many", sparkle=True)
        await asked.end(
            stats={"stopReason": "bored", "mood": "fine"},
            modelInfo=INSTANCE | {"format": "pte", "type": "drafter"},
            loadModelConfig={"fields": [{"key": "load.gpuSplitConfig", "value": {"strategy": "tensor"}}]},
            predictionConfig={"fields": [{"key": "llm.prediction.magic", "value": 7}]},
        )

    result = (await ask(both, lambda llm: llm.respond("Hi"), play)).result

    assert result is not None
    assert result.content == "Hi"
    assert result.stats.stop_reason == "bored"
    assert result.stats.extra == {"mood": "fine"}
    assert result.model_info.format == "pte"
    assert result.model_info.identifier == "qwen3-4b"
    assert result.prediction_config.extra == {"llm.prediction.magic": 7}


async def test_several_tool_call_requests_keep_their_order(both: Both) -> None:
    messages: list[AssistantResponse] = []

    async def play(asked: Asked) -> None:
        await asked.say("Let me see.")
        for number in (1, 2):
            await asked.server.packet(asked.message, type="toolCallGenerationStart")
            request = {"id": f"t{number}", "type": "function", "name": "add", "arguments": {"a": number}}
            await asked.server.packet(asked.message, type="toolCallGenerationEnd", toolCallRequest=request)
        await asked.end(stats={"stopReason": "toolCalls"})

    asked = await ask(both, lambda llm: llm.respond("Hi", on_message=messages.append), play)

    assert asked.result is not None
    assert [request.id for request in asked.result.tool_call_requests] == ["t1", "t2"]
    (message,) = messages
    chat = Chat.from_history("Hi")
    chat.append(message)
    assert chat[1] == Chat.from_history([{"role": "assistant", "content": message.content}])[0]
    assert [part.TAG for part in message.content] == ["text", "toolCallRequest", "toolCallRequest"]


async def test_tool_call_generation_failure_raises_a_prediction_error(both: Both) -> None:
    async def play(asked: Asked) -> None:
        await asked.server.packet(asked.message, type="toolCallGenerationFailed", error={"title": "no JSON"})
        await asked.end()

    with pytest.raises(ExceptionGroup) as caught:
        await ask(both, lambda llm: llm.respond("Hi"), play)
    assert caught.group_contains(LMStudioPredictionError, match="no JSON")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ada", "is not JSON"),
        ('{"age": 3}', r"does not fit Person: \$: 'name' is missing"),
        ('{"name": "Ada", "age": "3"}', r"\$\.age: expected a whole number"),
        ("[1]", "expected an object"),
        ("[" * 100_000, "is not JSON"),
    ],
)
async def test_structured_output_error_holds_an_answer_that_does_not_fit(
    both: Both, text: str, reason: str
) -> None:
    errors: list[LMStudioStructuredOutputError] = []

    async def respond(llm: AsyncLLM) -> Any:
        stream = llm.respond_stream("Who?", response_format=Person)
        assert "".join([fragment.content async for fragment in stream]) == text
        for _ in range(2):
            with pytest.raises(LMStudioStructuredOutputError, match=reason) as caught:
                await stream.wait_for_result()
            errors.append(caught.value)

    await ask(both, respond, lambda asked: say_and_end(asked, text))

    assert [error.content for error in errors] == [text, text]
    assert len(str(errors[0])) < 500


async def test_json_is_parsed_after_reasoning(both: Both) -> None:
    async def play(asked: Asked) -> None:
        await asked.say("<think>", reasoningType="reasoningStartTag", isStructural=True)
        await asked.say("A name.", reasoningType="reasoning")
        await asked.say("</think>", reasoningType="reasoningEndTag", isStructural=True)
        await say_and_end(asked, '\n{"name": "Ada"}')

    result = (await ask(both, lambda llm: llm.respond("Who?", response_format=Person), play)).result

    assert result is not None
    assert result.parsed == Person(name="Ada")
    assert result.content == '<think>A name.</think>\n{"name": "Ada"}'
    assert result.reasoning_content == "A name."


# -- completion with a server of an older version


async def refuse(server: ScriptedServer, message: dict[str, Any]) -> None:
    await server.say(
        type="communicationWarning",
        warning=f"Received channelCreate for unknown endpoint, endpoint = {message['endpoint']}",
    )


@pytest.mark.parametrize("way", ["wait", "iterate", "enter first"])
async def test_complete_on_an_older_server_predicts_with_a_bare_template(both: Both, way: str) -> None:
    messages: list[AssistantResponse] = []

    async def complete(llm: AsyncLLM) -> PredictionResult:
        stream = llm.complete_stream("Once", config={"temperature": 0.5}, on_message=messages.append)
        if way == "iterate":
            assert "".join([fragment.content async for fragment in stream]) == "Hello"
        if way == "enter first":
            async with stream:
                return await stream.wait_for_result()
        return await stream.wait_for_result()

    async def play(asked: Asked) -> None:
        assert asked.message["endpoint"] == "completeRawText"
        assert asked.message["creationParameter"]["rawPrompt"] == "Once"
        await refuse(asked.server, asked.message)
        asked.message = await asked.server.next_message()
        await hello(asked)

    asked = await ask(both, complete, play)

    assert asked.message["endpoint"] == "predict"
    parameter = asked.message["creationParameter"]
    assert parameter["history"] == {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Once"}]}]
    }
    first, second = parameter["predictionConfigStack"]["layers"]
    assert first["layerName"] == "apiOverride"
    assert second["layerName"] == "completeModeFormatting"
    assert asked.fields["llm.prediction.temperature"] == 0.5
    assert "message['content']" in str(asked.fields["llm.prediction.promptTemplate"])
    assert asked.result is not None
    assert asked.result.content == "Hello"
    assert [message.text for message in messages] == ["Hello"]


async def test_complete_tries_the_raw_text_endpoint_only_once(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    endpoints: list[str] = []

    async def play() -> None:
        first = await server.next_message()
        await refuse(server, first)
        endpoints.append(first["endpoint"])
        for _ in range(2):
            asked = Asked(server)
            asked.message = await server.next_message()
            endpoints.append(asked.message["endpoint"])
            await hello(asked)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            assert (await llm.complete("Once")).content == "Hello"
            assert (await llm.complete("Once")).content == "Hello"

    assert endpoints == ["completeRawText", "predict", "predict"]


async def test_complete_raises_if_the_server_knows_neither_endpoint(both: Both) -> None:
    async def complete(llm: AsyncLLM) -> Any:
        with pytest.raises(LMStudioProtocolError, match="unknown endpoint"):
            await llm.complete("Once")

    async def play(asked: Asked) -> None:
        await refuse(asked.server, asked.message)
        await refuse(asked.server, await asked.server.next_message())

    await ask(both, complete, play)


# -- callbacks that wait


async def test_a_callback_that_is_cancelled_cancels_the_answer(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:

        async def respond() -> None:
            with anyio.CancelScope() as scope:

                async def on_first_token() -> None:
                    scope.cancel()
                    await anyio.sleep_forever()

                await llm.respond("Hi", on_first_token=on_first_token)
            assert scope.cancelled_caught

        tasks.start_soon(respond)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hi"})
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.packet(channel, type="success", stats={"stopReason": "userStopped"})
