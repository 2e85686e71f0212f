"""A JSON object that may be a tool call, parsed character by character."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any, Final, Literal

__all__ = ["CallObject", "JsonValue", "TextBuffer", "Verdict"]

#: The text so far may become a call, is no call, is a complete call, was a complete call before the last character, is
#: an invalid call, or is a call of an unknown tool.
Verdict = Literal["open", "text", "whole", "whole before", "broken", "invented"]

_NAMES: Final = frozenset({"name", "tool_name", "function"})
_ARGUMENTS: Final = frozenset({"arguments", "parameters"})
_KEYS: Final = _NAMES | _ARGUMENTS | {"type", "id", "tool_call_id"}
# Characters of a name, an identifier or a type.
_LONGEST_WORD: Final = 200


class TextBuffer:
    """A text that grows character by character, at a constant cost per character."""

    def __init__(self) -> None:
        self._characters: list[str] = []

    def __len__(self) -> int:
        return len(self._characters)

    def add(self, character: str) -> None:
        """Append a character."""
        self._characters.append(character)

    def since(self, place: int) -> str:
        """Return the text from ``place`` on; a negative place counts from the end."""
        return "".join(self._characters[place:])


class JsonValue:
    """A JSON object, list or string, parsed up to its end.

    :ivar buffer: the text so far.
    :ivar is_object: whether it begins with a brace.
    """

    def __init__(self) -> None:
        self.buffer = TextBuffer()
        self.is_object = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def take(self, character: str) -> bool:
        """Append a character; return whether the value is complete."""
        self.is_object = self.is_object or (character == "{" and not self.buffer)
        self.buffer.add(character)
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        return not self._in_string and self._depth <= 0


class CallObject:
    """An object with the name of a tool, its arguments, and nothing else but an id and a type.

    The parser only finds the end of the arguments. It leaves invalid JSON within them to the receiver of the call.

    :param tools: the names of the tools of the request.
    :param marked: whether the object stands within marks that only calls have.
    :ivar name: the name of the tool; None until it is known.
    """

    def __init__(self, tools: Container[str], *, marked: bool) -> None:
        self.name: str | None = None
        self._tools = tools
        self._marked = marked
        self._state: Literal["start", "key", "in key", "colon", "value", "in value", "literal", "comma"] = (
            "start"
        )
        self._levels = 0
        self._key = ""
        self._value = JsonValue()
        self._has_arguments = False
        self._arguments: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether it names a tool of the request."""
        return self.name is not None and self.name in self._tools

    @property
    def is_call(self) -> bool:
        """Whether it is certainly a call, though maybe an incomplete one."""
        return self.is_known and (self._arguments is not None or self._reads_arguments)

    @property
    def _reads_arguments(self) -> bool:
        return self._state == "in value" and self._key in _ARGUMENTS and self._value.is_object

    def arguments(self, place: int) -> str:
        """Return the JSON of the arguments from ``place`` on, as far as it has arrived."""
        if self._arguments is not None:
            return self._arguments[place:]
        return self._value.buffer.since(place) if self._reads_arguments else ""

    def take(self, character: str) -> Verdict:
        """Parse one more character, and return the verdict on the text so far."""
        if self._state in ("in key", "in value", "literal"):
            return self._within(character)
        if character.isspace():
            return "open" if self._state != "start" else "text"
        match self._state, character:
            case "start", "{":
                self._levels, self._state = 1, "key"
            case "key", '"':
                self._key, self._state = "", "in key"
            case "colon", ":":
                self._state = "value"
            case "value", _:
                return self._begin_value(character)
            case "comma", ",":
                self._state = "key"
            case (("comma" | "key"), "}"):
                self._levels, self._state = self._levels - 1, "comma"
                return self._whole() if not self._levels else "open"
            case _:
                return self._no_object()
        return "open"

    def end(self) -> Verdict:
        """Return the verdict at the end of the answer."""
        if self.is_call and self._arguments is not None:
            return "whole"
        named = self.name is not None and self._has_arguments
        return "broken" if self._marked or self.is_known or named else "text"

    def _within(self, character: str) -> Verdict:
        if self._state == "in value":
            if self._value.take(character):
                self._state = "comma"
                return self._end_value()
            is_word = self._key not in _ARGUMENTS and not self.is_call
            return "text" if is_word and len(self._value.buffer) > _LONGEST_WORD else "open"
        if self._state == "literal":
            if character.isalnum() or character in "+-.":
                return "open"
            self._state = "comma"
            return self.take(character)
        if character == '"':
            self._state = "colon"
            if self._key in _ARGUMENTS:
                self._has_arguments = True
            return "open" if self._key in _KEYS or self.is_call else self._no_call()
        self._key += character
        fits = self.is_call or any(key.startswith(self._key) for key in _KEYS)
        return "open" if fits else self._no_call()

    def _begin_value(self, character: str) -> Verdict:
        if character == "{" and self._key == "function" and self._levels == 1 and not self.is_call:
            # In the form of OpenAI the call is an object within another one.
            self._levels, self._state = 2, "key"
            return "open"
        fits = character == '"' or (character == "{" and self._key in _ARGUMENTS)
        if fits or (character in "{[" and self.is_call):
            self._value, self._state = JsonValue(), "in value"
            self._value.take(character)
            return "open"
        if character.isalnum() or character == "-":
            self._state = "literal"
            is_number_or_null = self.is_call or self._key in ("id", "tool_call_id") or character == "n"
            return "open" if is_number_or_null else self._no_object()
        return self._no_object()

    def _end_value(self) -> Verdict:
        if self.is_call and self._arguments is not None:
            return "open"
        text = self._value.buffer.since(0)
        if self._key in _ARGUMENTS:
            self._arguments = text if self._value.is_object else _unquoted(text)
        elif self._key in _NAMES:
            self.name = _unquoted(text)
        elif self._key == "type" and text != '"function"':
            return self._no_call()
        return "open"

    def _whole(self) -> Verdict:
        if self._arguments is None and self._marked and self.is_known:
            self._arguments = "{}"
        if self.is_call:
            return "whole"
        named = self.name is not None and (self._marked or self._arguments is not None)
        return "invented" if named else "text"

    def _no_call(self) -> Verdict:
        """Return the verdict on an object with a key or a value that no call has."""
        return "broken" if self._marked and self.name is not None else "text"

    def _no_object(self) -> Verdict:
        """Return the verdict on a text that is no JSON object."""
        if self.is_call and self._arguments is not None:
            return "whole before"
        return "broken" if self.is_known and self._has_arguments else self._no_call()


def _unquoted(text: str) -> str:
    try:
        value: Any = json.loads(text, strict=False)
    except ValueError:
        return text
    return value if isinstance(value, str) else text
