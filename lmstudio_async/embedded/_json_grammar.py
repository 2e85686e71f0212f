"""JSON schemas as grammars in which a small model does not lose its way.

The engine makes a grammar of a schema itself. In that one, blanks are without end, and stand everywhere: a model that
wants to close an object which lacks a member yet says newlines until its context is full. And every object may have
more members than its schema names, which such a model invents one after the other.

Here blanks stand only where people put them, and are few; a number has an end; and an object has the members that its
schema names, unless the schema says ``additionalProperties``. So it is in the grammars that llama.cpp makes of schemas
where it was not built, as ours is, with another library for them.
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
# They say nothing about what the answer may be.
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
# Of what kind a keyword's value must be for us to look into it.
_SHAPES: Final[dict[str, Any]] = (
    {"$ref": str, "anyOf": list, "oneOf": list, "patternProperties": dict, "type": str | list, "properties": dict, "required": list}
    | {"minItems": int, "maxItems": int}
)  # fmt: skip
_LIMITED: Final = frozenset({"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_MOST: Final = 2**53 - 1
_MOST_ITEMS: Final = 1000
_DEEPEST: Final = 60


class _NotCoveredError(Exception):
    """The schema has something that is left to the engine."""


def json_grammar(schema: Mapping[str, Any], thought: tuple[str, str] | None = None) -> str | None:
    """Give the grammar, in the engine's notation, of what a schema allows.

    :param thought: the tags of a thought that the answer may begin with.
    :return: None for a schema with something in it, such as ``allOf``, that only the engine knows how to follow.
        Whether what is in there makes sense shows when the engine reads the grammar.
    """
    try:
        return _Rules(schema).text(thought)
    except _NotCoveredError:
        return None


class _Rules:
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
        """The name of a rule: the one that there is, or a new one."""
        if body not in self._names:
            self._names[body] = self._reserve()
            self._bodies[self._names[body]] = body
        return self._names[body]

    def _reserve(self) -> str:
        """A name for a rule that may refer to itself, and is told later."""
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
        if keywords in ({"oneOf"}, {"oneOf", "discriminator"}) and self._are_told_apart(schema["oneOf"]):
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

    def _are_told_apart(self, schemas: list[Any]) -> bool:
        """Whether no answer fits two of these objects, for a member that each must have is a constant of its own."""
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
        """What has no blanks in it: the engine knows best."""
        alone = {keyword: value for keyword, value in schema.items() if keyword not in _REMARKS}
        if alone.keys() <= _LIMITED and alone.get("type") == "integer":
            # With one limit only, it would have no end in the other direction.
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
        # From the last member to the first one: how the members from here on may begin, and how they may go on.
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
        """The values and the names of a mapping whose keys match one pattern, as of a `dict` of constrained texts."""
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
        """A rule for a member's name: a string, whatever else the schema allows."""
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
            # The engine has no count of nothing.
            items = item if most == 1 else f'{item} ("," BLANK? {item}){count}'
        return self._bracketed("[", items, "]", may_be_empty=not least)

    def _bracketed(self, opening: str, inside: str, closing: str, *, may_be_empty: bool) -> str:
        if inside:
            inside = f"({inside}){'?' if may_be_empty else ''}"
        return self._rule(f'"{opening}" BLANK? {inside} BLANK? "{closing}"')


def _only(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a schema for several types if it is for one."""
    own = _OF_OBJECTS if kind == "object" else _OF_ARRAYS if kind == "array" else _OF_SCALARS
    others = (_OF_OBJECTS | _OF_ARRAYS | _OF_SCALARS) - own
    return {**{keyword: value for keyword, value in schema.items() if keyword not in others}, "type": kind}


def _literal(name: str) -> str:
    """A member's name as JSON, as a word of the grammar."""
    if not name.isprintable():
        raise _NotCoveredError
    return json.dumps(json.dumps(name, ensure_ascii=False), ensure_ascii=False)
