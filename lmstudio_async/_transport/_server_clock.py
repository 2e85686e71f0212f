"""The server's clock, as the ``Date`` of an HTTP response tells it."""

from __future__ import annotations

import time

__all__ = ["ServerClock"]

# The header has whole seconds, and a response takes some time. A smaller difference says nothing.
_RESOLUTION_SECONDS = 2.0


class ServerClock:
    """The time of one response of the server. Makes no request, and reads the header only when it is asked.

    :param date: the header ``Date`` of the response; None if there is none.
    """

    def __init__(self, date: str | None) -> None:
        self._date = date
        self._came_at = time.time()

    def seconds_ahead(self) -> float:
        """Return how many seconds the server's clock is ahead of this machine's; 0.0 if it is not known."""
        if self._date is None:
            return 0.0
        from email.utils import parsedate_to_datetime

        try:
            # The middle of the second that the header names.
            ahead = parsedate_to_datetime(self._date).timestamp() + 0.5 - self._came_at
        except ValueError:
            return 0.0
        return ahead if abs(ahead) > _RESOLUTION_SECONDS else 0.0
