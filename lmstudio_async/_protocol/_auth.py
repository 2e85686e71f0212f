"""Authentication of this client: as a guest with random credentials, or with an API token."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping

from lmstudio_async.errors import LMStudioProtocolError, LMStudioValueError

__all__ = ["TOKEN_VARIABLES", "Credentials", "check_authentication_result"]

TOKEN_VARIABLES = ("LM_API_TOKEN", "LMSTUDIO_API_TOKEN")
_TOKEN = re.compile(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})")


class Credentials:
    """Credentials that all connections of one client send. The repr shows nothing of a token."""

    def __init__(self, identifier: str, passkey: str) -> None:
        self.identifier = identifier
        self.passkey = passkey

    def __repr__(self) -> str:
        return "Credentials(guest)" if self.identifier.startswith("guest:") else "Credentials(API token)"

    @classmethod
    def guest(cls) -> Credentials:
        """Make random credentials, which no other client has."""
        return cls(f"guest:{_random_text()}", _random_text())

    @classmethod
    def find(cls, api_token: str | None, environment: Mapping[str, str] = os.environ) -> Credentials:
        """Make credentials from the given token, else from the one in the environment, else for a guest.

        An empty token stands for none; as an argument, it overrides the environment's token.

        :raises LMStudioValueError: if the token does not have the form of an API token.
        """
        origin, token = "api_token", api_token
        if token is None:
            origin, token = next(
                ((name, environment[name]) for name in TOKEN_VARIABLES if environment.get(name)), ("", "")
            )
        if not isinstance(token, str):
            raise LMStudioValueError(f"{origin} must be a text, not {type(token).__name__}")
        if not token:
            return cls.guest()
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise LMStudioValueError(
                f"{origin} is not an LM Studio API token: those look like sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy "
                "(8 and 20 letters or digits). Copy it from Developer > Server settings in LM Studio."
            )
        return cls(match[1], match[2])

    def packet(self) -> dict[str, object]:
        """Return the content of the first frame of a connection."""
        return {
            "authVersion": 1,
            "clientIdentifier": self.identifier,
            "clientPasskey": self.passkey,
        }


def check_authentication_result(message: object) -> None:
    """Check the server's response to the first frame.

    :raises LMStudioAuthenticationError: if the server refuses this client.
    :raises LMStudioProtocolError: if the message is no response to an authentication.
    """
    if isinstance(message, dict) and message.get("success") is True:
        return
    from lmstudio_async._protocol._errors import authentication_refused
    from lmstudio_async._wire._messages import AuthenticationResult
    from lmstudio_async._wire._struct import MalformedError, read

    try:
        result = read(AuthenticationResult, message)
    except MalformedError as error:
        raise LMStudioProtocolError(
            f"The server did not answer the authentication but sent something else ({error}). Is it LM Studio?"
        ) from error
    raise authentication_refused(result.error or "no reason given")


def _random_text() -> str:
    return base64.b64encode(os.urandom(18)).decode()
