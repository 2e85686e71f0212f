"""Text of the other side, made fit for a log."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Escape what would forge a line, steer a terminal, or be no text in the encoding of a file."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
