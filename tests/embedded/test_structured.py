"""Structured answers: the engine constrains the model to the format, or the server refuses the request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import THINKING, ModelsFolder
from tests.embedded.conftest import new_server
from tests.embedded.raw_client import Json, RawClient, Refused, text_of
from tests.embedded.raw_predictions import ask, begin, checked

server = pytest.fixture(new_server, scope="module")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    folder.add_llm("acme/dice-GGUF/dice-Q8_0.gguf", script=None, endless=True)
    folder.add_llm(
        "acme/opened-GGUF/opened-Q8_0.gguf",
        script=["Hm", "</think>", '{"a": ', "1}"],
        chat_template=THINKING.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}", 1),
    )
    folder.add_llm(
        "acme/thinks-GGUF/thinks-Q8_0.gguf",
        script=["<think>", "Hm {", "</think>", "\n\n", '{"a": ', "1}"],
        chat_template=THINKING,
        # The tags are tokens of their own (type 4), as in models that were trained to think.
        metadata={"tokenizer.ggml.token_type": [1] * 256 + [3] * 3 + [4, 1, 4, 1, 1, 1]},
    )
    return folder.folder


def held_to(schema: Json) -> Json:
    return {"structured": {"type": "json", "jsonSchema": schema}, "maxPredictedTokens": checked(300)}


async def answer_to(client: RawClient, schema: Json) -> Any:
    return json.loads(text_of(await ask(client, "dice", held_to(schema))))


async def test_json_without_a_schema_can_be_requested(client: RawClient) -> None:
    packets = await ask(client, "dice", {"structured": {"type": "json"}, "maxPredictedTokens": checked(1)})
    assert text_of(packets).lstrip()[:1] in {*'{["-0123456789tfn'}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ({"type": "string", "pattern": "(["}, "regex"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere"),
        ({"enum": []}, "schema"),
        ({"anyOf": []}, "schema"),
        ({"type": []}, "schema"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "schema"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "schema"),
    ],
)
async def test_a_schema_that_the_engine_cannot_enforce_is_refused(
    client: RawClient, schema: Json, reason: str
) -> None:
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await ask(client, "dice", held_to(schema))
        assert refused.value.code == "generic.engineDoesNotSupportFeature"
        assert refused.value.error["displayData"]["feature"] == "llm.prediction.structured"
    # The reason of the engine comes from its log, which may arrive too late.
    assert "cannot hold an answer to this JSON schema" in str(refused.value)
    assert str(refused.value).endswith("JSON schema") or reason in str(refused.value)
    assert text_of(await ask(client, "tiny")) == "Hello there my friend"


async def test_reasoning_that_the_template_opens_precedes_the_json(client: RawClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    packets = await ask(client, "opened", held_to(schema))
    found = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    thought = "".join(each["content"] for each in found if each["reasoningType"] == "reasoning")
    answer = "".join(each["content"] for each in found if each["reasoningType"] == "none")
    assert (thought, answer) == ("Hm", '{"a": 1}')


async def test_reasoning_that_the_model_opens_precedes_the_json(client: RawClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    packets = await ask(client, "thinks", held_to(schema))
    found = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    thought = "".join(each["content"] for each in found if each["reasoningType"] == "reasoning")
    answer = "".join(each["content"] for each in found if each["reasoningType"] == "none")
    assert (thought, answer.strip()) == ("Hm {", '{"a": 1}')


async def test_text_under_a_grammar_is_no_reasoning_although_the_template_opens_it(client: RawClient) -> None:
    grammar = {"type": "gbnf", "gbnfGrammar": 'root ::= "yes"'}
    packets = await ask(client, "opened", {"structured": grammar})
    found = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    assert text_of(packets) == "yes"
    assert {each["reasoningType"] for each in found} == {"none"}


async def test_a_format_that_the_engine_does_not_know_is_ignored(client: RawClient) -> None:
    answer = await answer_to(
        client,
        {
            "type": "object",
            "properties": {
                "link": {"type": "string", "format": "uri", "maxLength": 5},
                "format": {"const": {"format": "uri"}},
                "day": {"type": "string", "format": "date"},
            },
            "required": ["link", "format", "day"],
            "additionalProperties": False,
        },
    )
    assert isinstance(answer["link"], str)
    # A constant that looks like a format stays unchanged, and known formats are followed.
    assert answer["format"] == {"format": "uri"}
    assert len(answer["day"]) == len("2026-11-28")


async def test_simultaneous_answers_each_follow_their_own_schema(client: RawClient) -> None:
    schemas: list[Json] = [{"enum": ["red", "green"]}, {"enum": [1, 2]}, {"not": {}}, {"type": "boolean"}]
    channels = [await begin(client, "dice", held_to(schema)) for schema in schemas]
    for channel, choices in zip(channels, [("red", "green"), (1, 2), (), (True, False)], strict=True):
        if choices:
            assert json.loads(text_of(await client.packets(channel))) in choices
        else:
            with pytest.raises(Refused, match="JSON schema"):
                await client.packets(channel)


async def test_a_pydantic_model_with_a_set_and_a_secret_is_answered(models: Path) -> None:
    pydantic = pytest.importorskip("pydantic")
    page: Any = pydantic.create_model(
        "Page",
        tags=(set[Literal["a", "b"]], pydantic.Field(min_length=1)),
        secret=(pydantic.SecretStr, pydantic.Field(max_length=5)),
    )
    async with lms.AsyncClient(EmbeddedServer(models, threads=1)) as client:
        model = await client.llm.model("dice")
        result = await model.respond("Go", response_format=page, config={"max_tokens": 1000})
    assert result.parsed.tags in ({"a"}, {"b"})
    assert isinstance(result.parsed.secret, pydantic.SecretStr)


async def test_a_mapping_with_named_keys_and_a_tagged_union_are_answered(models: Path) -> None:
    pydantic = pytest.importorskip("pydantic")
    cat: Any = pydantic.create_model("Cat", kind=(Literal["cat"], ...), lives=(Literal[7, 9], ...))
    dog: Any = pydantic.create_model("Dog", kind=(Literal["dog"], ...))
    page: Any = pydantic.create_model(
        "Page",
        found=(dict[Literal["a", "b"], Literal[1, 2]], ...),
        pet=(cat | dog, pydantic.Field(discriminator="kind")),
    )
    async with lms.AsyncClient(EmbeddedServer(models, threads=1)) as client:
        model = await client.llm.model("dice")
        result = await model.respond("Go", response_format=page, config={"max_tokens": 1000})
    assert result.parsed.found.keys() <= {"a", "b"}
    assert isinstance(result.parsed.pet, cat | dog)


async def test_the_wrapper_of_openai_is_refused_by_name(client: RawClient) -> None:
    wrapper = {"name": "answer", "strict": True, "schema": {"type": "integer"}}
    with pytest.raises(Refused, match="give the object under its key 'schema'"):
        await ask(client, "dice", held_to(wrapper))
