"""Web pages that may use a server, by their origin, and hosts at which a server without tokens may listen."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from lmstudio_async._transport._address import ip_address, is_loopback
from lmstudio_async.errors import LMStudioValueError

__all__ = ["Origins", "check_form", "check_host", "host_of"]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@\\]+")
#: A name whose parts a name service may know.
_NAME = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63})*\.?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Origins:
    """The allow list: pages of this machine (``http`` and ``https``), and the origins in ``named``.

    :param named: origins as browsers send them, such as ``https://chat.example`` or ``app://obsidian``.
    :raises LMStudioValueError: if one of them is not an origin.
    """

    def __init__(self, named: Collection[str]) -> None:
        if isinstance(named, str):
            raise LMStudioValueError(
                "allowed_origins is a list of origins, not a single text: write allowed_origins=[origin]"
            )
        self._named = {_checked(origin) for origin in named}

    def allow(self, origin: str) -> bool:
        """Whether a page of this origin may use the server."""
        text = origin.lower()
        if not _ORIGIN.fullmatch(text):
            return False
        return _normal(text) in self._named or (
            text.startswith(("http://", "https://")) and is_loopback(host_of(text))
        )


def _checked(origin: str) -> str:
    text = origin.lower().removesuffix("/") if isinstance(origin, str) else ""
    if not _ORIGIN.fullmatch(text) or not host_of(text):
        raise LMStudioValueError(
            f"an allowed origin is a scheme and a host, such as https://chat.example or http://10.0.0.5:3000, "
            f"not {origin!r:.100}"
        )
    return _normal(text)


def _normal(origin: str) -> str:
    """Remove the default port of the scheme, because browsers do not send it."""
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], "\n"))


def host_of(url: str) -> str:
    """Return the host in a URL, or an empty text if there is none or its port is invalid."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return ""
    return host or ""


def check_form(host: str) -> None:
    """Refuse a text that is neither a name nor an address to listen at.

    :raises LMStudioValueError: it is none.
    """
    if not isinstance(host, str) or not (_NAME.fullmatch(host) or ip_address(host)):
        raise LMStudioValueError(
            f"{host!r:.100} is neither a name nor an address to listen at. Write 127.0.0.1 for programs of this machine "
            "alone, 0.0.0.0 for all networks, or an address of this machine, without http://, brackets and a port."
        )


def check_host(host: str, *, has_tokens: bool) -> None:
    """Refuse an address at which clients from other machines could use a server without a token.

    :param host: the name or address to listen at.
    :param has_tokens: whether every client needs a token.
    :raises LMStudioValueError: other machines can reach the host, and the server has no tokens.
    """
    if not has_tokens and not is_loopback(host):
        raise LMStudioValueError(
            f"Without an API token, every client that can reach {host} could use this server. Give it one by "
            "api_tokens=[token]: sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy, with 8 and 20 letters or digits of your choice. Or "
            "listen at 127.0.0.1."
        )
