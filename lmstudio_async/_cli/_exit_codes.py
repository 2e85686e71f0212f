"""Exit codes of `lmsa`, and the errors that end a command with one of them."""

from __future__ import annotations

from lmstudio_async._cli._setting_names import is_about_a_setting
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioModelNotFoundError,
    LMStudioServerError,
    LMStudioUnreachableError,
    LMStudioValueError,
)

__all__ = [
    "FAILURE",
    "INTERRUPTED",
    "NOT_FOUND",
    "NO_SERVER",
    "SUCCESS",
    "USAGE",
    "NotFoundError",
    "exit_code_of",
]

SUCCESS = 0
FAILURE = 1
USAGE = 2
NO_SERVER = 3
NOT_FOUND = 4
INTERRUPTED = 130


class NotFoundError(LMStudioError):
    """No model or instance has the name that the user gave. Its text is the whole message."""


def exit_code_of(error: LMStudioError) -> int:
    """Return the exit code of a command that ends with an error."""
    if isinstance(error, LMStudioModelNotFoundError | NotFoundError):
        return NOT_FOUND
    if isinstance(error, LMStudioUnreachableError | LMStudioConnectionBrokenError):
        return NO_SERVER
    if isinstance(error, LMStudioValueError):
        # An argument makes no sense, or a variable of the environment. Nothing was sent to a server.
        return USAGE
    if isinstance(error, LMStudioServerError) and is_about_a_setting(error.title):
        return USAGE
    return FAILURE
