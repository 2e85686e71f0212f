"""The line of a test, to be found in a warning about what that line made."""

from __future__ import annotations

import sys

__all__ = ["line_here"]


def line_here() -> int:
    """Return the number of the line that calls this."""
    return sys._getframe(1).f_lineno
