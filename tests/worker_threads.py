"""The worker threads of anyio, which end a moment after their event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterable

__all__ = ["join_worker_threads"]


def join_worker_threads(before: Iterable[threading.Thread]) -> None:
    """Wait until the worker threads of the last event loop have ended.

    anyio tells them to stop and does not join them. Until then, a thread may refer to its last job.

    :param before: the threads that ran before that event loop; some of them are of loops that still run.
    """
    for thread in set(threading.enumerate()).difference(before):
        if thread.name == "AnyIO worker thread":
            thread.join(20)
