"""``python -m lmstudio_async serve``, but that it writes down on a signal what it holds, and has the limits of a run.

Nothing else about it is different. The file is named by the variable ``CHAOS_REPORT``; SIGUSR1 asks for it, and
SIGUSR2 has every thread's stack printed.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import runpy
import signal
from collections import Counter
from functools import partialmethod
from pathlib import Path

import attrs

from lmstudio_async import EmbeddedServer
from tests.chaos.left_over import held_here
from tests.chaos.models import LIMITS

REPORT = Path(os.environ["CHAOS_REPORT"])


def report(*_: object) -> None:
    """Write it down."""
    held = held_here()
    tasks = Counter(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks())
    held = attrs.evolve(held, counted={**held.counted, "tasks": tasks})
    draft = REPORT.with_suffix(".draft")
    draft.write_text(json.dumps(attrs.asdict(held)))
    draft.replace(REPORT)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    faulthandler.register(signal.SIGUSR2)
    EmbeddedServer.__init__ = partialmethod(EmbeddedServer.__init__, limits=LIMITS)  # type: ignore[assignment]
    runpy.run_module("lmstudio_async", run_name="__main__", alter_sys=True)
