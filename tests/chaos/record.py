"""Record of the outcome of every operation."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from types import TracebackType
from typing import Self

import anyio

from lmstudio_async import (
    LMStudioCancelledError,
    LMStudioChannelClosedError,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioIdentifierInUseError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioPredictionError,
    LMStudioServerError,
    LMStudioTimeoutError,
    LMStudioUnreachableError,
)

__all__ = ["CLOSED", "UNREACHABLE", "Operation", "Record", "Wrong"]

RESULT = "a result"
CANCELLED = "cancelled by its caller"
CLOSED = LMStudioConnectionClosedError.__name__
UNREACHABLE = LMStudioUnreachableError.__name__

#: Errors that an operation may end with because of a fault. No fault garbles a message, a token or a config, so an error
#: about one of these is a problem.
EXPECTED: tuple[type[LMStudioError], ...] = (
    LMStudioCancelledError,
    LMStudioChannelClosedError,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioIdentifierInUseError,
    LMStudioInstanceUnloadedError,
    LMStudioModelNotFoundError,
    LMStudioPredictionError,
    LMStudioTimeoutError,
    LMStudioUnreachableError,
)
#: Words in the server's error after a worker process was killed or stopped, or a link was broken. A plain
#: `LMStudioServerError` without any of them is a problem.
OF_A_FAULT = (
    "crashed",
    "broke off",
    "ended while it was loading",
    "shutting down",
    "The load was cancelled",
    "did not move for",
    "failed to open GGUF file",
)


class Wrong(Exception):
    """An operation returned a wrong result."""


class Record:
    """Collects the outcomes of operations, from any thread, and the operations that have not ended yet."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.amiss: list[str] = []
        self._running: set[Operation] = set()
        self._lock = threading.Lock()

    def operation(self, who: str, what: str) -> Operation:
        """Return a context manager for an operation, which counts the outcome and suppresses an `Exception`."""
        return Operation(self, who, what)

    def note(self, what: str) -> None:
        """Record a problem."""
        with self._lock:
            self.amiss.append(what)

    def overdue(self, seconds: float) -> list[str]:
        """Return the operations that have been running for longer than `seconds`."""
        now = time.monotonic()
        with self._lock:
            return [
                f"{each.who}: {each.what}, for {now - each.began:.0f} seconds"
                for each in self._running
                if now - each.began > seconds
            ]

    def begin(self, operation: Operation) -> None:
        with self._lock:
            self._running.add(operation)

    def end(self, operation: Operation) -> None:
        with self._lock:
            self._running.discard(operation)
            self.outcomes[operation.what, operation.outcome] += 1

    def table(self) -> str:
        """Format a table of operations and their outcomes, the most frequent ones first."""
        outcomes: Counter[str] = Counter()
        operations: Counter[str] = Counter()
        for (what, outcome), count in self.outcomes.items():
            outcomes[outcome] += count
            operations[what] += count
        columns = [what for what, _ in operations.most_common()]
        lines = [["", *columns, "all"]]
        for outcome, all_of_it in outcomes.most_common():
            cells = [self.outcomes[what, outcome] for what in columns]
            lines.append([outcome, *(str(cell or "") for cell in cells), str(all_of_it)])
        lines.append(["all", *(str(operations[what]) for what in columns), str(operations.total())])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        )


class Operation:
    """Context manager for an operation; see `Record.operation`.

    :ivar outcome: how the operation ended; empty until then.
    """

    def __init__(self, record: Record, who: str, what: str) -> None:
        self.who = who
        self.what = what
        self.began = time.monotonic()
        self.outcome = ""
        self._record = record

    def __enter__(self) -> Self:
        self._record.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.outcome = self._outcome(error)
        self._record.end(self)
        return error is None or isinstance(error, Exception)

    def _outcome(self, error: BaseException | None) -> str:
        if error is None:
            return RESULT
        if isinstance(error, KeyboardInterrupt) or _is_cancellation(error):
            return CANCELLED
        kind = type(error)
        expected = kind in EXPECTED or (
            kind is LMStudioServerError and any(words in str(error) for words in OF_A_FAULT)
        )
        if not expected:
            text = "".join(traceback.format_exception(error))
            self._record.note(f"{self.who}: {self.what} ended with an unexpected error:\n{text}")
        return kind.__name__


def _is_cancellation(error: BaseException) -> bool:
    try:
        return isinstance(error, anyio.get_cancelled_exc_class())
    except anyio.NoEventLoopError:
        return False
