"""Tracebacks that lead from the user's line to the core's, and leave out how a call came to the event loop."""

from __future__ import annotations

from types import TracebackType

__all__ = ["without_bridge"]

_BRIDGE = ("lmstudio_sync._bridge", "lmstudio_sync._loop")


def without_bridge(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error without the frames of the bridge, which stand between the user's and the core's."""
    kept = []
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") not in _BRIDGE:
            kept.append(traceback)
        traceback = traceback.tb_next
    made = None
    for each in reversed(kept):
        # An instruction without a line has None, which is -1 when a traceback is made.
        line = -1 if each.tb_lineno is None else each.tb_lineno
        made = TracebackType(made, each.tb_frame, each.tb_lasti, line)
    return made
