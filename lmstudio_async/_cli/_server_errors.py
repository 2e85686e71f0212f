"""Errors of the connection to a server in the words of the command line: its options and variables, not Python's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from lmstudio_async.errors import (
    LMStudioAuthenticationError,
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioUnreachableError,
    LMStudioValueError,
)

__all__ = ["errors_for_shell", "origin_of"]

_ABOUT_THE_SERVER = (
    LMStudioAuthenticationError,
    LMStudioConnectionBrokenError,
    LMStudioUnreachableError,
    LMStudioValueError,
)

#: Parameters of the client in the texts of the SDK, and the places where a user of the command line gives the same. The
#: first match counts. ``HOST`` stands for the origin of the address.
_WORDS = (
    (r"Check api_token \(or LM_API_TOKEN\)", "Check the file of --token-file, or LM_API_TOKEN"),
    (r"as api_token or in LM_API_TOKEN", "in a file with --token-file, or in LM_API_TOKEN"),
    (r"give a token as api_token", "give a token with --token-file"),
    (r"\bapi_token\b", "the token of --token-file"),
    (
        r"give the certificate of the authority that signed it as verify",
        "set SSL_CERT_FILE to the certificate of the authority that signed it",
    ),
    (r"; if it requires a certificate of its clients[^.]*\.SSLContext[^.]*\.", "."),
    (r"\bapi_host\b", "HOST"),
)


#: The advice of the SDK for an address where no server runs. It ends the message.
_START_ADVICE = re.compile(r"\s*Start LM Studio and its server \(`lms server start`\).*\Z", re.DOTALL)


def origin_of(host: str | None) -> str | None:
    """Return the option or the variable that names the server; None if none does.

    :param host: the value of ``--host``.
    """
    return "--host" if host is not None else "LMSTUDIO_HOST" if os.environ.get("LMSTUDIO_HOST") else None


@contextmanager
def errors_for_shell(origin: str | None, *, may_embed: bool) -> Iterator[None]:
    """Make the texts of errors about a server fit the command line; their classes stay.

    :param origin: the option or variable that names the server; None if it was found on this machine.
    :param may_embed: whether the command could use the embedded server.
    """
    try:
        yield
    except _ABOUT_THE_SERVER as error:
        shown = _for_shell(error, origin, may_embed=may_embed)
        if shown is error:
            raise
        raise shown from error


def _for_shell(error: LMStudioError, origin: str | None, *, may_embed: bool) -> LMStudioError:
    # No server runs there. In all other cases the text says what is wrong with it.
    text, is_down = _START_ADVICE.subn("", str(error))
    where = origin or "the address"
    for pattern, words in _WORDS:
        text = re.sub(pattern, words.replace("HOST", where), text)
    if is_down:
        correct = f", or correct {origin}" if origin else ""
        start = (
            "use the embedded server: --host embedded"
            if may_embed
            else "start a server of your own: lmsa serve"
        )
        text += f"\nStart LM Studio's server there (lms server start){correct}; or {start}"
    if text == str(error):
        return error
    if isinstance(error, LMStudioAuthenticationError):
        return LMStudioAuthenticationError(text, error.server_error)
    return type(error)(text)
