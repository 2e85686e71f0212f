"""Tool calls in the text of an answer, for the answers that the engine's own parser does not read.

A call names its tool and has its arguments in a JSON object, bare or within marks, or in tags::

    {"name": "add", "parameters": {"a": 1}}
    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>
    <function=add>{"a": 1}</function>
    <function=add><parameter=a>1</parameter></function>

Everything else is text, and comes back letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from lmstudio_async.embedded._call_candidate import CallCandidate
from lmstudio_async.embedded._call_object import Letters, Verdict

__all__ = ["BrokenCall", "CallArguments", "CallEnd", "CallFinder", "CallName", "Found"]


@attrs.frozen
class CallName:
    """A call has begun, of this tool."""

    name: str


@attrs.frozen
class CallArguments:
    """A piece of the arguments, in JSON."""

    text: str


@attrs.frozen
class CallEnd:
    """The call is whole, but its arguments may be no valid JSON.

    :ivar raw: the text of the call.
    """

    raw: str


@attrs.frozen
class BrokenCall:
    """A call that breaks off, or that names a tool which there is not.

    :ivar raw: its text. It includes that of the call that has begun, if one has.
    """

    raw: str


Found = str | CallName | CallArguments | CallEnd | BrokenCall


class CallFinder:
    """Finds calls in a text that comes in pieces. Holds text back only while it may still become a call.

    :param tools: those that there are, in the form of OpenAI's chat completions.
    :param bare: a JSON object without marks may be a call too.
    :ivar found_any: a whole call was found.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, bare: bool) -> None:
        functions = [tool["function"] for tool in tools]
        self.found_any = False
        self._tools = {str(each["name"]): each.get("parameters") or {} for each in functions}
        self._bare = bare
        self._starts = re.compile(r"[<\[{]" if bare else r"[<\[]")
        self._candidate: CallCandidate | None = None
        # How much of the arguments has been told; None before the name has.
        self._told: int | None = None
        # A call that is none after all: it goes on to one of the ends, or to the end of the answer.
        self._broken: Letters | None = None
        self._broken_until: tuple[str, ...] | None = None
        self._found: list[Found] = []

    def feed(self, text: str) -> list[Found]:
        """Give what is surely text, and the parts of calls, in their order."""
        self._read(text)
        if self._candidate is not None:
            self._tell(self._candidate)
        found, self._found = self._found, []
        return found

    def flush(self) -> list[Found]:
        """Give the rest, now that nothing more comes."""
        while (candidate := self._candidate) is not None:
            verdict = candidate.end()
            if verdict != "text":
                self._settle(verdict, candidate, "")
                continue
            self._candidate = None
            self._end_broken(candidate.swallowed)
            self._say(candidate.held)
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
                self._say(text[:place])
                text = text[place:]
                self._candidate = self._new_candidate() if text else None
            else:
                text = self._look_at(self._candidate, text)

    def _look_at(self, candidate: CallCandidate, text: str) -> str:
        """Have the candidate take letters until it is decided, and give what is to be read then."""
        for place, letter in enumerate(text):
            verdict = candidate.take(letter)
            if verdict != "open":
                return self._settle(
                    verdict, candidate, text[place + (0 if verdict == "whole before" else 1) :]
                )
        return ""

    def _settle(self, verdict: Verdict, candidate: CallCandidate, rest: str) -> str:
        """Act on the end of a candidate, and give what is to be read then."""
        self._candidate = None
        if verdict == "text":
            self._end_broken(candidate.swallowed)
            held = candidate.held
            place = max(len(held) - candidate.reread, 1)
            self._say(held[:place])
            return held[place:] + rest
        if verdict in ("whole", "whole before"):
            self._tell(candidate)
            self._found.append(CallEnd(candidate.raw if verdict == "whole" else candidate.raw[:-1]))
            self._told, self.found_any = None, True
            self._candidate = self._new_candidate(candidate.ends)
            return rest
        self._tell(candidate)
        self._end_broken(candidate.swallowed)
        self._told, self._broken = None, Letters()
        for letter in candidate.raw:
            self._broken.add(letter)
        if verdict == "invented":
            self._candidate = self._new_candidate(candidate.ends)
        else:
            # Brackets stand anywhere.
            self._broken_until = tuple(end for end in candidate.ends if end != "]")
        return rest

    def _new_candidate(self, ends: Sequence[str] | None = None) -> CallCandidate:
        return CallCandidate(self._tools, bare=self._bare, after=ends)

    def _skip(self, broken: Letters, ends: Sequence[str], text: str) -> str:
        for place, letter in enumerate(text):
            broken.add(letter)
            if any(letter == end[-1] and broken.since(-len(end)) == end for end in ends):
                self._broken_until, self._candidate = None, self._new_candidate([])
                return text[place + 1 :]
        return ""

    def _tell(self, candidate: CallCandidate) -> None:
        """Tell as much of a call as is known."""
        if not candidate.is_call:
            return
        if self._told is None:
            self._end_broken(candidate.swallowed)
            self._told = 0
            self._found.append(CallName(candidate.name))
        if piece := candidate.arguments(self._told):
            self._told += len(piece)
            self._found.append(CallArguments(piece))

    def _end_broken(self, swallowed: str) -> None:
        if self._broken is not None:
            self._found.append(BrokenCall(self._broken.since(0) + swallowed.rstrip()))
            self._broken = self._broken_until = None

    def _say(self, text: str) -> None:
        if not text:
            return
        if self._found and isinstance(last := self._found[-1], str):
            self._found[-1] = last + text
        else:
            self._found.append(text)
