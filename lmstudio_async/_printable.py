"""Text of the other side, made fit for messages, logs and terminals: printable, and not endless."""

from __future__ import annotations

__all__ = ["printable", "printable_lines"]

LONGEST = 2000
"""Characters that are shown of a text, unless said otherwise."""


def printable(text: str, longest: int = LONGEST) -> str:
    """Escape what would forge a line, steer a terminal, or be no text in the encoding of a file; cut what is too long."""
    return _shown(text, longest, "")


def printable_lines(text: str, longest: int = LONGEST) -> str:
    """The same for a message of several lines, which keeps its line breaks and tabs."""
    return _shown(text.replace("\r\n", "\n"), longest, "\n\t")


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
    # Blanks such as the no-break space are not printable for Python.
    return letter.isprintable() or (letter.isspace() and letter > "\x9f" and letter not in "\u2028\u2029")
