"""Conversion of JSON schemas to grammars that keep a small model from endless output.

The engine can make a grammar of a schema itself. That grammar allows unlimited whitespace everywhere: a model that
tries to close an object which still lacks a required member generates newlines until its context is full. It also
allows more members in every object than the schema names, and a small model invents one after the other.

The grammars of this module allow little whitespace, and only in the usual places; they limit the length of a number;
and they allow only the members that the schema names, unless the schema has ``additionalProperties``. llama.cpp's own
grammars of schemas have the same restrictions, but its build in ``xllamacpp`` uses another library, llguidance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["json_grammar"]

_HEAD: Final = r"""%llguidance {"no_forcing": true}
BLANK: / |\n[ \t]{0,40}/
INTEGER: /-?(0|[1-9][0-9]{0,18})/
NUMBER: /-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?/
"""
_NUMBERS: Final = {"integer": "INTEGER", "number": "NUMBER"}
_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})
# Keywords that put no constraint on the answer.
_REMARKS: Final = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"}
    | {"deprecated", "readOnly", "writeOnly"}
)
_OF_OBJECTS: Final = frozenset({"properties", "required", "additionalProperties", "propertyNames"}) | {
    "patternProperties"
}
_OF_ARRAYS: Final = frozenset({"items", "minItems", "maxItems"})
_OF_SCALARS: Final = frozenset(
    {"minLength", "maxLength", "pattern", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
# The type that the value of a keyword must have before this module reads it.
_SHAPES: Final[dict[str, Any]] = (
    {"$ref": str, "anyOf": list, "oneOf": list, "patternProperties": dict, "type": str | list, "properties": dict, "required": list}
    | {"minItems": int, "maxItems": int}
)  # fmt: skip
_LIMITED: Final = frozenset({"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_MOST: Final = 2**53 - 1
_MOST_ITEMS: Final = 1000
_DEEPEST: Final = 60


class _NotCoveredError(Exception):
    """The schema has a keyword that only the engine's own conversion supports."""


def json_grammar(schema: Mapping[str, Any], thought: tuple[str, str] | None = None) -> str | None:
    """Return the grammar of a schema, in the engine's notation (llguidance).

    :param thought: the opening and closing tag of the reasoning that the answer may begin with.
    :return: None for a schema with a keyword, such as ``allOf``, that only the engine's own conversion supports.
        The values in the schema are not validated here: the engine reports errors in them when it reads the grammar.
    """
    try:
        return _Rules(schema).text(thought)
    except _NotCoveredError:
        return None


class _Rules:
    """The rules of the grammar of one schema. The methods for parts of the schema return names of rules."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._any = ""
        self._depth = 0

    def text(self, thought: tuple[str, str] | None) -> str:
        start = self._value(self._root)
        rules = [f"{name}: {body}" for name, body in self._bodies.items()]
        if thought is not None:
            begin, end = (re.escape(tag).replace("/", r"\/") for tag in thought)
            start = rf"(thought /\s{{0,4}}/)? {start}"
            rules.append(f"thought[lazy]: /{begin}(?s:.*){end}/")
        return _HEAD + "\n".join([f"start: {start}", *rules]) + "\n"

    def _rule(self, body: str) -> str:
        """Return the name of the rule with this body; add the rule if there is none yet."""
        if body not in self._names:
            self._names[body] = self._reserve()
            self._bodies[self._names[body]] = body
        return self._names[body]

    def _reserve(self) -> str:
        """Return a name for a rule whose body is set later, because the body may refer to the rule itself."""
        name = f"r{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def _value(self, schema: Any) -> str:
        if schema is True or (isinstance(schema, dict) and not schema.keys() - _REMARKS):
            return self._anything()
        if not isinstance(schema, dict) or self._depth > _DEEPEST:
            raise _NotCoveredError
        if not all(
            isinstance(schema[keyword], _SHAPES[keyword]) for keyword in schema.keys() & _SHAPES.keys()
        ):
            raise _NotCoveredError
        self._depth += 1
        rule = self._of(schema, schema.keys() - _REMARKS)
        self._depth -= 1
        return rule

    def _of(self, schema: dict[str, Any], keywords: set[str]) -> str:
        if keywords == {"$ref"}:
            return self._referred(schema["$ref"])
        if keywords == {"anyOf"}:
            return self._one_of(schema["anyOf"])
        if keywords in ({"oneOf"}, {"oneOf", "discriminator"}) and self._exclude_each_other(schema["oneOf"]):
            return self._one_of(schema["oneOf"])
        if keywords & {"enum", "const"}:
            return self._leaf(schema)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._one_of([_only(kind, schema) for kind in kinds])
        if kinds == "object" and keywords <= _OF_OBJECTS | {"type"}:
            return self._object(schema)
        if kinds == "array" and keywords <= _OF_ARRAYS | {"type"}:
            return self._array(schema)
        if kinds in _NUMBERS and keywords == {"type"}:
            return _NUMBERS[kinds]
        if kinds in _SCALARS:
            return self._leaf(schema)
        raise _NotCoveredError

    def _one_of(self, schemas: list[Any]) -> str:
        if not schemas:
            raise _NotCoveredError
        return self._rule(" | ".join(map(self._value, schemas)))

    def _exclude_each_other(self, schemas: list[Any]) -> bool:
        """Whether the objects exclude each other, because a required member has a different constant in each."""
        constants: dict[str, list[str]] = {}
        for schema in map(self._without_reference, schemas):
            if not isinstance(schema, dict) or schema.get("type") != "object":
                return False
            members, required = schema.get("properties"), schema.get("required")
            if not isinstance(members, dict) or not isinstance(required, list):
                return False
            for name, member in members.items():
                if name in required and isinstance(member, dict) and isinstance(member.get("const"), str):
                    constants.setdefault(name, []).append(member["const"])
        return any(len({*found}) == len(schemas) for found in constants.values())

    def _anything(self) -> str:
        if not self._any:
            self._any = self._reserve()
            scalars = (self._value({"type": kind}) for kind in ("string", "number", "boolean", "null"))
            self._bodies[self._any] = " | ".join([self._object({}), self._array({}), *scalars])
        return self._any

    def _leaf(self, schema: Mapping[str, Any]) -> str:
        """Return a rule for a value without whitespace in it, which the engine converts itself."""
        alone = {keyword: value for keyword, value in schema.items() if keyword not in _REMARKS}
        if alone.keys() <= _LIMITED and alone.get("type") == "integer":
            # Set both limits: with only one, the integer would be unbounded in the other direction.
            alone = {"minimum": -_MOST, "maximum": _MOST, **alone}
        return self._rule(f"%json {json.dumps({**alone, 'x-guidance': {'whitespace_flexible': False}})}")

    def _referred(self, reference: str) -> str:
        if reference not in self._references:
            target = self._target(reference)
            name = self._references[reference] = self._reserve()
            self._bodies[name] = self._value(target)
        return self._references[reference]

    def _target(self, reference: str) -> Any:
        target: Any = self._root
        if reference != "#":
            for escaped in reference.removeprefix("#/").split("/"):
                step = escaped.replace("~1", "/").replace("~0", "~")
                if not isinstance(target, dict) or step not in target:
                    raise _NotCoveredError
                target = target[step]
        return target

    def _object(self, schema: Mapping[str, Any]) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        further = schema.get("additionalProperties", not properties)
        patterns = schema.get("patternProperties", {})
        if properties and schema.keys() & {"propertyNames", "patternProperties"}:
            raise _NotCoveredError
        if patterns:
            return self._map(*self._patterned(schema, patterns))
        is_named = all(isinstance(name, str) and name in properties for name in required)
        if not is_named or (properties and further is not False):
            raise _NotCoveredError
        if further is not False:
            return self._map(further, schema.get("propertyNames"))
        # Go from the last member to the first. `starts` are the alternatives if the current member or a later one is
        # the first in the object; `rest` is the rule for the members that follow the current one.
        starts: list[str] = []
        rest = ""
        may_be_empty = True
        for name, of_it in reversed(properties.items()):
            member, is_required = f'{_literal(name)} ":" BLANK? {self._value(of_it)}', name in required
            starts = [f"{member} {rest}", *([] if is_required else starts)]
            may_be_empty = may_be_empty and not is_required
            further_one = f'"," BLANK? {member}'
            rest = self._rule(f"{further_one if is_required else f'({further_one})?'} {rest}")
        return self._bracketed("{", " | ".join(starts), "}", may_be_empty=may_be_empty)

    def _patterned(self, schema: Mapping[str, Any], patterns: dict[str, Any]) -> tuple[Any, Any]:
        """Return the schemas of values and names of a mapping whose keys match one pattern.

        Pydantic writes such a schema for a `dict` whose keys are constrained strings.
        """
        if (
            len(patterns) > 1
            or schema.get("additionalProperties", False)
            or schema.keys() & {"propertyNames", "required"}
        ):
            raise _NotCoveredError
        ((pattern, values),) = patterns.items()
        return values, {"pattern": pattern}

    def _map(self, schema: Any, names: Any) -> str:
        name = self._leaf({"type": "string"}) if names in (None, True) else self._name(names)
        member = self._rule(f'{name} ":" BLANK? {self._value(schema)}')
        return self._bracketed("{", f'{member} ("," BLANK? {member})*', "}", may_be_empty=True)

    def _without_reference(self, schema: Any) -> Any:
        for _ in range(_DEEPEST):
            if not (isinstance(schema, dict) and isinstance(schema.get("$ref"), str)):
                break
            if schema.keys() - _REMARKS != {"$ref"}:
                break
            schema = self._target(schema["$ref"])
        return schema

    def _name(self, schema: Any) -> str:
        """Return a rule for the name of a member: a string, even if the schema allows other types."""
        schema = self._without_reference(schema)
        if not isinstance(schema, dict) or schema.get("type", "string") != "string":
            raise _NotCoveredError
        keywords = schema.keys() - _REMARKS - {"type"}
        if keywords in ({"enum"}, {"const"}):
            choices = schema["enum"] if keywords == {"enum"} else [schema["const"]]
            texts = [name for name in choices if isinstance(name, str)] if isinstance(choices, list) else []
            if texts:
                return self._leaf({"enum": texts})
        elif keywords <= {"minLength", "maxLength", "pattern", "format"}:
            return self._leaf({**schema, "type": "string"})
        raise _NotCoveredError

    def _array(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems", _MOST_ITEMS)
        if not 0 <= least <= most <= _MOST_ITEMS:
            raise _NotCoveredError
        items = ""
        if most:
            item = self._value(schema.get("items", True))
            count = f"{{{max(least - 1, 0)},{most - 1 if 'maxItems' in schema else ''}}}"
            # The engine does not accept a repetition of zero times.
            items = item if most == 1 else f'{item} ("," BLANK? {item}){count}'
        return self._bracketed("[", items, "]", may_be_empty=not least)

    def _bracketed(self, opening: str, inside: str, closing: str, *, may_be_empty: bool) -> str:
        if inside:
            inside = f"({inside}){'?' if may_be_empty else ''}"
        return self._rule(f'"{opening}" BLANK? {inside} BLANK? "{closing}"')


def _only(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a schema for several types that applies to one of them."""
    own = _OF_OBJECTS if kind == "object" else _OF_ARRAYS if kind == "array" else _OF_SCALARS
    others = (_OF_OBJECTS | _OF_ARRAYS | _OF_SCALARS) - own
    return {**{keyword: value for keyword, value in schema.items() if keyword not in others}, "type": kind}


def _literal(name: str) -> str:
    """Return the JSON string of a member's name as a literal of the grammar."""
    if not name.isprintable():
        raise _NotCoveredError
    return json.dumps(json.dumps(name, ensure_ascii=False), ensure_ascii=False)
