"""Answers of real models: their content, the callbacks, and the response formats."""

from __future__ import annotations

import json
import math
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AssistantResponse,
    AsyncClient,
    Chat,
    GbnfGrammar,
    LlmPredictionFragment,
    LMStudioInstanceUnloadedError,
    LMStudioPresetNotFoundError,
    LMStudioStructuredOutputError,
    LMStudioUnsupportedFeatureError,
    LMStudioValueError,
    TextData,
    ToolCallRequest,
)
from tests.chat.conftest import EMMA
from tests.chat.shapes import Author, Book, Documented, Person

HELLO = "Hello there, my friend"
TOOLS: Any = {
    "type": "toolArray",
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Add two numbers",
                "parameters": {
                    "type": "object",
                    "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                    "required": ["a", "b"],
                },
            },
        }
    ],
}


async def test_result_holds_content_stats_model_info_and_configs(lone_client: AsyncClient) -> None:
    llm = await lone_client.llm.model("hello", config={"context_length": 512})
    result = await llm.respond("Hi", config={"max_tokens": 50, "temperature": 0.5})

    assert result.content == result.non_reasoning_content == result.parsed == str(result) == HELLO
    assert not result.structured
    assert result.reasoning_content == ""
    assert result.stats.stop_reason == "eosFound"
    assert result.stats.predicted_tokens_count
    assert result.model_info.identifier == llm.identifier
    assert result.model_info.context_length == 512
    assert result.load_config.context_length == 512
    assert result.prediction_config.max_tokens == 50
    assert result.tool_call_requests == ()


@pytest.mark.parametrize("streamed", [False, True])
async def test_callbacks_are_called_in_order(client: AsyncClient, *, streamed: bool) -> None:
    llm = await client.llm.model("hello")
    received: list[object] = []

    async def on_message(message: AssistantResponse) -> None:
        await anyio.lowlevel.checkpoint()
        received.append(message)

    def on_prediction_fragment(fragment: LlmPredictionFragment) -> None:
        received.append(fragment.content)

    callbacks = {
        "on_message": on_message,
        "on_first_token": lambda: received.append("first"),
        "on_prediction_fragment": on_prediction_fragment,
        "on_prompt_processing_progress": received.append,
    }
    if streamed:
        stream = await llm.respond_stream("Hi", **callbacks)  # type: ignore[arg-type]
        seen = [fragment.content async for fragment in stream]
        assert "".join(seen) == HELLO
        assert (await stream.wait_for_result()).content == HELLO
    else:
        assert (await llm.respond("Hi", **callbacks)).content == HELLO  # type: ignore[arg-type]

    first = received.index("first")
    progress = received[:first]
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert progress == sorted(set(progress))  # type: ignore[type-var]
    assert "".join(received[first + 1 : -1]) == HELLO  # type: ignore[arg-type]
    assert received[-1] == AssistantResponse(content=[TextData(text=HELLO)])


@pytest.mark.parametrize(
    "name", ["on_first_token", "on_prediction_fragment", "on_prompt_processing_progress", "on_message"]
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_error_of_a_callback_is_raised_with_its_name(
    client: AsyncClient, name: str, *, is_async: bool
) -> None:
    llm = await client.llm.model("hello")

    def plain(*_: object) -> None:
        raise OverflowError("no room")

    async def coroutine(*_: object) -> None:
        raise OverflowError("no room")

    with pytest.raises(OverflowError, match="no room") as caught:
        await llm.respond("Hi", **{name: coroutine if is_async else plain})  # type: ignore[arg-type]
    assert caught.value.__notes__ == [f"Raised by the callback {name}."]
    assert (await llm.respond("Hi")).content == HELLO


async def test_an_error_raised_by_a_callback_twice_names_it_once(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    error = OverflowError("no room")

    def refuse(_: object) -> None:
        raise error

    for _ in range(2):
        with pytest.raises(OverflowError):
            await llm.respond("Hi", on_message=refuse)
    assert error.__notes__ == ["Raised by the callback on_message."]


async def test_callback_that_is_not_callable_is_refused_before_the_request(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")

    with pytest.raises(
        LMStudioValueError, match="on_message must be a function, plain or async, not 'print'"
    ):
        llm.respond_stream("Hi", on_message="print")  # type: ignore[arg-type]


async def test_a_chat_grows_with_the_answers(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    chat = Chat("Be brief.")
    chat.add_user_message("Hi")
    await llm.respond(chat, on_message=chat.append)
    chat.add_user_message("And?")
    chat.append(await llm.respond(chat))

    assert [message.text for message in chat] == ["Be brief.", "Hi", HELLO, "And?", HELLO]


@pytest.mark.parametrize("way", ["append", "add_assistant_response", "on_message"])
async def test_a_chat_accepts_messages_after_an_empty_answer(client: AsyncClient, way: str) -> None:
    llm = await client.llm.model("hello")
    chat = Chat.from_history("Hi")
    on_message = chat.append if way == "on_message" else None
    result = await llm.respond(chat, config={"stop_strings": ["Hello"]}, on_message=on_message)
    assert result.content == ""
    if way != "on_message":
        getattr(chat, way)(result)

    assert list(chat)[1:] == [AssistantResponse(content=[TextData(text="")])]
    chat.add_user_message("Are you there?")
    assert (await llm.respond(chat)).content == HELLO


async def test_complete_continues_a_text(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    received: list[float] = []
    result = await llm.complete("Once", on_prompt_processing_progress=received.append)

    assert result.content == HELLO
    assert received[-1] == 1.0
    assert "".join([fragment.content async for fragment in llm.complete_stream("Once")]) == HELLO


async def test_reasoning_is_separated_from_the_answer(client: AsyncClient) -> None:
    llm = await client.llm.model("thinker")
    result = await llm.respond("Is it?")

    assert result.content == "<think>Hm, 42</think>Yes"
    assert result.reasoning_content == "Hm, 42"
    assert result.non_reasoning_content == "Yes"
    assert str(result) == "Yes"


async def test_tokens_come_with_their_probabilities(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    result = await llm.respond("Hi", config={"log_probs": 2})

    assert "".join(token.text for token in result.tokens) == HELLO
    for token in result.tokens:
        assert token.log_prob is not None
        assert math.exp(token.log_prob) <= 1
        assert token.candidates
        assert len(token.candidates) == 2


async def test_tool_call_requests_are_returned_without_calling_a_tool(client: AsyncClient) -> None:
    llm = await client.llm.model("caller")
    chat = Chat.from_history("Add 1 and 2")
    messages: list[AssistantResponse] = []
    async with llm.respond_stream(chat, config={"raw_tools": TOOLS}, on_message=messages.append) as stream:
        result = await stream.wait_for_result()
        assert stream.tool_call_requests == list(result.tool_call_requests)

    (request,) = result.tool_call_requests
    assert request.name == "add"
    assert request.arguments == {"a": 1, "b": 2}
    chat.append(messages[0])
    chat.add_tool_result({"content": "3", "tool_call_id": request.id})
    answer = await llm.respond(chat, config={"raw_tools": TOOLS})
    assert answer.content == "The sum is 3."


async def test_appending_an_answer_keeps_its_tool_call_requests(client: AsyncClient) -> None:
    llm = await client.llm.model("caller")
    chat = Chat.from_history("Add 1 and 2")
    result = await llm.respond(chat, config={"raw_tools": TOOLS})
    message = chat.append(result)

    requests = [getattr(part, "tool_call_request", None) for part in message.content]
    assert [request for request in requests if isinstance(request, ToolCallRequest)] == list(
        result.tool_call_requests
    )


async def test_a_cancelled_answer_holds_the_text_so_far(client: AsyncClient) -> None:
    llm = await client.llm.model("talker")
    messages: list[AssistantResponse] = []
    stream = llm.respond_stream("Talk", response_format=Person, on_message=messages.append)
    async for _ in stream:
        await stream.cancel()
    result = await stream.wait_for_result()

    assert result.stats.stop_reason == "userStopped"
    assert not result.structured  # an incomplete answer does not fit the format yet: `parsed` is the text
    assert [message.text for message in messages] == [result.content]


# -- response formats


async def test_an_answer_becomes_an_instance_of_the_response_format(client: AsyncClient) -> None:
    llm = await client.llm.model("librarian")
    result = await llm.respond("Which book?", response_format=Book)

    assert result.parsed == Book("Emma", Author("Jane Austen"), "1")  # type: ignore[arg-type]
    assert result.structured
    assert result.content == EMMA
    assert json.loads(str(result))["author"]["name"] == "Jane Austen"
    assert str(result).count("\n") > 3


async def test_response_format_json_object_of_openai_allows_any_json(client: AsyncClient) -> None:
    llm = await client.llm.model("librarian")
    json_object: Any = {"type": "json_object"}
    assert (await llm.respond("Which book?", response_format=json_object)).parsed == json.loads(EMMA)


@pytest.mark.parametrize("through_config", [False, True])
async def test_an_answer_follows_a_schema(lone_client: AsyncClient, *, through_config: bool) -> None:
    llm = await lone_client.llm.model("decider", config={"seed": 7})
    schema: Any = {"type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    if through_config:
        result = await llm.respond("Well?", config={"structured": {"type": "json", "json_schema": schema}})
    else:
        result = await llm.respond("Well?", response_format=schema)

    assert result.parsed["a"] in ("yes", "no")
    assert result.structured


async def test_a_class_with_only_model_json_schema_gives_plain_json(client: AsyncClient) -> None:
    llm = await client.llm.model("decider")
    schema: Any = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    described = type("Described", (), {"model_json_schema": classmethod(lambda _: schema)})

    assert (await llm.respond("Well?", response_format=described)).parsed["a"] in (1, 2)


@pytest.mark.parametrize(
    "grammar",
    [
        GbnfGrammar('root ::= "yes" | "no"'),
        {"type": "gbnf", "gbnfGrammar": 'root ::= "yes" | "no"'},
        {"type": "gbnf", "gbnf_grammar": 'root ::= "yes" | "no"'},
    ],
)
async def test_an_answer_follows_a_grammar(client: AsyncClient, grammar: object) -> None:
    llm = await client.llm.model("decider")
    result = await llm.respond("Well?", response_format=grammar)  # type: ignore[arg-type]

    assert result.content in ("yes", "no")
    assert result.parsed == result.content


async def test_structured_output_error_holds_an_answer_cut_off_by_max_tokens(client: AsyncClient) -> None:
    llm = await client.llm.model("librarian")
    with pytest.raises(LMStudioStructuredOutputError, match="was cut off by max_tokens") as caught:
        await llm.respond("Which book?", response_format=Book, config={"max_tokens": 3})

    assert caught.value.content
    assert EMMA.startswith(caught.value.content)
    # The position of the JSON error is of no use to the caller.
    assert caught.value.__cause__ is None


async def test_response_format_and_structured_config_exclude_each_other(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    with pytest.raises(LMStudioValueError, match="not both"):
        llm.respond_stream("Hi", response_format=Book, config={"structured": {"type": "json"}})


@pytest.mark.parametrize(
    "wrong", ["root ::= yes", 42, {"type": "gbnf"}, {"type": "json", "schema": {}}, complex]
)
async def test_invalid_response_format_is_refused(client: AsyncClient, wrong: object) -> None:
    llm = await client.llm.model("hello")
    with pytest.raises(LMStudioValueError):
        llm.respond_stream("Hi", response_format=wrong)  # type: ignore[arg-type]


def test_base_model_is_an_attrs_class_with_a_json_schema() -> None:
    assert Person(name="Ada") == Person(name="Ada", age=None)
    assert repr(Person(name="Ada")) == "Person(name='Ada', age=None)"
    assert Person.model_json_schema()["required"] == ["name"]
    assert Documented.model_json_schema()["required"] == ["a"]


# -- presets, prompts, drafts


async def test_error_for_a_missing_preset_names_it(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    with pytest.raises(LMStudioPresetNotFoundError, match="no such"):
        await llm.respond("Hi", preset="no such")


async def test_apply_prompt_template_returns_the_prompt(client: AsyncClient) -> None:
    llm = await client.llm.model("hello")
    prompt = await llm.apply_prompt_template([{"role": "user", "content": "Hi"}])

    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    shorter = await llm.apply_prompt_template("Hi", {"omitBosToken": True, "omit_eos_token": True})
    assert prompt.endswith(shorter)
    with pytest.raises(LMStudioValueError, match="opts has no 'omitBos'"):
        await llm.apply_prompt_template("Hi", {"omitBos": True})  # type: ignore[arg-type]


async def test_apply_prompt_template_includes_tool_definitions(client: AsyncClient) -> None:
    llm = await client.llm.model("caller")
    prompt = await llm.apply_prompt_template("Hi", {"toolDefinitions": TOOLS["tools"]})

    assert "Add two numbers" in prompt


async def test_drafted_tokens_are_counted(lone_client: AsyncClient) -> None:
    config = {"speculative_draft_model": "talker", "speculative_draft_max_tokens": 4}
    llm = await lone_client.llm.model("talker", config=config)  # type: ignore[arg-type]
    result = await llm.respond("Talk", config={"max_tokens": 40})

    assert result.stats.used_draft_model_key == "talker"
    assert result.stats.accepted_draft_tokens_count
    assert result.stats.total_draft_tokens_count >= result.stats.accepted_draft_tokens_count  # type: ignore[operator]


async def test_a_prediction_can_name_its_draft_model(client: AsyncClient) -> None:
    llm = await client.llm.model("talker")
    await llm.preload_draft_model("talker")
    result = await llm.respond("Talk", config={"max_tokens": 40, "draft_model": "talker"})
    assert result.stats.used_draft_model_key == "talker"
    assert result.stats.accepted_draft_tokens_count


async def test_a_draft_model_that_the_engine_cannot_use_is_an_error(client: AsyncClient) -> None:
    llm = await client.llm.model("talker")
    with pytest.raises(LMStudioUnsupportedFeatureError, match="raft"):
        await llm.respond("Talk", config={"draft_model": "hello"})
    with pytest.raises(LMStudioUnsupportedFeatureError, match="raft"):
        await llm.preload_draft_model("hello")


async def test_handle_of_an_unloaded_instance_raises_despite_a_new_one_of_its_name(
    lone_client: AsyncClient,
) -> None:
    llm = await lone_client.llm.load_new_instance("hello", "mine")
    await llm.unload()
    other = await lone_client.llm.load_new_instance("librarian", "mine")

    with pytest.raises(LMStudioInstanceUnloadedError):
        await llm.respond("Hi")
    assert (await other.respond("Hi")).content == EMMA
