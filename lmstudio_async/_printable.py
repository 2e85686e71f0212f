"""Texts and values for messages, logs and terminals: printable, and of limited length."""

from __future__ import annotations

import reprlib

__all__ = ["printable", "printable_lines", "short_repr"]

LONGEST = 2000
"""Default limit for the number of characters that are shown of a text."""

# Shortens a value while it walks through it, because the value may be megabytes long or nested deeply.
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def printable(text: str, longest: int = LONGEST) -> str:
    """Escape characters that forge a line, control a terminal or cannot be encoded; cut a text that is too long."""
    return _shown(text, longest, "")


def printable_lines(text: str, longest: int = LONGEST) -> str:
    """Escape and cut like `printable`, but keep the line breaks and tabs of a message of several lines."""
    return _shown(text.replace("\r\n", "\n"), longest, "\n\t")


def short_repr(value: object) -> str:
    """Return the ``repr()`` of a value for an error message; long texts, and containers of many items, are cut short."""
    try:
        return _short.repr(value)
    except ValueError:  # a number with more digits than Python converts to text
        return "a huge number"


def _shown(text: str, longest: int, kept: str) -> str:
    shown = text[:longest]
    if not shown.isprintable():
        shown = "".join(
            letter if letter in kept or _is_harmless(letter) else letter.encode("unicode_escape").decode()
            for letter in shown
        )
    if len(text) <= longest and len(shown) <= longest:
        return shown
    return f"{shown[:longest]}… ({len(text)} characters)"


def _is_harmless(letter: str) -> bool:
    # `str.isprintable` rejects blanks such as the no-break space, which are harmless.
    return letter.isprintable() or (letter.isspace() and letter > "\x9f" and letter not in "\u2028\u2029")
