"""Schemas, tools and grammars that are too large for the engine or the event loop are refused at once with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import lmstudio_sync as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._prediction._json_bounds import size_problem
from lmstudio_async.testing import ModelsFolder, served

Json = dict[str, Any]


def nested(depth: int) -> Json:
    schema: Json = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def listed(**bounds: int | float) -> Json:
    return {"type": "array", "items": {"type": "integer"}, **bounds}


def properties(number: int) -> Json:
    return {"type": "object", "properties": {f"p{index}": {"type": "null"} for index in range(number)}}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lms.LLM]:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm("dice", script=None)
    with served(EmbeddedServer(models.folder, threads=1)) as host, lms.Client(host) as client:
        yield client.llm.model("dice")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (listed(maxItems=10**9), "maxItems is 1000000000, and 10000 is the most"),
        (listed(minItems=10**9), "minItems is 1000000000"),
        (listed(maxItems=1e9), "maxItems is 1000000000"),
        ({"not": {"items": listed(minItems=10_001)}}, "minItems is 10001"),
        ({"$ref": "#/x/y", "x": {"y": listed(maxItems=10**9)}}, "maxItems is 1000000000"),
        ({"prefixItems": [listed(maxItems=9000) for _ in range(3)]}, "27000 all together"),
        (properties(1001), "it names 1001 properties"),
        ({"enum": list(range(20_000))}, "more than 10000 values"),
        ({"description": "x" * 1_000_001}, "more than 1000000 characters"),
    ],
    ids=str,
)
def test_a_schema_above_a_bound_is_refused_with_the_bound(llm: lms.LLM, schema: Json, reason: str) -> None:
    with pytest.raises(lms.LMStudioServerError, match=reason):
        llm.respond("Hi", response_format=schema)


def test_a_schema_at_the_bounds_is_followed(llm: lms.LLM) -> None:
    schema = {"anyOf": [listed(minItems=1, maxItems=10_000), properties(1000)]}
    with pytest.raises(lms.LMStudioStructuredOutputError, match="cut off by max_tokens") as cut_off:
        llm.respond("Hi", response_format=schema, config={"max_tokens": 1, "temperature": 0})
    assert cut_off.value.content in ("[", "{")


def test_json_nested_above_the_bound_is_too_large() -> None:
    assert size_problem(nested(100)) is None
    assert size_problem(nested(101)) == "it is nested more than 100 deep"


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("root ::= " + "(" * 101 + '"a"' + ")" * 101, "nested 101 deep"),
        ("root ::= " + "x? " * 101 + '\nx ::= "a"', "a rule has 101 parts that may be left out"),
        ("root ::= " + "x{0,2} " * 101 + '\nx ::= "a"', "a rule has 101 parts"),
        ("root ::= " + " | ".join(['"a"'] * 5002), "5001 marks of a choice"),
        ('root ::= "' + "a" * 500_001 + '"', "500000 is the most"),
    ],
    ids=["brackets", "optional", "counted", "choices", "length"],
)  # fmt: skip
def test_a_grammar_above_a_bound_is_refused_with_the_bound(llm: lms.LLM, grammar: str, reason: str) -> None:
    with pytest.raises(lms.LMStudioServerError, match=reason):
        llm.respond("Hi", response_format=lms.GbnfGrammar(grammar))


def test_marks_in_literals_and_comments_of_a_grammar_do_not_count(llm: lms.LLM) -> None:
    grammar = f'root ::= "{"(" * 200}" | [{"?" * 200}] # {"|" * 6000}'
    assert llm.respond("Hi", response_format=lms.GbnfGrammar(grammar)).content in ("(" * 200, "?")


def test_tool_definitions_above_a_bound_are_refused(llm: lms.LLM) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": list(range(20_000))}}}
    with pytest.raises(lms.LMStudioServerError, match="definitions of the tools.*more than 10000 values"):
        llm.respond("Hi", config={"raw_tools": {"type": "toolArray", "tools": [tool]}})
    with pytest.raises(lms.LMStudioServerError, match="definitions of the tools.*more than 10000 values"):
        llm.apply_prompt_template("Hi", {"tool_definitions": [tool]})


def test_stop_strings_above_a_bound_are_refused_with_the_bound(llm: lms.LLM) -> None:
    for texts in (["x"] * 1001, ["x" * 100_001]):
        with pytest.raises(lms.LMStudioServerError, match="stop strings.*1000 and 100000"):
            llm.respond("Hi", config={"stop_strings": texts})


def test_a_prompt_above_the_bound_is_refused_with_the_bound(llm: lms.LLM) -> None:
    text = "x" * 16_000_001
    with pytest.raises(lms.LMStudioServerError, match="16000001 characters, and 16000000 is the most"):
        llm.complete(text)
    with pytest.raises(lms.LMStudioServerError, match="16000001 characters, and 16000000 is the most"):
        llm.respond(text)
