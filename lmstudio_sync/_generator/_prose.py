"""Translation of the core's docstrings for the facade."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping

from ._rules import PROSE, blocking

__all__ = ["Prose"]

#: Docstrings are as wide as those of the core.
WIDTH = 120

_BEGINS_A_PARAGRAPH = re.compile(r':\w|- |"""$')


class Prose:
    """Translates docstrings, and remembers the rules of `PROSE` that were not used."""

    def __init__(self) -> None:
        self.unused = set(PROSE)

    def __call__(self, docstring: str, more: Mapping[str, str] | None = None) -> str:
        """Translate a docstring, as it is written: with its quotes, and without the indent of its first line.

        :param more: phrases of this docstring alone, and their translations.
        """
        lines = docstring.splitlines()
        pad = min((_indent(line) for line in lines[1:] if line.strip()), default=0)
        lines[0] = " " * pad + lines[0]
        made: list[str] = []
        for paragraph, is_code in _paragraphs(lines):
            made += (
                blocking("\n".join(paragraph)).split("\n")
                if is_code
                else self._translate(paragraph, {**PROSE, **(more or {})})
            )
        return "\n".join(made)[pad:]

    def _translate(self, paragraph: list[str], rules: Mapping[str, str]) -> list[str]:
        """Translate a paragraph; one that changes is wrapped again, because a rule must not depend on line ends."""
        text = " ".join(line.strip() for line in paragraph)
        made = text
        for old, new in rules.items():
            if old in made:
                self.unused.discard(old)
                made = made.replace(old, new)
        made = blocking(made)
        if made == text:
            return paragraph
        first = " " * _indent(paragraph[0])
        others = " " * _indent(paragraph[1]) if len(paragraph) > 1 else first
        return [
            line
            for part in made.split("\n")
            for line in textwrap.wrap(
                part,
                WIDTH,
                initial_indent=first,
                subsequent_indent=others,
                break_long_words=False,
                break_on_hyphens=False,
            )
        ]


def _paragraphs(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Split a docstring; each paragraph, blank line, field and block of code, and whether it is code."""
    paragraph: list[str] = []
    code_below: int | None = None
    for line in lines:
        if code_below is not None:
            if not line.strip() or _indent(line) > code_below:
                paragraph.append(line)
                continue
            yield paragraph, True
            paragraph, code_below = [], None
        if paragraph and (not line.strip() or _BEGINS_A_PARAGRAPH.match(line.strip())):
            yield paragraph, False
            paragraph = []
        paragraph.append(line)
        if not line.strip() or line.endswith("::"):
            yield paragraph, False
            paragraph = []
        if line.endswith("::"):
            code_below = _indent(line)
    if paragraph:
        yield paragraph, code_below is not None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
