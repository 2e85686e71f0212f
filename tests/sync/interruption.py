"""An interrupt at a chosen step of a piece of code, so that a test need not hope to hit it."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Container
from types import FrameType
from typing import Any

from lmstudio_async import LMStudioError

__all__ = ["is_interrupted"]


_RETURNS = {number for name, number in dis.opmap.items() if name.startswith("RETURN_")}


def is_interrupted(step: int, function: Callable[[], object], modules: Container[str] | None = None) -> bool:
    """Call a function, and raise a `KeyboardInterrupt` in it before one of its steps.

    The steps are the bytecodes of `lmstudio_sync`, but for those that return: there is no point in between where Python
    looks for signals. Of what is called by it, they are only where a function begins and ends: Python does look there,
    and not between taking a lock by ``with`` and the body.

    :param step: which one, from 1; 0 interrupts none.
    :param modules: count only steps of these; None counts those of all.
    :return: whether there was such a step; if not, the function came to its end, or to a typed error.
    """
    left = step

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        module = str(frame.f_globals.get("__name__"))
        if modules is None or module in modules:
            frame.f_trace_opcodes = module.startswith("lmstudio_sync")
            if is_step(frame, event):
                left -= 1
                if not left:
                    # Python traces nothing more, once this has raised.
                    raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        function()
    except (KeyboardInterrupt, LMStudioError):
        pass
    finally:
        sys.settrace(None)
    return left == 0


def is_step(frame: FrameType, event: str) -> bool:
    """Whether an interrupt is to come at this event of a trace function."""
    match event:
        case "call":
            return True
        case "opcode":
            return frame.f_code.co_code[frame.f_lasti] not in _RETURNS
        case "return":
            return not frame.f_trace_opcodes
    return False
