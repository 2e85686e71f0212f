"""The last line of the terminal, on standard error, while a command works: a bar, or a few words."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Sequence

from lmstudio_async._cli._line_breaks import cell_count, fold
from lmstudio_async._printable import printable

__all__ = ["ProgressLine", "bar_text", "can_draw", "message_lines", "print_above"]

_ERASE = "\r\x1b[K"

#: Cells of a bar at most and at least, and of the text before it at least.
_WIDEST_BAR, _NARROWEST_BAR = 24, 6
_NARROWEST_LABEL = 11
#: The numbers behind a bar change their width; the bar changes its own only with each of these steps.
_STEP = 6


def can_draw() -> bool:
    """Return whether a line may be drawn: standard error can move its cursor, and the user wants progress.

    ``LMSTUDIO_PROGRESS=0`` is the user's no, as for the bars of the SDK.
    """
    if os.environ.get("LMSTUDIO_PROGRESS", "").strip() == "0" or os.environ.get("TERM") == "dumb":
        return False
    if sys.platform == "win32" and not (os.environ.get("WT_SESSION") or os.environ.get("TERM")):
        # The old console shows the escape sequences as text.
        return False
    return sys.stderr.isatty()


class ProgressLine:
    """A line that is drawn again and again, until it is erased or kept. Notes appear above it.

    It neither hides the cursor nor has a thread, so that a command that is killed leaves the terminal as it was.
    """

    _shown: ProgressLine | None = None

    def __init__(self) -> None:
        self._text = ""

    @property
    def width(self) -> int:
        """Cells that a text may have: the last column stays free, because some terminals go to the next line there."""
        return _columns() - 1

    def show(self, text: str) -> None:
        """Draw a text in place of the present one. It may have colours, and must not be wider than `width`."""
        if text == self._text:
            return
        self._text = text
        ProgressLine._shown = self
        _write(f"{_ERASE}{text}")

    def erase(self) -> None:
        """Remove the line, if it is drawn."""
        if self._text:
            self._end(_ERASE)

    def keep(self) -> None:
        """Leave the line as it is, and go to the next one."""
        if self._text:
            self._end("\n")

    def _end(self, text: str) -> None:
        self._text = ""
        if ProgressLine._shown is self:
            ProgressLine._shown = None
        _write(text)


def message_lines(text: str) -> str:
    """Return a text for standard error: with line breaks for its width if it is a terminal, else as it is."""
    return fold(text, _columns()) if sys.stderr.isatty() else text


def print_above(text: str) -> None:
    """Print a text on standard error, above the line that is drawn there, if there is one."""
    text = message_lines(text)
    line = ProgressLine._shown
    if line is None:
        print(text, file=sys.stderr, flush=True)
    else:
        _write(f"{_ERASE}{text}\n{line._text}")


def bar_text(label: str, fraction: float, notes: Sequence[str], width: int) -> str:
    """Return a bar with its percentage, as wide as there is room.

    :param label: the text before it, which is shortened if it must be.
    :param fraction: from 0.0 to 1.0.
    :param notes: the numbers behind the percentage, in several lengths, the longest one first. The first one that fits is
        taken.
    :param width: cells of the line.
    """
    label = printable(label)
    percent = f" {math.floor(100 * fraction + 1e-9):>3}%"
    if width < _NARROWEST_LABEL + _NARROWEST_BAR + len("  100%"):
        return percent.strip()
    least = min(cell_count(label), _NARROWEST_LABEL) + _NARROWEST_BAR + len("  100%")
    note = next((each for each in notes if least + len(f"  {each}") <= width), "")
    room = width - len("  100%") - (-(-len(f"  {note}") // _STEP) * _STEP if note else 0)
    bar = max(_NARROWEST_BAR, min(_WIDEST_BAR, room - cell_count(label)))
    # Of the rest, also what the note leaves of its last step.
    label = _shortened(label, width - bar - len("  100%") - (len(f"  {note}") if note else 0))
    done = round(fraction * bar)
    drawn = _drawn_bar(done, bar - done)
    return f"{label} {drawn}{percent}{f'  {note}' if note else ''}"


def _drawn_bar(done: int, left: int) -> str:
    full, empty = ("━", "─") if _has_letters("━─") else ("#", "-")
    if os.environ.get("NO_COLOR"):
        return full * done + empty * left
    return f"\x1b[36m{full * done}\x1b[39m\x1b[2m{empty * left}\x1b[22m"


def _has_letters(letters: str) -> bool:
    try:
        letters.encode(sys.stderr.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _shortened(text: str, width: int) -> str:
    """Cut a text that has too many cells, and mark the cut."""
    if cell_count(text) <= width:
        return text
    while text and cell_count(text) > width - 1:
        text = text[:-1]
    return f"{text}{'…' if _has_letters('…') else '~'}"


def _columns() -> int:
    # Not shutil's function, which looks at standard output: that may be a file.
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        # Some terminals of containers report none.
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):  # it is no file, as in tests
        return 80


def _write(text: str) -> None:
    # A terminal that is gone fails no command.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
