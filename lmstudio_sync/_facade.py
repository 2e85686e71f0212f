"""What every generated class is: an object of the core, and the bridge over which it is called."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from lmstudio_sync._bridge import Bridge

__all__ = ["Facade"]

T = TypeVar("T")


class Facade:
    """The blocking twin of an object of the core. ``AsyncX`` is ``X`` here: by that name each finds the other."""

    _core: Any
    _twins: ClassVar[dict[str, type[Facade]]] = {}

    def __init__(self, core: Any, bridge: Bridge) -> None:
        self._core = core
        self._bridge = bridge

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Users' subclasses are their own affair: nothing is made of them here.
        if cls.__module__.startswith("lmstudio_sync."):
            Facade._twins[f"Async{cls.__name__}"] = cls

    def _wrap(self, value: Any) -> T:  # type: ignore[type-var]  # the caller's annotation says what it is
        """Make the twin of what the core gave, or of each in a list. What has none is for both worlds."""
        made: Any = value
        if isinstance(value, list):
            made = [self._wrap(each) for each in value]
        elif (twin := Facade._twins.get(type(value).__name__)) is not None:
            made = twin(value, self._bridge)
        return made  # type: ignore[no-any-return]
