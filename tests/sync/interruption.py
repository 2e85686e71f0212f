"""A `KeyboardInterrupt` at a chosen step of a piece of code, so that a test does not depend on timing."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Callable, Container, Iterator
from types import FrameType
from typing import Any

from lmstudio_async import LMStudioError

__all__ = ["is_interrupted"]


_RETURNS = {number for name, number in dis.opmap.items() if name.startswith("RETURN_")}


def is_interrupted(step: int, function: Callable[[], object], modules: Container[str] | None = None) -> bool:
    """Call a function, and raise a `KeyboardInterrupt` in it before one of its steps.

    The steps are the bytecodes of `lmstudio_sync`, except returns, because Python does not check for signals right before
    a return. In other modules, steps are only the beginning and the end of a function: Python checks for signals there,
    but not between taking a lock by ``with`` and the body.

    :param step: number of the step, from 1; 0 interrupts none.
    :param modules: modules to count steps of; None counts the steps of all modules.
    :return: whether the step was reached; if not, the function returned, or raised a typed error.
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
                    # Python stops tracing once the trace function has raised.
                    raise KeyboardInterrupt
        return trace

    def run() -> Iterator[None]:
        # The garbage of earlier tests has steps too: an interrupt in its `__del__` would not reach the function.
        gc.disable()
        sys.settrace(trace)
        try:
            function()
        except (KeyboardInterrupt, LMStudioError):
            pass
        finally:
            sys.settrace(None)
            gc.enable()
        yield

    # An exception raised at the end of an except block, where Python checks for no signals, stays the handled exception,
    # and would be the context of all later ones in the thread. A generator has a handled exception of its own.
    [_] = run()
    assert sys.exception() is None
    return left == 0


def is_step(frame: FrameType, event: str) -> bool:
    """Return whether an event of a trace function counts as a step."""
    match event:
        case "call":
            return True
        case "opcode":
            return frame.f_code.co_code[frame.f_lasti] not in _RETURNS
        case "return":
            return not frame.f_trace_opcodes
    return False
