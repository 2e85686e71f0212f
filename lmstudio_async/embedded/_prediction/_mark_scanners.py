"""Search for marks in a streamed text: the tags around reasoning, and stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["ReasoningParser", "StopScanner", "beginning_at_end"]


class ReasoningParser:
    """Separates reasoning from the answer. Its methods return pieces as ``(text, reasoning type)``.

    Like LM Studio, it splits at the first start tag at any place: after other text, and within a word, too. Only the
    first block is reasoning.

    :param tags: the tags before and after reasoning; None to treat the whole text as the answer.
    :param thinking: whether the prompt has the start tag already.
    """

    def __init__(self, tags: tuple[str, str] | None, *, thinking: bool = False) -> None:
        self._start, self._end = tags or ("", "")
        self._state: Literal["before", "opened", "inside", "after"] = (
            "before" if all((self._start, self._end)) else "after"
        )
        self._was_opened = thinking and self._state == "before"
        if self._was_opened:
            self._state = "opened"
        self._held = ""

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Add a piece of the text of the model."""
        text, self._held = self._held + text, ""
        pieces: list[tuple[str, str]] = []
        if self._state == "opened" and text:
            pieces.append((self._start, "reasoningStartTag"))
            self._state = "inside"
        if self._state == "before":
            before, tag, text = self._split(text, self._start)
            pieces += [(before, "none"), (tag, "reasoningStartTag")]
            if tag:
                self._state = "inside"
        if self._state == "inside":
            thought, tag, text = self._split(text, self._end)
            pieces += [(thought, "reasoning"), (tag, "reasoningEndTag")]
            if tag:
                self._state = "after"
        pieces.append((text, "none"))
        return [piece for piece in pieces if piece[0]]

    def _split(self, text: str, tag: str) -> tuple[str, str, str]:
        """Return the text before the tag, the tag if it was found, and the rest; hold back the beginning of a tag."""
        before, found, rest = text.partition(tag)
        if not found:
            keep = beginning_at_end(text, (tag,))
            before, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return before, found, rest

    def feed_thought(self, text: str) -> list[tuple[str, str]]:
        """Add a piece of reasoning that the engine itself has separated from the answer, without tags."""
        pieces = [(text, "reasoning")]
        if self._state in ("before", "opened"):
            pieces = [*self.flush(), (self._start, "reasoningStartTag"), *pieces]
            self._state = "inside"
        return pieces

    def end_thought(self) -> list[tuple[str, str]]:
        """End the reasoning, because the engine has begun the answer."""
        if self._state != "inside":
            return []
        self._state = "after"
        return [(self._end, "reasoningEndTag")]

    @property
    def lead_in(self) -> str:
        """The text to put before later pieces, so that a new parser after the same prompt separates them correctly.

        It is the tag that decides whether they are reasoning, and the text that is held back.
        """
        tag = ""
        if self._state == "inside" and not self._was_opened:
            tag = self._start
        elif self._state == "after" and self._was_opened:
            tag = self._end
        return tag + self._held

    def flush(self) -> list[tuple[str, str]]:
        """Return the text that was held back, at the end of the stream."""
        text, self._held = self._held, ""
        return [(text, "reasoning" if self._state == "inside" else "none")] if text else []


class StopScanner:
    """Finds the first stop string in a streamed text."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Add a piece; return the text that is certainly before any stop string, and the stop string, if found."""
        text = self._held + text
        found = [(text.index(each), each) for each in self._strings if each in text]
        if found:
            place, string = min(found)
            self._held = ""
            return text[:place], string
        keep = beginning_at_end(text, self._strings)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def flush(self) -> str:
        """Return the text that was held back, at the end of the stream."""
        text, self._held = self._held, ""
        return text


def beginning_at_end(text: str, marks: Sequence[str]) -> int:
    """Return the number of characters at the end of the text that may be the beginning of a mark."""
    longest = max((len(mark) - 1 for mark in marks), default=0)
    for count in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-count:]) for mark in marks):
            return count
    return 0
