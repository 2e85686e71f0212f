"""Grammars made from JSON schemas: the JSON that they allow, and how they guide a model that strays from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import lmstudio_sync as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._prediction._json_grammar import json_grammar
from lmstudio_async.testing import ModelsFolder, served
from tests.soak import bounded

Json = dict[str, Any]

BOOK = {
    "title": "The Hobbit, or There and Back Again",
    "year": 1937,
    "price": -7.5e0,
    "tags": ["a", "é"],
    "author": {"name": "J. R. R. Tolkien", "alive": False},
    "sequel": {"title": 'The "Lord" of the Rings', "year": 1954, "tags": []},
    "pages": {"hardback": 310, "pocket": 320},
    "note": None,
    "anything": [1, {"deep": [True, [], {}]}, "text"],
}
BOOK_SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Book",
    "$ref": "#/$defs/Book",
    "$defs": {
        "Book": {
            "type": "object",
            "description": "A book in a library.",
            "properties": {
                "title": {"type": "string"},
                "subtitle": {"type": "string"},
                "year": {"type": "integer", "minimum": 1900},
                "price": {"type": "number"},
                "tags": {"type": "array", "items": {"enum": ["a", "é"]}},
                "author": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "alive": {"type": "boolean"}},
                    "required": ["name"],
                    "additionalProperties": False,
                },
                "sequel": {"anyOf": [{"$ref": "#/$defs/Book"}, {"type": "null"}], "default": None},
                "pages": {"type": "object", "additionalProperties": {"type": "integer"}},
                "note": {"type": ["string", "null"], "maxLength": 100},
                "anything": {"type": "array", "items": True, "minItems": 1, "maxItems": 5},
            },
            "required": ["title", "tags"],
        }
    },
}
LAYOUTS = {
    "one line": json.dumps(BOOK, ensure_ascii=False),
    "compact": json.dumps(BOOK, ensure_ascii=False, separators=(",", ":")),
    "two blanks": json.dumps(BOOK, ensure_ascii=False, indent=2),
    "four blanks": json.dumps(BOOK, ensure_ascii=False, indent=4),
    "tabs": json.dumps(BOOK, ensure_ascii=False, indent="\t"),
}
TWO: Json = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "y"]}, "b": {"enum": [1, 2]}},
    "required": ["a", "b"],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lms.Client]:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    for number, text in enumerate(LAYOUTS.values()):
        models.add_llm(f"layout-{number}", script=text)
    models.add_llm("closes-too-soon", script=['{"a": "x"', "\n\n", "\n\n\n", "\n\n\n\n", "\n}"])
    models.add_llm("knows-more", script='{"a": "x", "b": 1, "c": 3}')
    models.add_llm("counts-on", script=["11", "111"], endless=True)
    models.add_llm("dice", script=None)
    models.add_llm("stammers", script="But, but, but")
    with served(EmbeddedServer(models.folder, threads=1)) as host, lms.Client(host) as client:
        yield client


@pytest.fixture(scope="module")
def stammering(client: lms.Client) -> lms.LLM:
    """A model with a seed, because with random sampling its answer might never end."""
    return client.llm.load_new_instance("stammers", "stammering", config={"seed": 2})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_grammar_allows_the_usual_layouts_of_json(client: lms.Client, layout: str) -> None:
    llm = client.llm.model(f"layout-{list(LAYOUTS).index(layout)}")
    result = llm.respond("Which book?", response_format=BOOK_SCHEMA)
    assert result.content == LAYOUTS[layout]
    assert result.parsed == BOOK


def test_a_model_that_closes_an_object_too_soon_has_to_add_the_required_members(client: lms.Client) -> None:
    """After the first member the model prefers blanks, without end."""
    llm = client.llm.model("closes-too-soon")
    content = llm.respond("Hi", response_format=TWO).content
    assert re.fullmatch(r'\{"a": "x",(\s[ \t]*)?"b":(\s[ \t]*)?[12](\s[ \t]*)?\}', content)


@pytest.mark.parametrize(
    ("number", "least", "most"),
    [
        ({"type": "integer"}, 17, 19),
        ({"type": "number"}, 17, 19),
        ({"type": "integer", "minimum": 0}, 15, 16),
    ],
)
def test_the_digits_of_a_number_are_bounded(client: lms.Client, number: Json, least: int, most: int) -> None:
    """The model writes tokens of two and of three digits, as many as the grammar allows; the rest is left to chance."""
    schema = {"type": "array", "items": number, "maxItems": 2}
    content = client.llm.model("counts-on").respond("Hi", response_format=schema).content
    digits = re.findall(r"\d+", content)
    assert least <= len(digits[0]) <= most
    assert max(map(len, digits)) <= most


def test_an_object_has_no_more_members_than_its_schema_names(client: lms.Client) -> None:
    llm = client.llm.model("knows-more")
    assert llm.respond("Hi", response_format=TWO).parsed.keys() == {"a", "b"}


def test_an_object_has_more_members_if_additional_properties_is_true(client: lms.Client) -> None:
    llm = client.llm.model("knows-more")
    result = llm.respond("Hi", response_format={**TWO, "additionalProperties": True})
    assert result.content == '{"a": "x", "b": 1, "c": 3}'


# -- any schema

KEYWORDS = [
    *("type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("anyOf", "$ref", "$defs", "enum", "const", "minimum", "maximum", "pattern", "description"),
]

# The engine's numbers are floats.
integers = st.integers(-(2**53), 2**53)
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=6)
scalars = st.one_of(
    st.just({"type": "boolean"}),
    st.sampled_from([{"type": "null"}, {"type": "integer"}, {"type": "number"}]),
    st.builds(
        lambda least, span: {"type": "integer", "minimum": least, "maximum": least + span},
        st.integers(-50, 50),
        st.integers(0, 200),
    ),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 5)),
    st.sampled_from(
        [{"type": "string", "format": "date"}, {"type": ["null", "string"], "pattern": "^[a-c]{2}$"}]
    ),
    st.builds(
        lambda some: {"enum": some}, st.lists(st.booleans() | integers | names, min_size=1, max_size=3)
    ),
    st.builds(lambda one: {"const": one}, st.dictionaries(names, integers, max_size=2)),
)


def composed(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.one_of(
        st.builds(
            an_object, st.dictionaries(names, st.tuples(inner, st.booleans()), max_size=4), st.booleans()
        ),
        st.builds(lambda values: {"type": "object", "additionalProperties": values}, inner),
        st.builds(
            lambda items, least, span: {
                "type": "array",
                "items": items,
                "minItems": least,
                "maxItems": least + span,
            },
            inner,
            st.integers(0, 3),
            st.integers(0, 2),
        ),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    )


def an_object(members: dict[str, tuple[Json, bool]], closed: bool) -> Json:
    return {
        "type": "object",
        "properties": {name: schema for name, (schema, _) in members.items()},
        "required": [name for name, (_, required) in members.items() if required],
        **({"additionalProperties": False} if closed else {}),
    }


@given(schema=st.recursive(scalars, composed, max_leaves=6), key=st.sampled_from(["dice", "stammers"]))
@bounded(60)
def test_any_answer_under_a_grammar_matches_the_schema(client: lms.Client, schema: Json, key: str) -> None:
    assert json_grammar(schema) is not None
    try:
        result = client.llm.model(key).respond("Hi", response_format=schema, config={"max_tokens": 400})
    except lms.LMStudioStructuredOutputError as error:
        # Every answer to some schemas is long.
        if "cut off by max_tokens" not in str(error):
            raise
    else:
        Draft202012Validator(schema).validate(json.loads(result.content))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | names
    | st.sampled_from(["#", "#/$defs/a", "array"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS) | names, inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "propertyNames": {"enum": ["a", "b"]},
            "additionalProperties": {"type": "integer"},
        },
        {"type": "object", "propertyNames": {"const": "é\n"}, "additionalProperties": {"type": "boolean"}},
        {"type": "object", "propertyNames": {"$ref": "#/$defs/k"}, "$defs": {"k": {"enum": ["x", 1]}}},
        {"type": "object", "propertyNames": {"maxLength": 3}, "additionalProperties": {"type": "null"}},
        {"type": "object", "patternProperties": {"^[a-c]{2}$": {"type": "boolean"}}},
        {
            "oneOf": [
                an_object({"kind": ({"const": "cat"}, True), "lives": ({"enum": [7, 9]}, True)}, True),
                an_object({"kind": ({"const": "dog"}, True)}, True),
            ],
            "discriminator": {"propertyName": "kind"},
        },
    ],
)
def test_property_names_and_discriminators_match_the_schema(
    client: lms.Client, stammering: lms.LLM, schema: Json
) -> None:
    assert json_grammar(schema) is not None
    bounds = {
        "type": "array",
        "items": schema,
        "minItems": 4,
        "maxItems": 4,
        "$defs": schema.get("$defs", {}),
    }
    with suppress(lms.LMStudioStructuredOutputError):
        result = client.llm.model("dice").respond("Hi", response_format=bounds, config={"max_tokens": 400})
        Draft202012Validator(bounds).validate(json.loads(result.content))
    stammered = stammering.respond("Hi", response_format=schema, config={"max_tokens": 400})
    Draft202012Validator(schema).validate(json.loads(stammered.content))


@given(st.dictionaries(st.sampled_from(KEYWORDS), anything, max_size=4))
def test_an_invalid_schema_raises_nothing(nonsense: Json) -> None:
    grammar = json_grammar(nonsense)
    assert grammar is None or grammar.startswith("%llguidance")


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [TWO]},
        {"oneOf": [TWO, {"type": "null"}]},
        {"type": "object", "patternProperties": {"a": {"type": "integer"}, "b": {}}},
        {"type": "object", "properties": {"a": {}}, "propertyNames": {"minLength": 1}},
        {"oneOf": [an_object({"kind": ({"const": "a"}, True)}, True), an_object({"kind": ({}, True)}, True)]},
        {"type": "object", "properties": {"a": {}}, "required": ["b"]},
        {"type": "object", "properties": {"a\n": {}}},
        {"type": "array", "prefixItems": [{"type": "integer"}]},
        {"type": "array", "minItems": 1001},
        {"properties": {"a": {"type": "integer"}}},
        {"$ref": "#/$defs/a/b"},
        {"type": "array", "items": {"not": {}}},
    ],
)
def test_a_schema_beyond_the_grammar_is_left_to_the_engine(schema: Json) -> None:
    assert json_grammar(schema) is None
