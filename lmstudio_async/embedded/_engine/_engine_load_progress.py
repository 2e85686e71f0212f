"""Progress of a load as one fraction, computed from all events of its worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lmstudio_async.embedded._engine._worker import Loading, ReadAhead

__all__ = ["EngineLoadProgress"]

# The share of the progress for reading the file ahead, and the highest progress before the load is complete.
_READ_SHARE: Final = 0.8
_ALMOST: Final = 0.99


class EngineLoadProgress:
    """Progress computed from the worker's events. It never decreases, and no event of the worker completes it."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._read_share = 0.0
        self._last = -1.0
        self.reach(0.0)

    def feed(self, event: ReadAhead | Loading) -> None:
        if isinstance(event, ReadAhead):
            self._read_share = _READ_SHARE
            self.reach(_READ_SHARE * event.fraction)
        else:
            loaded = (event.stage + event.fraction) / event.stages
            self.reach(self._read_share + (_ALMOST - self._read_share) * loaded)

    def reach(self, fraction: float) -> None:
        if fraction > self._last:
            self._last = fraction
            self._report(fraction)
