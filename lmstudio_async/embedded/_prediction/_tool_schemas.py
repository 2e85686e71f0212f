"""Conversion of the schemas of tools to a form that the engine can parse.

The engine makes a parser and a grammar of the tools' schemas. One schema that it does not support fails the whole
request, and some schemas make it hang: contradictory bounds, circular references, thousands of optional properties. So
the engine gets a copy with only the keywords and values that it is known to support, within size limits. The copy
allows more than the original if a part is left out. The prompt still contains the original.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from lmstudio_async._wire._json import real_number

__all__ = ["loosened", "tool_fields"]

_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_FORMATS: Final = frozenset({"date", "time", "date-time", "uuid"})
_OF_TYPES: Final = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
}
# Pairs of lower and upper bounds.
_RANGES: Final = (
    (("minItems",), ("maxItems",)),
    (("minLength",), ("maxLength",)),
    (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")),
)
_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength"})
_COMBINED: Final = ("anyOf", "oneOf", "allOf")
_REMARKS: Final = ("title", "description")

# Within these limits the engine takes at most two seconds, on one core, and 20 MB.
_MOST_NODES: Final = 4000
_DEEPEST: Final = 32
_MOST_PROPERTIES: Final = 150
_MOST_CHOICES: Final = 500
_HIGHEST_COUNT: Final = 1000
_COUNTS_TOGETHER: Final = 10_000
_LONGEST_PATTERN: Final = 500
_MOST_HOPS: Final = 300
_HIGHEST_INTEGER: Final = 2**53 - 1

# The engine misreads look-arounds, flags and other escapes. Python's `re` warns about the rest.
_NOT_IN_PATTERNS: Final = re.compile(r"\(\?(?!:)|\\[^\WwdsWDSnrt]|\[\[|--|&&|~~|\|\|")


def tool_fields(tools: list[dict[str, Any]], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a request that give loosened tools to the engine's parser, and the originals to the model.

    :param tools: the tools, in the form of OpenAI's chat completions.
    :param variables: further variables for the chat template.
    :return: ``tools`` and ``chat_template_kwargs``, as far as there are any.
    """
    fields: dict[str, Any] = {}
    parsed = loosened(tools)
    if parsed:
        fields["tools"] = parsed
    # The variable `tools` takes precedence over the tools that the engine passes to the template.
    template_kwargs = {**variables, "tools": tools} if parsed != tools else dict(variables)
    if template_kwargs:
        fields["chat_template_kwargs"] = template_kwargs
    return fields


def loosened(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools with schemas that the engine supports. Supported schemas are not changed.

    :param tools: the tools, in the form of OpenAI's chat completions.

    ::

        tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}
        loosened([tool])[0]["function"]["parameters"]  # {"type": "object", "additionalProperties": True}
    """
    budget = _SizeBudget()
    return [{**tool, "function": _function(tool["function"], budget)} for tool in tools]


def _function(function: Mapping[str, Any], budget: _SizeBudget) -> dict[str, Any]:
    if function.get("parameters") is None:
        return {name: value for name, value in function.items() if name != "parameters"}
    return {**function, "parameters": _Loosening(function["parameters"], budget).whole()}


class _SizeBudget:
    """The remaining size limits for the schemas of all tools together."""

    def __init__(self) -> None:
        self._nodes = _MOST_NODES
        self._counts = _COUNTS_TOGETHER

    def take_node(self) -> bool:
        self._nodes -= 1
        return self._nodes >= 0

    def take_counts(self, number: int) -> bool:
        if number > _HIGHEST_COUNT or number > self._counts:
            return False
        self._counts -= number
        return True


class _Loosening:
    """The conversion of the schema of one tool."""

    def __init__(self, root: Any, budget: _SizeBudget) -> None:
        self._root = root
        self._budget = budget
        self._definitions: dict[str, Any] = {}
        self._names: dict[str, str | None] = {}

    def whole(self) -> dict[str, Any]:
        schema = self._schema(self._root, 0)
        if self._definitions:
            schema["$defs"] = self._definitions
        if schema != self._root and not schema.keys() - {"type", *_REMARKS}:
            # Allow properties explicitly, because the engine allows none in an object whose schema names none.
            schema |= {"type": "object", "additionalProperties": True}
        return schema

    def _schema(self, schema: Any, depth: int) -> dict[str, Any]:
        """Return the converted schema, or ``{}`` if the engine does not support it."""
        if not isinstance(schema, dict) or depth > _DEEPEST or not self._budget.take_node():
            return {}
        remarks = {name: schema[name] for name in _REMARKS if isinstance(schema.get(name), str)}
        if "$ref" in schema:
            name = self._definition(schema["$ref"], depth)
            return remarks if name is None else {**remarks, "$ref": f"#/$defs/{name}"}
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "type" in schema and not (
            kinds and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
        ):
            return remarks
        keywords = self._keywords(schema, depth, kinds)
        return {
            name: remarks.get(name, keywords.get(name, schema[name]))
            for name in schema
            if name in remarks or name in keywords or name == "type"
        }

    def _keywords(self, schema: dict[str, Any], depth: int, kinds: list[str]) -> dict[str, Any]:
        """Return the other keywords that the engine supports."""
        own = self._of_objects(schema, depth) | self._of_arrays(schema, depth)
        own |= self._of_strings(schema) | self._bounds(schema)
        allowed = frozenset().union(*(_OF_TYPES.get(kind, ()) for kind in kinds or _OF_TYPES))
        own = {name: value for name, value in own.items() if name in allowed}
        own |= {name: schema[name] for name in ("const", "default") if name in schema}
        for name in _COMBINED:
            value = schema.get(name)
            if isinstance(value, list) and 0 < len(value) <= _MOST_CHOICES:
                own[name] = [self._schema(item, depth + 1) for item in value]
        choices = schema.get("enum")
        if isinstance(choices, list) and choices and self._budget.take_counts(len(choices)):
            own["enum"] = choices
        return own

    def _of_objects(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        properties, required = schema.get("properties"), schema.get("required")
        if isinstance(properties, dict) and len(properties) <= _MOST_PROPERTIES:
            own["properties"] = {name: self._schema(value, depth + 1) for name, value in properties.items()}
            if isinstance(required, list):
                own["required"] = [name for name in required if isinstance(name, str) and name in properties]
        further = schema.get("additionalProperties")
        if isinstance(further, dict):
            own["additionalProperties"] = self._schema(further, depth + 1)
        elif isinstance(further, bool) and ("properties" in own or "properties" not in schema):
            own["additionalProperties"] = further
        return own

    def _of_arrays(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for name in ("items", "prefixItems"):
            value = schema.get(name)
            if isinstance(value, dict) and name == "items":
                own[name] = self._schema(value, depth + 1)
            elif isinstance(value, list) and 0 < len(value) <= _MOST_CHOICES:
                # In earlier drafts of JSON schema, a list as "items" has the meaning of "prefixItems".
                own[name] = [self._schema(item, depth + 1) for item in value]
        return own

    def _of_strings(self, schema: dict[str, Any]) -> dict[str, Any]:
        own = {name: schema[name] for name in ("pattern", "format") if isinstance(schema.get(name), str)}
        if own.get("format") not in _FORMATS:
            own.pop("format", None)
        if "pattern" in own and not (
            _is_usable(own["pattern"]) and self._budget.take_counts(_size(own["pattern"]))
        ):
            del own["pattern"]
        return own

    def _bounds(self, schema: dict[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for lows, highs in _RANGES:
            found = {name: self._bound(name, schema.get(name)) for name in lows + highs}
            found = {name: bound for name, bound in found.items() if bound is not None}
            least = max((found[name] + _step(name) for name in lows if name in found), default=-math.inf)
            most = min((found[name] - _step(name) for name in highs if name in found), default=math.inf)
            # Contradictory bounds make the engine hang.
            if least <= most:
                own |= found
        return own

    def _bound(self, name: str, value: Any) -> Any:
        number = real_number(value)
        if number is None or not -_HIGHEST_INTEGER <= number <= _HIGHEST_INTEGER or number % 1:
            return None
        if name in _COUNTS and (number < 0 or not self._budget.take_counts(int(number))):
            return None
        return int(number)

    # -- references

    def _definition(self, reference: Any, depth: int) -> str | None:
        """Return the name of the definition for a reference, or None if the reference cannot be resolved."""
        if not isinstance(reference, str):
            return None
        if reference not in self._names:
            target = self._target(reference)
            if target is None or not self._ends(reference):
                self._names[reference] = None
            else:
                # Reserve the name first, because the definition may refer to itself.
                name = self._names[reference] = f"d{len(self._definitions)}"
                self._definitions[name] = {}
                self._definitions[name] = self._schema(target, depth + 1)
        return self._names[reference]

    def _target(self, reference: str) -> dict[str, Any] | None:
        if reference != "#" and not reference.startswith("#/"):
            return None
        target = self._root
        for escaped in reference.split("/")[1:]:
            step = unquote(escaped).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and step.isascii() and step.isdigit() and int(step) < len(target):
                target = target[int(step)]
            elif isinstance(target, dict) and step in target:
                target = target[step]
            else:
                return None
        return target if isinstance(target, dict) else None

    def _ends(self, reference: str) -> bool:
        """Whether a chain of references for the same value ends soon. The engine follows it without a limit."""
        ahead: list[Any] = [self._target(reference)]
        for _ in range(_MOST_HOPS):
            if not ahead:
                return True
            here = ahead.pop()
            if isinstance(here, dict):
                if isinstance(here.get("$ref"), str):
                    ahead.append(self._target(here["$ref"]))
                for name in _COMBINED:
                    ahead += here[name] if isinstance(here.get(name), list) else []
        return False


def _step(name: str) -> int:
    return 1 if name.startswith("exclusive") else 0


def _is_usable(pattern: str) -> bool:
    """Whether the engine interprets a pattern correctly."""
    if len(pattern) > _LONGEST_PATTERN or _NOT_IN_PATTERNS.search(pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _size(pattern: str) -> int:
    """Return the sum of all repetition counts in a pattern."""
    return sum(int(number[:9]) for number in re.findall(r"[{,](\d+)", pattern))
