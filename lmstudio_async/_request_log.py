"""The line of the log that a request leaves at its end. Imported only if the level DEBUG is on."""

from __future__ import annotations

import logging
import time

from lmstudio_async.errors import LMStudioCancelledError, LMStudioConnectionClosedError, LMStudioError

__all__ = ["RequestLog"]

logger = logging.getLogger("lmstudio_async")


class RequestLog:
    """One request, from its first frame to its outcome. The line has neither parameters nor results.

    :param namespace: namespace of the connection.
    :param endpoint: name of the endpoint.
    :param number: number of the call or channel on its connection.
    """

    __slots__ = ("_began", "_endpoint", "_namespace", "_number")

    def __init__(self, namespace: str, endpoint: str, number: int) -> None:
        self._namespace = namespace
        self._endpoint = endpoint
        self._number = number
        self._began = time.perf_counter()

    def end(self, error: LMStudioError | None, *, was_cancelled: bool = False) -> None:
        """Write the line.

        :param error: the error that ended the request; None for a result.
        :param was_cancelled: whether this program has given the request up.
        """
        milliseconds = round((time.perf_counter() - self._began) * 1000, 3)
        kind = None if error is None else type(error).__name__
        if was_cancelled or isinstance(error, LMStudioCancelledError | LMStudioConnectionClosedError):
            outcome = "cancelled"
        else:
            outcome = "ok" if error is None else "failed"
        logger.debug(
            "%s.%s #%d: %s after %.1f ms%s",
            self._namespace,
            self._endpoint,
            self._number,
            outcome,
            milliseconds,
            f" ({kind})" if outcome == "failed" else "",
            extra={
                "event": "request",
                "namespace": self._namespace,
                "endpoint": self._endpoint,
                "number": self._number,
                "milliseconds": milliseconds,
                "outcome": outcome,
                "error": kind if outcome == "failed" else None,
            },
        )
