"""Finding marks in a text that comes in pieces: the tags around thoughts, and stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["ReasoningParser", "StopScanner", "beginning_at_end"]


class ReasoningParser:
    """Tells thoughts from the answer. Pieces come out as ``(text, reasoning type)``.

    Like LM Studio, it splits at the first start tag wherever that stands: after other text, and within a word, too.
    Only the first block is a thought.

    :param tags: what stands before and after thoughts; None to take everything for the answer.
    :param thinking: the prompt has the start tag already.
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
        """A piece of what the model says."""
        text, self._held = self._held + text, ""
        pieces: list[tuple[str, str]] = []
        if self._state == "opened" and text:
            pieces.append((self._start, "reasoningStartTag"))
            self._state = "inside"
        if self._state == "before":
            said, tag, text = self._split(text, self._start)
            pieces += [(said, "none"), (tag, "reasoningStartTag")]
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
        """Give the text before the tag, the tag if it is there, and the rest; hold the beginning of a tag back."""
        before, found, rest = text.partition(tag)
        if not found:
            keep = beginning_at_end(text, (tag,))
            before, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return before, found, rest

    def feed_thought(self, text: str) -> list[tuple[str, str]]:
        """A piece of a thought that the engine itself has told from the answer, tags left out."""
        pieces = [(text, "reasoning")]
        if self._state in ("before", "opened"):
            pieces = [*self.flush(), (self._start, "reasoningStartTag"), *pieces]
            self._state = "inside"
        return pieces

    def end_thought(self) -> list[tuple[str, str]]:
        """The engine goes on to the answer."""
        if self._state != "inside":
            return []
        self._state = "after"
        return [(self._end, "reasoningEndTag")]

    @property
    def lead_in(self) -> str:
        """The text that tells a reader who knows only the prompt and what comes next whether that is a thought."""
        tag = ""
        if self._state == "inside" and not self._was_opened:
            tag = self._start
        elif self._state == "after" and self._was_opened:
            tag = self._end
        return tag + self._held

    def flush(self) -> list[tuple[str, str]]:
        """What was held back, now that nothing more comes."""
        text, self._held = self._held, ""
        return [(text, "reasoning" if self._state == "inside" else "none")] if text else []


class StopScanner:
    """Finds the first stop string in a text that comes in pieces."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """What is surely before any stop string, and the one that was found."""
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
        """What was held back, now that nothing more comes."""
        text, self._held = self._held, ""
        return text


def beginning_at_end(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of the text may be the beginning of a mark."""
    longest = max((len(mark) - 1 for mark in marks), default=0)
    for count in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-count:]) for mark in marks):
            return count
    return 0
