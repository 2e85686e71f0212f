"""Cutting a text into passages that a search can find: of about one size, each ending where something ends."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

import attrs

__all__ = ["Passage", "cut"]

#: Where a text is cut, if it can be: between paragraphs rather than between lines, sentences or words.
_ENDS: Final = ("\n\n", "\n", ". ", " ")


@attrs.frozen
class Passage:
    """A part of a text."""

    content: str
    first_line: int
    """In the text, from 1."""
    last_line: int


def cut(text: str, size: int, overlap: int) -> list[Passage]:
    """Cut a text.

    :param size: the characters that a passage has at most.
    :param overlap: the characters of a passage that the next one has as well, or a few fewer: it begins with a word.
        Less than ``size``.
    """
    lines = [found.start() for found in re.finditer("\n", text)]
    passages = []
    start = 0
    while start < len(text):
        end = _end(text, start, size, overlap)
        content = text[start:end].strip()
        if content:
            begin = text.index(content, start)
            first, last = (bisect_right(lines, place - 1) + 1 for place in (begin, begin + len(content) - 1))
            passages.append(Passage(content, first, last))
        if end == len(text):
            break
        start = _beginning(text, end - overlap, end)
    return passages


def _end(text: str, start: int, size: int, overlap: int) -> int:
    most = start + size
    if most >= len(text):
        return len(text)
    # The next passage begins so much earlier, and is to be a new one.
    least = start + max(size // 2, overlap + 1)
    for end in _ENDS:
        place = text.rfind(end, least - len(end), most)
        if place >= 0:
            return place + len(end)
    return most


def _beginning(text: str, earliest: int, latest: int) -> int:
    """The beginning of the first word that begins in a part of a text; if none does, the earliest place."""
    for place in range(earliest, latest):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return earliest
