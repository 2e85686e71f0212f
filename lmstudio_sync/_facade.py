"""Base of all generated classes: an object of the core, and the bridge over which it is called."""

from __future__ import annotations

from typing import Any, TypeVar

import lmstudio_sync
from lmstudio_sync._bridge import Bridge
from lmstudio_sync._twins import TWINS

__all__ = ["Facade", "bridge_of"]

T = TypeVar("T")


class Facade:
    """The blocking twin of an object of the core."""

    _core: Any

    def __init__(self, core: Any, bridge: Bridge) -> None:
        self._core = core
        self._bridge = bridge

    def _wrap(self, value: Any) -> T:  # type: ignore[type-var]  # the caller's annotation gives the type
        """Return the twin of an object of the core, or of each in a list. Return a value without a twin as it is."""
        made: Any = value
        cls = type(value)
        if isinstance(value, list):
            # A list that notebooks show as a table stays one.
            made = cls(map(self._wrap, value))
        elif cls.__name__ in TWINS and cls.__module__.startswith("lmstudio_async"):
            # The package imports the twin at its first use.
            made = getattr(lmstudio_sync, TWINS[cls.__name__])(value, self._bridge)
        elif cls.__name__ == "InstanceStatus":
            from lmstudio_async._instance_status import with_handles

            made = with_handles(value, self._wrap)
        return made  # type: ignore[no-any-return]


def bridge_of(facade: Facade) -> Bridge:
    """Return the bridge over which the object of a facade is called."""
    return facade._bridge
