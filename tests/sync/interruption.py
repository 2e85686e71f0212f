"""An interrupt at a chosen step of a piece of code, so that a test need not hope to hit it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from lmstudio_async import LMStudioError

__all__ = ["is_interrupted"]


def is_interrupted(step: int, function: Callable[[], object]) -> bool:
    """Call a function, and raise a `KeyboardInterrupt` in it before one of its steps.

    Before each bytecode of `lmstudio_sync`. Of what that calls, only where a function begins and ends: Python notices
    a signal there, and not between taking a lock by ``with`` and the body.

    :param step: which one, from 1.
    :return: whether there was such a step; if not, the function came to its end, or to a typed error.
    """
    left = step

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        is_ours = str(frame.f_globals.get("__name__")).startswith("lmstudio_sync")
        frame.f_trace_opcodes = is_ours
        if event in (("call", "return", "opcode") if is_ours else ("call", "return")):
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
