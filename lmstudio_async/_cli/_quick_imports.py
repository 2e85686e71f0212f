"""Optional imports of other packages that no command uses, and that take a fifth of the time of a short command."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["hide_optional_modules"]

#: ``httpcore`` imports trio if that is installed, but commands run on asyncio. ``httpx`` imports the command ``httpx``, and
#: with it click, pygments and rich. Both packages do without.
_UNUSED: Final = ("httpx._main", "trio")


def hide_optional_modules() -> None:
    """Make imports of these modules fail in this process, which must be one that only runs a command."""
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    for name in _UNUSED:
        modules.setdefault(name, None)
