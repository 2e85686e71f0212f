"""Tools with odd schemas: the schema of one tool prevents neither an answer nor a call of another tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmstudio_sync as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._prediction._tool_schemas import loosened
from lmstudio_async.testing import HERMES, ModelsFolder, served, tool_call
from lmstudio_async.testing._chat_templates import LLAMA, MISTRAL, XML
from tests.soak import bounded

Json = dict[str, Any]
# The tiny models count every byte of a prompt as a token.
LONG = 50_000

FAMILIES = {
    "hermes": (HERMES, tool_call("sane", q="x")),
    "xml": (
        XML,
        ["<tool_call>\n<function=sane>\n<parameter=q>\nx", "\n</parameter>\n</function>\n</tool_call>"],
    ),
    "llama": (LLAMA, ['{"name": "sane", "parameters": {"q": ', '"x"}}']),
    "mistral": (MISTRAL, ['[TOOL_CALLS][{"name": "sane", ', '"arguments": {"q": "x"', "}}]"]),
}
SANE = {
    "type": "object",
    "properties": {"q": {"enum": ["x"], "description": "What to ask"}},
    "required": ["q"],
    "additionalProperties": False,
}
PROPERTIES: list[Any] = [None, [], {"x": True}, {"x": None}]
ODD: list[Any] = [
    *(True, False, None, [], "string", 3, {"type": "any"}, {"type": "date"}, {"type": ["any"]}, {"type": []}),
    *({"$ref": "#"}, {"$ref": "#/properties/a"}, {"$ref": "#/$defs/loop"}, {"$ref": "https://a.org/x.json"}),
    *({"$ref": "#/$defs/x%20y"}, {"$ref": "#/$defs/x~1y"}, {"$ref": "#/$defs/no"}, {"$ref": None}),
    *({"allOf": [{"$ref": "#/$defs/loop"}]}, {"allOf": []}, {"anyOf": None}, {"oneOf": [True, None]}),
    *({"enum": []}, {"enum": None}, {"const": None}),
    *({"type": "object", "properties": value} for value in PROPERTIES),
    {"type": "object", "properties": {"x": {}}, "required": None, "additionalProperties": "yes"},
    *({"type": "array", "items": value} for value in (None, True, [{"type": "string"}, True])),
    *({"type": "array", "minItems": value} for value in ("2", None, -1, 1.5, 10**9)),
    {"type": "array", "minItems": 3, "maxItems": 2},
    {"type": "string", "minLength": 5, "maxLength": 2},
    *({"type": "string", "pattern": value} for value in (None, "^([a-z]$", "^*$", "^a{3,1}$", "^(?=a)b$")),
    {"type": "string", "format": None},
    {"type": "integer", "minimum": "1"},
    {"type": "integer", "exclusiveMinimum": True, "maximum": 1e30},
    {"type": "integer", "minimum": 2**63 - 1},
]  # fmt: skip
ODD_WHOLES: list[Any] = [
    True,
    [],
    "x",
    {"type": "any"},
    {"$ref": "#"},
    {"type": "object", "properties": None},
    {"enum": []},
]
DEFINITIONS = {"x y": {"type": "string"}, "x/y": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lms.Client]:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    for family, (template, script) in FAMILIES.items():
        models.add_llm(family, script=script, chat_template=template, context_length=LONG)
        # A template without schemas makes a shorter prompt, which the engine processes faster.
        short = template.replace("tool | tojson", "tool.function.name").replace(
            "tools | tojson", "tools[0].function.name"
        )
        short = short.replace("tool.function | tojson", "tool.function.name")
        models.add_llm(f"short-{family}", script=script, chat_template=short, context_length=LONG)
    # The template does not support tools, so the server puts them into the system message.
    models.add_llm("plain", script="Hello there", context_length=LONG)
    with served(EmbeddedServer(models.folder, threads=1)) as host, lms.Client(host) as client:
        yield client


def tool(name: str, parameters: Any) -> Json:
    return {"type": "function", "function": {"name": name, "description": "A tool", "parameters": parameters}}


def answer_of(client: lms.Client, family: str, *tools: Json) -> lms.PredictionResult:
    llm = client.llm.model(family, config={"context_length": LONG})
    return llm.respond(
        "Go", config={"raw_tools": {"type": "toolArray", "tools": list(tools)}, "max_tokens": 200}
    )


def check_sane_is_called(client: lms.Client, family: str, *tools: Json) -> None:
    result = answer_of(client, f"short-{family}", *tools, tool("sane", SANE))
    assert [(call.name, call.arguments) for call in result.tool_call_requests] == [("sane", {"q": "x"})]


def odd_tools() -> Iterator[Json]:
    for number, schema in enumerate(ODD):
        parameters = {"type": "object", "properties": {"a": schema}, "$defs": DEFINITIONS}
        yield tool(f"odd_{number}", parameters if number % 2 else {**parameters, "required": ["a"]})
    yield from (tool(f"whole_{number}", schema) for number, schema in enumerate(ODD_WHOLES))


@pytest.mark.parametrize("family", FAMILIES)
def test_odd_schemas_leave_another_tool_callable(client: lms.Client, family: str) -> None:
    check_sane_is_called(client, family, *odd_tools())


def test_odd_schemas_do_not_change_answers_if_the_template_does_not_support_tools(client: lms.Client) -> None:
    assert answer_of(client, "plain", *list(odd_tools())[::6], tool("sane", SANE)).content == "Hello there"


# The XML family is left out, because its calls need the parameters of the schema.
@pytest.mark.parametrize("family", ["hermes", "llama", "mistral"])
def test_a_tool_with_an_odd_schema_is_callable(client: lms.Client, family: str) -> None:
    for schema in ODD_WHOLES:
        calls = answer_of(client, family, tool("sane", schema)).tool_call_requests
        assert [(call.name, call.arguments) for call in calls] == [("sane", {"q": "x"})]


@pytest.mark.parametrize("family", [*FAMILIES, "plain"])
def test_the_prompt_contains_the_original_of_a_loosened_schema(client: lms.Client, family: str) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "any", "x-unit": "m"}, "b": {"$ref": "#"}}}
    llm = client.llm.model(family, config={"context_length": LONG})
    prompt = llm.apply_prompt_template(
        "Go", {"tool_definitions": [tool("odd", parameters), tool("sane", SANE)]}
    )
    assert json.dumps(parameters) in prompt
    read = answer_of(client, family, tool("odd", parameters), tool("sane", SANE)).stats.prompt_tokens_count
    assert read == llm.count_tokens(prompt)


def test_a_schema_within_the_bounds_stays_unchanged() -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 80, "pattern": r"^\w+$"},
            "year": {"type": ["integer", "null"], "minimum": 1900, "maximum": 2100, "default": None},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
            "author": {
                "anyOf": [{"type": "object", "properties": {"name": {"type": "string"}}}, {"const": 1}]
            },
        },
        "required": ["title"],
        "additionalProperties": False,
    }
    assert loosened([tool("book", schema)]) == [tool("book", schema)]


def test_a_recursive_schema_keeps_its_recursion() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/No%64e"}}}
    found = loosened([tool("walk", {"$ref": "#/$defs/Node", "$defs": {"Node": node}})])
    parameters = found[0]["function"]["parameters"]
    assert parameters["$ref"] == "#/$defs/d0"
    assert parameters["$defs"]["d0"]["properties"]["next"] == {"$ref": "#/$defs/d1"}
    assert parameters["$defs"]["d1"]["properties"]["next"] == {"$ref": "#/$defs/d1"}


KEYWORDS = [
    *(
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
    ),
    *("anyOf", "allOf", "oneOf", "$ref", "$defs", "enum", "const", "minimum", "maximum", "exclusiveMaximum"),
    *("minLength", "maxLength", "pattern", "format", "description", "default", "not", "propertyNames"),
]
WORDS = [
    "#",
    "#/properties/a",
    "#/$defs/x%20y",
    "object",
    "array",
    "string",
    "integer",
    "any",
    "^a{2}$",
    "date",
]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(schemas=st.lists(anything, min_size=3, max_size=6), family=st.sampled_from(list(FAMILIES)))
@bounded(8)
def test_any_json_as_schemas_leaves_another_tool_callable(
    client: lms.Client, schemas: list[Any], family: str
) -> None:
    inner = {"type": "object", "properties": dict(zip("abcdef", schemas, strict=False)), "required": ["a"]}
    wholes = [tool(f"odd_{number}", schema) for number, schema in enumerate(schemas)]
    check_sane_is_called(client, family, tool("inner", inner), *wholes)
