"""Structured output: the parameters for the engine, and the check that the engine supports a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._prediction._json_bounds import count_problem, grammar_problem, size_problem
from lmstudio_async.embedded._prediction._json_grammar import json_grammar
from lmstudio_async.embedded._versions import engine_version

__all__ = ["followed_grammar", "structure"]

_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
# Unknown formats are removed from schemas. The specification of JSON schema allows ignoring them.
_FORMATS: Final = frozenset(
    {"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
# Keywords with nested schemas: as an object of named schemas, or as one schema or a list of schemas.
_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties")
_NESTED: Final = ("items", "prefixItems", "anyOf", "oneOf", "allOf", "additionalProperties", "propertyNames")
_OF_WRAPPER: Final = frozenset({"name", "description", "strict", "schema"})
_REASON: Final = re.compile(
    r"llg error: .*?failed to compile JSON schema: (?P<reason>(?:(?!llg error: ).)+?)\n *1 \| "
    r"[^\n]*\n *2 \| start: %json (?P<schema>[^\n]*)",
    re.DOTALL,
)


def structure(structured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters for the engine that describe the form of an answer.

    :param structured: the setting ``llm.prediction.structured``.
    :raises LMStudioServerError: its schema is invalid or too large, or its grammar is missing, too large or not GBNF.
    """
    match structured["type"]:
        case "json":
            schema = structured.get("jsonSchema")
            schema = {} if schema is None else schema
            # Check the size first, because the other checks walk the whole schema.
            if problem := size_problem(schema) or count_problem(schema) or _problem_of_root(schema):
                raise server_error(f"The JSON schema for the answer cannot be used: {problem}.")
            return {"json_schema": _without_unknown_formats(schema)}
        case "gbnf":
            grammar = structured.get("gbnfGrammar")
            if not grammar:
                raise server_error("Structured output of type gbnf needs a gbnfGrammar.")
            if problem := grammar_problem(grammar):
                raise server_error(f"The gbnfGrammar cannot be used: {problem}.")
            if grammar.startswith("%llguidance"):
                # Reject the engine's other notation: the engine silently applies no grammar if one of these is invalid.
                raise server_error("The gbnfGrammar is not in GBNF: it begins with %llguidance.")
            return {"grammar": grammar}
    return {}


async def followed_grammar(
    engine: Engine, body: Mapping[str, Any], thought: tuple[str, str] | None = None
) -> str | None:
    """Return the grammar for the JSON schema of a request, or None if the engine's own grammar is used.

    A schema that the engine does not support is rejected, because the engine would silently apply no grammar.

    :param body: the parameters for the engine.
    :param thought: the tags of reasoning that may precede the answer.
    :raises LMStudioUnsupportedFeatureError: the engine does not support the schema.
    """
    schema = body.get("json_schema")
    if schema is None:
        return None
    grammar = json_grammar(schema, thought)
    if grammar is not None and await engine.follows({"grammar": grammar}):
        return grammar
    if await engine.follows({"json_schema": schema}):
        return None
    raise unsupported_feature(
        "llm.prediction.structured",
        engine_version(),
        f"the engine cannot hold an answer to this JSON schema{_reason(schema, engine.log)}",
        "Simplify the schema, and check the rest yourself.",
    )


def _reason(schema: Mapping[str, Any], log: Iterable[str]) -> str:
    """Return the reason for a rejected schema in the engine's log, or an empty text if it is not there yet."""
    text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    for found in _REASON.finditer("\n".join(log)):
        if text.startswith(found["schema"][:200]):
            return ": " + re.sub(r"\s+", " ", found["reason"]).rstrip(".")
    return ""


def _problem_of_root(schema: Any) -> str | None:
    if not isinstance(schema, dict):
        return "it is not an object"
    if isinstance(schema.get("schema"), dict) and schema.keys() <= _OF_WRAPPER:
        return (
            "it is the object that OpenAI's API has around a schema, and not a schema itself: give the object under "
            "its key 'schema'"
        )
    return _problem(schema)


def _problem(schema: Any, place: str = "the schema") -> str | None:
    """Return the problem of a schema, in better words than the engine's, or None if there is none."""
    if isinstance(schema, list):
        return next(filter(None, (_problem(item, place) for item in schema)), None)
    if not isinstance(schema, dict):
        return None
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"{place} has the unknown type {str(kind)[:40]!r}"
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        return f"{place} refers to {reference[:100]!r}, and only references inside of the schema are followed"
    for keyword in _NAMED:
        for name, item in schema[keyword].items() if isinstance(schema.get(keyword), dict) else ():
            if problem := _problem(item, f"{keyword}.{name}"):
                return problem
    for keyword in _NESTED:
        if problem := _problem(schema.get(keyword), keyword):
            return problem
    return None


def _without_unknown_formats(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_unknown_formats(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(_NAMED, _named_without_unknown_formats),
        **dict.fromkeys(_NESTED, _without_unknown_formats),
    }
    return {
        keyword: inner[keyword](value) if keyword in inner else value
        for keyword, value in schema.items()
        if keyword != "format" or value in _FORMATS
    }


def _named_without_unknown_formats(schemas: Any) -> Any:
    if not isinstance(schemas, dict):
        return schemas
    return {name: _without_unknown_formats(schema) for name, schema in schemas.items()}
