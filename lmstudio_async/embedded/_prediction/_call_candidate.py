"""A place in an answer where a tool call may begin, parsed character by character."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from lmstudio_async.embedded._prediction._call_object import CallObject, JsonValue, TextBuffer, Verdict

__all__ = ["CallCandidate"]

# Start mark of a call -> its end mark, empty if it has none.
_MARKS: Final = {
    "<tool_call>": "</tool_call>",
    "<tool_calls>": "</tool_calls>",
    "<|tool_call|>": "",
    "<|python_tag|>": "",
    "[TOOL_CALLS]": "",
}
_FUNCTION, _FUNCTION_END, _PARAMETER = "<function=", "</function>", "<parameter="
_LONGEST_NAME: Final = 200
_PARAMETERS: Final = re.compile(r"<parameter=([^>]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)


class CallCandidate:
    """A text that may be a tool call: marks, followed by an object or a function.

    :param tools: the schemas of the arguments, by the name of the tool.
    :param bare: whether a JSON object without marks may be a call too.
    :param after: the end marks that the previous call may have; None if no call stands directly before.
    :ivar swallowed: the marks and the white space between the previous call and the held text.
    :ivar ends: the end marks that may follow.
    """

    def __init__(self, tools: Mapping[str, Any], *, bare: bool, after: Sequence[str] | None) -> None:
        self.swallowed = ""
        self.ends = list(after or ())
        self._tools = tools
        self._bare = bare
        self._stage: Literal["gap", "mark", "marked", "object", "function", "body", "json", "tags"]
        self._stage = "mark" if after is None else "gap"
        self._held = TextBuffer()
        # Where the call begins in the held text, because separators before the call are held too.
        self._begin = 0
        self._mark = ""
        self._is_marked = False
        self._is_listed = False
        self._object = CallObject(tools, marked=False)
        self._function = ""
        self._json = JsonValue()
        self._tags = TextBuffer()
        self._parameters: str | None = None

    @property
    def held(self) -> str:
        """The whole text so far, for a candidate that is no call."""
        return self._held.since(0)

    @property
    def raw(self) -> str:
        """The text of the call, without separators before it."""
        return self._held.since(self._begin)

    @property
    def reread(self) -> int:
        """Number of characters at the end of the held text that may begin another call, if this is no call."""
        # Only the tags of a function and the last character can contain the beginning of another candidate.
        return len(self._tags) or 1

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self._object.name or "" if self._stage == "object" else self._function

    def arguments(self, place: int) -> str:
        """Return the JSON of the arguments from ``place`` on, as far as it has arrived."""
        if self._stage == "object":
            return self._object.arguments(place)
        return self._json.buffer.since(place) if self._parameters is None else self._parameters[place:]

    @property
    def is_call(self) -> bool:
        """Whether the text is certainly a call of a known tool, though maybe an incomplete one."""
        if self._stage == "object":
            return self._object.is_call
        return self._function in self._tools and (bool(self._json.buffer) or self._parameters is not None)

    def take(self, character: str) -> Verdict:
        """Parse one more character, and return the verdict on the text so far."""
        if self._stage == "gap" and (verdict := self._take_gap(character)):
            return verdict
        self._held.add(character)
        match self._stage:
            case "gap" | "mark":
                self._stage = "mark"
                return self._take_mark(character)
            case "marked":
                return "open" if character.isspace() else self._take_after_mark(character)
            case "object":
                return self._object.take(character)
            case "function":
                return self._take_name(character)
            case "body":
                return "open" if character.isspace() else self._take_body(character)
            case "json":
                return self._whole() if self._json.take(character) else "open"
            case "tags":
                return self._take_tags(character)

    def end(self) -> Verdict:
        """Return the verdict at the end of the answer."""
        if self._stage == "object":
            return self._object.end()
        return "broken" if self._stage in ("json", "tags") else "text"

    # -- before and between calls

    def _take_gap(self, character: str) -> Verdict | None:
        """Parse white space or a separator between calls; return None for any other character."""
        if character.isspace() and not self._held:
            self.swallowed += character
            return "open"
        if character.isspace() or (character in ";," and not self._held):
            self._held.add(character)
            self._begin = len(self._held)
            return "open"
        return None

    def _take_mark(self, character: str) -> Verdict:
        self._mark += character
        if self._mark in self.ends:
            self.swallowed += self._mark
            self.ends.remove(self._mark)
            self._held, self._begin, self._mark = TextBuffer(), 0, ""
            self._stage = "gap"
            return "open"
        if self._mark == "{":
            return self._begin_object(character) if self._bare or self.ends else "text"
        if self._mark in _MARKS:
            return self._end_mark()
        if self._mark == _FUNCTION:
            self._stage = "function"
            return "open"
        if any(mark.startswith(self._mark) for mark in (*_MARKS, _FUNCTION, *self.ends)):
            return "open"
        if self._mark[0] == "[" and len(self._mark) == 2 and self._bare:
            self._begin_list()
            return "open" if character.isspace() else self._take_after_mark(character)
        return "text"

    def _end_mark(self) -> Verdict:
        if not self._is_marked:
            self.ends = []
        if (end := _MARKS[self._mark]) and end not in self.ends:
            self.ends.append(end)
        self._mark, self._is_marked = "", True
        self._stage = "marked"
        return "open"

    def _begin_list(self) -> None:
        if not self._is_marked:
            self.ends = []
        self._is_listed = True
        self.ends.append("]")
        self._stage = "marked"

    def _take_after_mark(self, character: str) -> Verdict:
        if character == "[" and not self._is_listed:
            self._begin_list()
            return "open"
        if character == "<" and not self._is_listed:
            self._mark, self._stage = character, "mark"
            return "open"
        return self._begin_object(character) if character == "{" else "text"

    # -- objects

    def _begin_object(self, character: str) -> Verdict:
        marked = self._is_marked or any(end != "]" for end in self.ends)
        self._object, self._stage = CallObject(self._tools, marked=marked), "object"
        return self._object.take(character)

    # -- functions

    def _take_name(self, character: str) -> Verdict:
        if character == ">" and self._function:
            self._stage = "body"
            return "open"
        self._function += character
        is_name = not character.isspace() and character not in "<>={}"
        return "open" if is_name and len(self._function) <= _LONGEST_NAME else "text"

    def _take_body(self, character: str) -> Verdict:
        if character == "{":
            self._stage = "json"
            self._json.take(character)
            return "open"
        self._stage = "tags"
        return self._take_tags(character)

    def _take_tags(self, character: str) -> Verdict:
        self._tags.add(character)
        if len(self._tags) <= len(_PARAMETER):
            begun = self._tags.since(0)
            if not (_PARAMETER.startswith(begun) or _FUNCTION_END.startswith(begun)):
                return "text"
        ends = (_FUNCTION_END, *self.ends)
        end = next((end for end in ends if character == end[-1] and self._tags.since(-len(end)) == end), None)
        if end is None:
            return "open"
        if end != _FUNCTION_END:
            self.ends.remove(end)
        self._parameters = self._read_parameters(self._tags.since(0).removesuffix(end))
        return "whole" if self._function in self._tools else "invented"

    def _whole(self) -> Verdict:
        self.ends.append(_FUNCTION_END)
        return "whole" if self._function in self._tools else "invented"

    def _read_parameters(self, tags: str) -> str:
        schema = self._tools.get(self._function)
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        properties = properties if isinstance(properties, Mapping) else {}
        return json.dumps(
            {
                key: _value(text.removeprefix("\n").removesuffix("\n"), properties.get(key))
                for key, text in _PARAMETERS.findall(tags)
            },
            ensure_ascii=False,
        )


def _value(text: str, schema: Any) -> Any:
    """Read the value of a parameter tag, in which a string has no quotes."""
    if isinstance(schema, Mapping) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
