"""Address of a server: parsing the forms that people write, making URLs, and recognising this machine. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from lmstudio_async._client_limits import DEFAULT_LIMITS
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv6Address

__all__ = ["ServerAddress", "ip_address", "is_loopback", "parse_api_host"]

_APP_PORT = 1234
_SECURE_PORT = 443
_PLAIN_PORT = 80
_MAX_PORT = 65535
# "http" and "ws" name the same server here: one port serves both.
_SECURE_SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# \w accepts internationalised names.
_NAME = re.compile(r"(?!\d+\Z)[\w-]+(\.[\w-]+)*\.?")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
# Paths of LM Studio's OpenAI-compatible API and of its REST API: other clients need them in a base URL.
_REST_PATH = re.compile(r"(/v1|/api/v[01])\Z")
_FORMS = (
    'Write "host", "host:port", "[ipv6]:port", or a URL such as "http://host:port" or "https://host/prefix" '
    "(ws:// and wss:// mean the same as http:// and https://)."
)


class ServerAddress(NamedTuple):
    """Address of one server. `parse` makes one of the forms that people write.

    :param secure: whether to use TLS.
    :param host: a name or an IP address, IPv6 without its brackets.
    :param port: the TCP port.
    :param prefix: the beginning of every path, such as ``/lmstudio``, or empty.
    """

    secure: bool
    host: str
    port: int
    prefix: str = ""

    @classmethod
    def parse(cls, api_host: str) -> ServerAddress:
        """Return the address that a text means, by the rules for the ``api_host`` of a client.

        A host alone means LM Studio's own port, 1234; a URL without a port means its scheme's port, 80 or 443. The base
        URL of LM Studio's OpenAI-compatible or REST API means the server that has this API.

        :param api_host: ``host``, ``host:port``, ``[ipv6]:port``, each with or without a path prefix, or the same as an
            ``http``, ``https``, ``ws`` or ``wss`` URL. ``embedded`` is a host name here.
        :return: the address.
        :raises LMStudioValueError: if it is none of these.

        ::

            address = ServerAddress.parse("http://127.0.0.1/v1")
            print(address.host, address.port, address.is_loopback)  # 127.0.0.1 80 True
        """
        return parse_api_host(api_host)

    @classmethod
    def on_this_machine(cls) -> Sequence[ServerAddress]:
        """Return the addresses at which a client without an ``api_host`` looks for LM Studio.

        :return: the addresses, in the order of preference: if several servers answer, the client takes the first one.

        ::

            for address in ServerAddress.on_this_machine():
                print(address, await AsyncClient.is_valid_api_host(str(address)))
        """
        ports = (*DEFAULT_LIMITS.api_ports, DEFAULT_LIMITS.app_port)
        return [cls(secure=False, host="127.0.0.1", port=port) for port in ports]

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, so that a connection must not use a proxy."""
        return is_loopback(self.host)

    def http_url(self, path: str) -> str:
        """Return the URL of a plain HTTP resource.

        :param path: the resource, such as ``/lmstudio-greeting``.
        :return: the whole URL, port included.

        ::

            ServerAddress.parse("localhost").http_url("/lmstudio-greeting")
            # http://localhost:1234/lmstudio-greeting
        """
        return f"{'https' if self.secure else 'http'}://{self._authority}{self.prefix}/{path.lstrip('/')}"

    def websocket_url(self, namespace: str) -> str:
        """Return the URL of a namespace's websocket.

        :param namespace: for example ``llm``.
        :return: the whole URL, port included.

        ::

            ServerAddress.parse("https://lm.example/api").websocket_url("llm")
            # wss://lm.example:443/api/llm
        """
        return f"{'wss' if self.secure else 'ws'}://{self._authority}{self.prefix}/{namespace.lstrip('/')}"

    @property
    def _authority(self) -> str:
        return f"{self._bracketed_host}:{self.port}"

    @property
    def _bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        if self.secure:
            port = "" if self.port == _SECURE_PORT else f":{self.port}"
            return f"https://{self._bracketed_host}{port}{self.prefix}"
        return f"{self._authority}{self.prefix}"


def parse_api_host(text: str) -> ServerAddress:
    """Parse the address of a server as a person writes it.

    A host alone means LM Studio's own port, 1234; a URL without a port means its scheme's port, 80 or 443. The base
    URL of LM Studio's OpenAI-compatible or REST API, which ends in ``/v1``, ``/api/v1`` or ``/api/v0``, means the
    server that has this API.

    :param text: ``host``, ``host:port``, ``[ipv6]:port``, each with or without a path prefix, or the same as an
        ``http``, ``https``, ``ws`` or ``wss`` URL.
    :return: the address.
    :raises LMStudioValueError: if it is none of these.

    ::

        str(parse_api_host("http://127.0.0.1:1234/"))  # 127.0.0.1:1234
        str(parse_api_host("http://127.0.0.1:1234/v1"))  # 127.0.0.1:1234
    """
    if not isinstance(text, str):
        raise LMStudioValueError(f"api_host must be a string, not {type(text).__name__}. {_FORMS}")
    rest = text.strip()
    if not rest:
        raise LMStudioValueError(f"api_host is empty. {_FORMS}")
    secure, default_port = False, _APP_PORT
    if scheme := _SCHEME.match(rest):
        name = scheme[1].lower()
        if name not in _SECURE_SCHEMES:
            raise _invalid_address(text, f"it has the scheme {name}://")
        secure = _SECURE_SCHEMES[name]
        default_port = _SECURE_PORT if secure else _PLAIN_PORT
        rest = rest[scheme.end() :]
    for mark, part in (("?", "a query"), ("#", "a fragment")):
        if mark in rest:
            raise _invalid_address(text, f"it has {part}")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise _invalid_address(text, "it has user info; give a token as api_token")
    host, port = _split_authority(text, authority)
    if not _PATH.fullmatch(path):
        raise _invalid_address(text, "its path has characters that must be percent-encoded")
    prefix = _REST_PATH.sub("", (slash + path).rstrip("/")).rstrip("/")
    return ServerAddress(secure, host, default_port if port is None else _parse_port(text, port), prefix)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is this machine's own.

    The embedded server trusts these hosts without a token, and clients use no proxy for them.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = ip_address(name)
    return address is not None and address.is_loopback


def ip_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address in a text, or None if the text is a name or a path."""
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket for both IP families reports 127.0.0.1 as an IPv4-mapped IPv6 address.
    return getattr(address, "ipv4_mapped", None) or address


def _split_authority(text: str, authority: str) -> tuple[str, str | None]:
    """Split a text into host and port."""
    port: str | None
    if authority.startswith("["):
        host, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise _invalid_address(text, "its brackets do not match")
        port = after[1:] if after else None
        return _parse_ipv6(text, host), port
    if authority.count(":") > 1:
        return _parse_ipv6(text, authority), None
    host, colon, after = authority.partition(":")
    if not host:
        raise _invalid_address(text, "it has no host")
    if not _NAME.fullmatch(host):
        raise _invalid_address(text, f"{host!r} is not a host name")
    return host.lower(), after if colon else None


def _parse_ipv6(text: str, host: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError as exc:
        raise _invalid_address(text, f"{host!r} is no IPv6 address") from exc


def _parse_port(text: str, port: str) -> int:
    # int() alone would accept " 1", "+1", "1_0" and other alphabets' digits.
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= _MAX_PORT:
        raise _invalid_address(text, f"{port!r} is not a port from 1 to {_MAX_PORT}")
    return int(port)


def _invalid_address(text: str, why: str) -> LMStudioValueError:
    # Not shown with user info or a query, because these may have secrets in them, and messages end up in logs.
    shown = "" if any(mark in text for mark in "@?#") else f" {text!r}"
    return LMStudioValueError(f"api_host{shown} makes no sense: {why}. {_FORMS}")
