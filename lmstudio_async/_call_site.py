"""Location of the user's call into this SDK, for warnings about objects that were not closed."""

from __future__ import annotations

import sys

__all__ = ["call_site"]

_PACKAGES = ("lmstudio_async", "lmstudio_sync")


def call_site() -> str:
    """Return ``file:line`` of the innermost frame outside this SDK."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
