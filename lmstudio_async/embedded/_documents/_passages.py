"""Cutting of a text into passages of about equal size for a search, at the ends of paragraphs, lines or sentences."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

import attrs

__all__ = ["Passage", "cut"]

#: Preferred places to cut a text, best first: between paragraphs, lines, sentences, words.
_ENDS: Final = ("\n\n", "\n", ". ", " ")


@attrs.frozen
class Passage:
    """A part of a text."""

    content: str
    first_line: int
    """Number of the line in the text, from 1."""
    last_line: int


def cut(text: str, size: int, overlap: int) -> list[Passage]:
    """Cut a text into passages.

    :param size: the maximum number of characters of a passage.
    :param overlap: the number of characters at the end of a passage that the next one repeats. It may be a few fewer,
        because a passage begins at the beginning of a word. Must be less than ``size``.
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
    # A passage must be longer than the overlap, so that the next one begins after the beginning of this one.
    least = start + max(size // 2, overlap + 1)
    for end in _ENDS:
        place = text.rfind(end, least - len(end), most)
        if place >= 0:
            return place + len(end)
    return most


def _beginning(text: str, earliest: int, latest: int) -> int:
    """Return the beginning of the first word that begins in a part of a text, or ``earliest`` if none does."""
    for place in range(earliest, latest):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return earliest
