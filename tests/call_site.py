"""The line number of a statement in a test, for comparison with the line that a warning names."""

from __future__ import annotations

import sys

__all__ = ["line_here"]


def line_here() -> int:
    """Return the number of the line that calls this."""
    return sys._getframe(1).f_lineno
