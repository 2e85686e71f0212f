"""The server's clock, as the ``Date`` of an HTTP response tells it."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["seconds_ahead"]

# The header has whole seconds, and a response takes some time. A smaller difference says nothing.
_RESOLUTION_SECONDS = 2.0


def seconds_ahead(date: str, came_at: float) -> float:
    """Return how many seconds the server's clock is ahead of this machine's; 0.0 if the header is not a date.

    :param date: the header ``Date`` of a response.
    :param came_at: time of this machine at which the response came, in seconds since 1970.
    """
    try:
        # The date is in UTC, whatever time zone it names. Take the middle of the second.
        ahead = parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() + 0.5 - came_at
    except (ValueError, OverflowError):
        return 0.0
    return ahead if abs(ahead) > _RESOLUTION_SECONDS else 0.0
