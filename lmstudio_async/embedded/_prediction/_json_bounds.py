"""Size limits for the schemas, tools and grammars of clients.

The limits are needed because the event loop walks this JSON, and the engine expands it in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["count_problem", "grammar_problem", "size_problem"]

_MOST_VALUES: Final = 10_000
_MOST_CHARACTERS: Final = 1_000_000
_DEEPEST: Final = 100
# Measured with the engine: 20,000 items cost 0.4 s and 50 MB, 10**9 items exhaust the memory of the machine. The
# engine crashes at some number of properties between 2,000 and 3,000.
_MOST_ITEMS: Final = 10_000
_ITEMS_TOGETHER: Final = 20_000
_MOST_PROPERTIES: Final = 1000
# At these limits, the engine takes 0.2 s for the choices, and 0.3 s for the optional parts in a row; both times grow
# faster than the number. Tens of thousands of nested brackets crash the engine.
_LONGEST_GRAMMAR: Final = 500_000
_MOST_CHOICES: Final = 5000
_MOST_OPTIONAL: Final = 100
# The closing quote is optional: an unclosed string extends to the end of the grammar, because a search that starts
# again at each quote would take quadratic time.
_TEXTS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|\[(?:[^\]\\]|\\.)*\]?|#[^\n]*', re.DOTALL)
_BRACKETS: Final = re.compile(r"[()]")
_OPTIONAL: Final = re.compile(r"[?*]|\{(?:0+|0*,)")


def size_problem(value: Any) -> str | None:
    """Return the reason why JSON is too large, or None if it is small enough. This check takes bounded time itself."""
    values, characters = 1, 0
    for key, inner, depth in _walk(value):
        # Count the members of a container before the walk reaches them, so that the walk itself stays bounded.
        values += len(inner) if isinstance(inner, dict | list) else 0
        characters += len(key) + (len(inner) if isinstance(inner, str) else 0)
        if values > _MOST_VALUES:
            return f"there are more than {_MOST_VALUES} values in it"
        if characters > _MOST_CHARACTERS:
            return f"there are more than {_MOST_CHARACTERS} characters in it"
        if depth > _DEEPEST:
            return f"it is nested more than {_DEEPEST} deep"
    return None


def count_problem(schema: Any) -> str | None:
    """Return the reason why a schema has too many items or properties for the engine, or None if it has not."""
    together = properties = 0
    # Check every object in the JSON, because a `$ref` may use any of them as a schema.
    for key, inner, _ in _walk(schema):
        if key == "properties" and isinstance(inner, dict):
            properties += len(inner)
        elif key in ("minItems", "maxItems") and isinstance(inner, int | float):
            if inner > _MOST_ITEMS:
                return f"{key} is {inner:.0f}, and {_MOST_ITEMS} is the most that the engine can count to"
            together += int(max(inner, 0))
    if together > _ITEMS_TOGETHER:
        return f"minItems and maxItems are {together} all together, and {_ITEMS_TOGETHER} is the most"
    if properties > _MOST_PROPERTIES:
        return f"it names {properties} properties, and {_MOST_PROPERTIES} is the most"
    return None


def grammar_problem(grammar: str) -> str | None:
    """Return the reason why a GBNF grammar is too large for the engine, or None if it is not."""
    if len(grammar) > _LONGEST_GRAMMAR:
        return f"it has {len(grammar)} characters, and {_LONGEST_GRAMMAR} is the most"
    # Replace strings, character classes and comments, because the marks inside them are not operators.
    rules = _TEXTS.sub('""', grammar)
    if (choices := rules.count("|")) > _MOST_CHOICES:
        return f"it has {choices} marks of a choice (|), and {_MOST_CHOICES} is the most"
    depth = deepest = 0
    for mark in _BRACKETS.findall(rules):
        depth += 1 if mark == "(" else -1
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        return f"its brackets are nested {deepest} deep, and {_DEEPEST} is the most"
    for rule in rules.split("::="):
        if (optional := len(_OPTIONAL.findall(rule))) > _MOST_OPTIONAL:
            return f"a rule has {optional} parts that may be left out, and {_MOST_OPTIONAL} is the most"
    return None


def _walk(value: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield each value in JSON with its member name (empty outside of objects) and its depth."""
    ahead: list[tuple[str, Any, int]] = [("", value, 0)]
    while ahead:
        key, here, depth = ahead.pop()
        yield key, here, depth
        if isinstance(here, dict):
            ahead += [(name, inner, depth + 1) for name, inner in here.items()]
        elif isinstance(here, list):
            ahead += [("", inner, depth + 1) for inner in here]
