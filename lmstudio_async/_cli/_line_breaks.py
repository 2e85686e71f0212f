"""Line breaks in messages for a terminal: at spaces, and never in a command, a path or a URL that a user would copy."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["cell_count", "fold"]

#: A command up to the end of its sentence, the words in quotes, and a program with the name of a subcommand.
_WHOLE = re.compile(
    r"(?:(?<=: )|(?<=-> )|(?<=\()|^)(?:lmsa|lms|(?:uv )?pip|python|apt-get|sudo|hf)\b .*?(?=[.;,] |\)(?:[\s.;,]|$)|$)"
    r"|`[^`]+`"
    r"|(?<![^\s(\[])(['\"])(?!\s)[^'\"]+(?<!\s)\1(?!\w)"
    r"|\blmsa [a-z]+"
)

#: In place of a space where no line may end. It is no character of a text, because messages are printable.
_GLUE = "\0"


def fold(text: str, width: int) -> str:
    """Break the lines of a text at spaces so that they fit a terminal.

    A command, a text in quotes and a word without spaces, such as a path or a URL, stays whole. If it is longer than the
    terminal, it begins on a line of its own, which the terminal itself continues, so that it can be copied.

    :param width: columns of the terminal.
    """
    return "\n".join(_fold_line(line, width) for line in text.split("\n"))


def _fold_line(line: str, width: int) -> str:
    if cell_count(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip(" "))]
    glued = _WHOLE.sub(lambda found: found[0].replace(" ", _GLUE), line.strip(" "))
    lines: list[str] = []
    for word in glued.split(" "):
        if lines and cell_count(lines[-1]) + 1 + cell_count(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return "\n".join(lines).replace(_GLUE, " ")


def cell_count(text: str) -> int:
    """Return the columns that a text takes: none for a combining character, and two for a wide one."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
