"""``lmsa serve``, which reports its resources on a signal.

Nothing else about it is different. On SIGUSR1 it writes the report to the file that the variable ``CHAOS_REPORT`` names;
on SIGUSR2 it prints the stack of every thread.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import runpy
import signal
from collections import Counter
from pathlib import Path

import attrs

from tests.chaos.left_over import held_here

REPORT = Path(os.environ["CHAOS_REPORT"])


def report(*_: object) -> None:
    """Write the report."""
    held = held_here()
    tasks = Counter(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks())
    held = attrs.evolve(held, counted={**held.counted, "tasks": tasks})
    draft = REPORT.with_suffix(".draft")
    draft.write_text(json.dumps(attrs.asdict(held)))
    draft.replace(REPORT)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    faulthandler.register(signal.SIGUSR2)
    runpy.run_module("lmstudio_async", run_name="__main__", alter_sys=True)
