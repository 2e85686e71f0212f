"""Parser of tool calls in the text of an answer, for answers that the engine does not parse itself.

A call names its tool and has its arguments in a JSON object, bare or within marks, or in tags::

    {"name": "add", "parameters": {"a": 1}}
    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>
    <function=add>{"a": 1}</function>
    <function=add><parameter=a>1</parameter></function>

All other text is returned unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from lmstudio_async.embedded._prediction._call_candidate import CallCandidate
from lmstudio_async.embedded._prediction._call_object import TextBuffer, Verdict

__all__ = ["BrokenCall", "CallArguments", "CallEnd", "CallFinder", "CallName", "Found"]


@attrs.frozen
class CallName:
    """The beginning of a call, with the name of its tool."""

    name: str


@attrs.frozen
class CallArguments:
    """A piece of the arguments of a call, in JSON."""

    text: str


@attrs.frozen
class CallEnd:
    """The end of a complete call, whose arguments may be invalid JSON.

    :ivar raw: the text of the call.
    """

    raw: str


@attrs.frozen
class BrokenCall:
    """A call that breaks off, or that names an unknown tool.

    :ivar raw: the text of the call, from its beginning even if a `CallName` was returned for it.
    """

    raw: str


Found = str | CallName | CallArguments | CallEnd | BrokenCall


class CallFinder:
    """Finds calls in a text that arrives in pieces. Holds text back only while it may still become a call.

    :param tools: the tools of the request, in the form of OpenAI's chat completions.
    :param bare: whether a JSON object without marks may be a call too.
    :ivar found_any: whether a complete call was found.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, bare: bool) -> None:
        functions = [tool["function"] for tool in tools]
        self.found_any = False
        self._tools = {str(each["name"]): each.get("parameters") or {} for each in functions}
        self._bare = bare
        self._starts = re.compile(r"[<\[{]" if bare else r"[<\[]")
        self._candidate: CallCandidate | None = None
        # Length of the arguments that were returned so far; None until the name was returned.
        self._reported: int | None = None
        # A broken call: its text goes on to one of the end marks, or to the end of the answer.
        self._broken: TextBuffer | None = None
        self._broken_until: tuple[str, ...] | None = None
        self._found: list[Found] = []

    def feed(self, text: str) -> list[Found]:
        """Parse a piece of text; return certain text and the parts of calls, in their order."""
        self._read(text)
        if self._candidate is not None:
            self._append_call(self._candidate)
        found, self._found = self._found, []
        return found

    def flush(self) -> list[Found]:
        """Return the rest, at the end of the answer."""
        while (candidate := self._candidate) is not None:
            verdict = candidate.end()
            if verdict != "text":
                self._settle(verdict, candidate, "")
                continue
            self._candidate = None
            self._end_broken(candidate.swallowed)
            self._append_text(candidate.held)
        self._end_broken("")
        found, self._found = self._found, []
        return found

    def _read(self, text: str) -> None:
        while text:
            if self._broken is not None and self._broken_until is not None:
                text = self._skip(self._broken, self._broken_until, text)
            elif self._candidate is None:
                start = self._starts.search(text)
                place = len(text) if start is None else start.start()
                self._append_text(text[:place])
                text = text[place:]
                self._candidate = self._new_candidate() if text else None
            else:
                text = self._decide(self._candidate, text)

    def _decide(self, candidate: CallCandidate, text: str) -> str:
        """Feed characters to the candidate until it is decided, and return the text that is still to be read."""
        for place, character in enumerate(text):
            verdict = candidate.take(character)
            if verdict != "open":
                return self._settle(
                    verdict, candidate, text[place + (0 if verdict == "whole before" else 1) :]
                )
        return ""

    def _settle(self, verdict: Verdict, candidate: CallCandidate, rest: str) -> str:
        """Act on the verdict on a candidate, and return the text that is still to be read."""
        self._candidate = None
        if verdict == "text":
            self._end_broken(candidate.swallowed)
            held = candidate.held
            place = max(len(held) - candidate.reread, 1)
            self._append_text(held[:place])
            return held[place:] + rest
        if verdict in ("whole", "whole before"):
            self._append_call(candidate)
            self._found.append(CallEnd(candidate.raw if verdict == "whole" else candidate.raw[:-1]))
            self._reported, self.found_any = None, True
            self._candidate = self._new_candidate(candidate.ends)
            return rest
        self._append_call(candidate)
        self._end_broken(candidate.swallowed)
        self._reported, self._broken = None, TextBuffer()
        for character in candidate.raw:
            self._broken.add(character)
        if verdict == "invented":
            self._candidate = self._new_candidate(candidate.ends)
        else:
            # "]" cannot end a broken call, because it may stand anywhere in the text.
            self._broken_until = tuple(end for end in candidate.ends if end != "]")
        return rest

    def _new_candidate(self, ends: Sequence[str] | None = None) -> CallCandidate:
        return CallCandidate(self._tools, bare=self._bare, after=ends)

    def _skip(self, broken: TextBuffer, ends: Sequence[str], text: str) -> str:
        for place, character in enumerate(text):
            broken.add(character)
            if any(character == end[-1] and broken.since(-len(end)) == end for end in ends):
                self._broken_until, self._candidate = None, self._new_candidate([])
                return text[place + 1 :]
        return ""

    def _append_call(self, candidate: CallCandidate) -> None:
        """Append the parts of a call that are known and were not returned yet."""
        if not candidate.is_call:
            return
        if self._reported is None:
            self._end_broken(candidate.swallowed)
            self._reported = 0
            self._found.append(CallName(candidate.name))
        if piece := candidate.arguments(self._reported):
            self._reported += len(piece)
            self._found.append(CallArguments(piece))

    def _end_broken(self, swallowed: str) -> None:
        if self._broken is not None:
            self._found.append(BrokenCall(self._broken.since(0) + swallowed.rstrip()))
            self._broken = self._broken_until = None

    def _append_text(self, text: str) -> None:
        if not text:
            return
        if self._found and isinstance(last := self._found[-1], str):
            self._found[-1] = last + text
        else:
            self._found.append(text)
