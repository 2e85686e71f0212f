"""Messages for failures to connect: the reason, and the remedy that fits it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus

import httpx
import httpx_ws

from lmstudio_async._printable import printable

__all__ = ["connect_failure", "not_a_websocket_server", "without_traces"]

_CHECK_PLACE = "Check the host and port in api_host."
# Of the variables that name proxies, httpx uses only this one for websockets.
_CHECK_PROXY = "Correct ALL_PROXY in the environment, or name the host in NO_PROXY to connect without it."
_NO_ROUTE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
# OpenSSL's numbers for a certificate that has expired, and for one of another name or address.
_EXPIRED = 10
_OTHER_NAME = {62, 64}


def connect_failure(url: str, exc: Exception, timeout: float, proxy: str | None) -> str:
    """Return the message for a failed connection: the reason, and the remedy.

    :param url: URL of the websocket.
    :param exc: the exception of httpx or httpx-ws.
    :param timeout: time limit of the attempt to connect, in seconds.
    :param proxy: host of the proxy that the request went to; None if it went to the server itself.
    """
    if isinstance(exc, httpx_ws.WebSocketUpgradeError):
        status = exc.response.status_code
        return f"{url} refused the websocket with HTTP status {status}. {_status_remedy(status)}"
    if isinstance(exc, httpx.ProxyError):
        return f"{url} could not be reached through the proxy that the environment names ({_describe(exc)}). {_CHECK_PROXY}"
    if isinstance(exc, (TimeoutError, httpx.TimeoutException)):
        return (
            f"{url} did not answer within {timeout:g} seconds. Check the host and port in api_host, that the machine "
            "is on, and that no firewall is in between."
        )
    if (tls := _tls_error(exc)) is not None:
        return _tls_failure(url, tls)
    if proxy is not None and isinstance(exc, httpx.ConnectError):
        return f"{url} could not be reached: the proxy {proxy} does not answer ({_describe(exc)}). {_CHECK_PROXY}"
    if isinstance(exc, (httpx.ConnectError, UnicodeError)):
        return _network_failure(url, exc)
    if isinstance(exc, (httpx.RemoteProtocolError, httpx.NetworkError)):
        return (
            f"{url} answered, but not as LM Studio does ({_describe(exc)}). Another program listens there, or it "
            f"requires TLS (https://). {_CHECK_PLACE}"
        )
    return f"{url} could not be reached ({type(exc).__name__}: {_describe(exc)}). {_CHECK_PLACE}"


def not_a_websocket_server(url: str) -> str:
    """Return the message for a server that accepted a websocket without understanding the handshake."""
    return (
        f"{url} answered, but not as a websocket server does. Another program listens there, or a proxy in between "
        f"does not pass websockets on. {_CHECK_PLACE}"
    )


def without_traces(exc: Exception) -> Exception:
    """Return an expected failure without its traceback, which is long and adds nothing to the message."""
    if isinstance(exc, (httpx.HTTPError, httpx_ws.HTTPXWSException, TimeoutError)):
        exc.__cause__ = exc.__context__ = None
        return exc.with_traceback(None)
    return exc


def _status_remedy(status: int) -> str:
    """Return the remedy for an HTTP status in place of a websocket. A server runs, so starting one is no remedy."""
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return (
                "A server runs there but does not admit this client. Check api_token (or LM_API_TOKEN), and whether a "
                "proxy before LM Studio asks for a login."
            )
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED | HTTPStatus.GONE:
            return (
                "A server runs there, but LM Studio's API is not at this path. Write api_host without a path, such as "
                '"host:1234", or with the prefix that a proxy puts before LM Studio\'s own paths.'
            )
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return f"The proxy requires a login. {_CHECK_PROXY}"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "A server or proxy there limits the number of requests. Wait, or make fewer clients."
        case HTTPStatus.BAD_GATEWAY | HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.GATEWAY_TIMEOUT:
            return (
                "That is a proxy or gateway which does not reach LM Studio. Check that LM Studio's server runs behind "
                "it, and the address that the proxy has of it."
            )
    if 300 <= status < 400:
        return "It redirects elsewhere. Write that address as api_host: often https:// in place of http://."
    if status >= 500:
        return "A server runs there but failed. Its log, or that of the proxy before it, says why."
    return (
        f"A server runs there, but no LM Studio answered: it may be another program, require TLS (https://), or be "
        f"a proxy that does not pass websockets on. {_CHECK_PLACE}"
    )


def _tls_failure(url: str, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"{url} has a certificate that is not trusted ({error.verify_message})."
        if error.verify_code in _OTHER_NAME:
            return f"{why} Write a name in api_host that the certificate is for."
        if error.verify_code == _EXPIRED:
            return f"{why} Renew it on the server."
        return f"{why} If it is yours, give the certificate of the authority that signed it as verify."
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"{url} could not be reached: the server there has no TLS. Write http:// instead of https://."
    return (
        f"{url} could not be reached: TLS failed ({error.reason or error}). Write http:// if the server has no TLS; if "
        "it requires a certificate of its clients or an old version of TLS, give an ssl.SSLContext that has it as verify."
    )


def _network_failure(url: str, exc: Exception) -> str:
    causes = list(_causes(exc))
    if any(isinstance(cause, (socket.gaierror, UnicodeError)) for cause in causes):
        return (
            f"{url} could not be reached: the host name is not known ({_describe(exc)}). Check its spelling in "
            "api_host, and this machine's name service."
        )
    if any(isinstance(cause, OSError) and cause.errno in _NO_ROUTE for cause in causes):
        return (
            f"{url} could not be reached: the network has no way to it ({_describe(exc)}). Check the host in api_host, "
            "and this machine's network."
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"{url} could not be reached: the connection was refused, so no server listens there. {_start_advice()}"
    return f"{url} could not be reached ({_describe(exc)}). {_start_advice()}"


def _start_advice() -> str:
    """Return the advice for an address where no server runs, which ends such a message."""
    from lmstudio_async._install_command import install_command, missing_modules

    install = f"`{install_command('embedded')}` and " if missing_modules("embedded") else ""
    return (
        "Start LM Studio and its server (`lms server start`), or check api_host; without LM Studio, "
        f'{install}use api_host "embedded".'
    )


def _describe(exc: Exception) -> str:
    """Return the text of an error, or of the first of its causes that has one: on trio, httpx's own text is empty."""
    # Cut short, because an HTTP error may quote a whole line of the server's response.
    return printable(next(filter(None, map(str, _causes(exc))), type(exc).__name__), 200)


def _tls_error(exc: Exception) -> ssl.SSLError | None:
    # A handshake that waits for the network raises these and goes on, so they may be the context of any exception.
    waits = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    errors = (each for each in _causes(exc) if isinstance(each, ssl.SSLError) and not isinstance(each, waits))
    return next(errors, None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the latest first; of several attempts to connect, the causes of each."""
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            for each in cause.exceptions:
                yield from _causes(each)
        cause = cause.__cause__ or cause.__context__
