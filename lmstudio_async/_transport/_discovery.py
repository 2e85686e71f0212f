"""Discovery of LM Studio: a request for its greeting, at a given address or on the ports of this machine."""

from __future__ import annotations

import json

import anyio
import httpx

from lmstudio_async._client_limits import DEFAULT_LIMITS, ClientLimits
from lmstudio_async._transport._address import ServerAddress, parse_api_host
from lmstudio_async._transport._certificates import no_certificates
from lmstudio_async._transport._http import RequestSockets, new_http_client
from lmstudio_async.errors import LMStudioUnreachableError

__all__ = ["find_default_local_api_host", "is_valid_api_host"]

_GREETING_LIMIT_BYTES = 65_536


async def is_valid_api_host(api_host: str, limits: ClientLimits | None = None) -> bool:
    """Return whether an LM Studio server responds at an address, within a second.

    :param api_host: the address of the server, such as ``localhost:1234``.
    :param limits: sets the seconds; None for the usual ones.
    :return: whether LM Studio sent its greeting. It is no error if the host is down, silent or another program.
    :raises LMStudioValueError: if ``api_host`` is no valid address.

    ::

        if not await is_valid_api_host("localhost:1234"):
            print("LM Studio is not running")
    """
    address = parse_api_host(api_host)
    seconds = (limits or DEFAULT_LIMITS).greeting_seconds
    with anyio.move_on_after(seconds):
        verify = (
            await anyio.to_thread.run_sync(httpx.create_ssl_context) if address.secure else no_certificates()
        )
        try:
            client = new_http_client(address, verify)
        except LMStudioUnreachableError:
            return False
        async with client:
            return await _greets(client, address, seconds)
    return False


async def find_default_local_api_host(limits: ClientLimits | None = None) -> str | None:
    """Find LM Studio on this machine, within a second.

    All ports are tried at once. The ports that LM Studio opens for SDKs take precedence over 1234, the port that its
    users see.

    :param limits: sets the ports and the seconds; None for the usual ones.
    :return: its address, such as ``127.0.0.1:41343``, or ``None`` if LM Studio does not run here.

    ::

        api_host = await find_default_local_api_host() or "embedded"
    """
    limits = limits or DEFAULT_LIMITS
    seconds = limits.greeting_seconds
    addresses = [ServerAddress(False, "127.0.0.1", port) for port in (*limits.api_ports, limits.app_port)]
    answers = dict[ServerAddress, bool | None].fromkeys(addresses)

    async def ask(address: ServerAddress) -> None:
        answers[address] = await _greets(client, address, seconds)
        # A silent port must not delay the result: on Windows, every port without a listener is silent.
        if next((answer for answer in answers.values() if answer is not False), False):
            tasks.cancel_scope.cancel()

    with anyio.move_on_after(seconds):
        async with (
            httpx.AsyncClient(verify=no_certificates(), trust_env=False) as client,
            anyio.create_task_group() as tasks,
        ):
            for address in addresses:
                tasks.start_soon(ask, address)
    return next((str(address) for address, answer in answers.items() if answer), None)


async def _greets(client: httpx.AsyncClient, address: ServerAddress, seconds: float) -> bool:
    sockets = RequestSockets()
    try:
        async with client.stream(
            "GET",
            address.http_url("/lmstudio-greeting"),
            timeout=seconds,
            extensions=sockets.extensions,
        ) as response:
            if response.status_code != httpx.codes.OK:
                return False
            body = b""
            async for chunk in response.aiter_bytes():
                # A longer body is read and dropped, because httpx's iterators must not be left half-way.
                if len(body) <= _GREETING_LIMIT_BYTES:
                    body += chunk
        greeting = json.loads(body)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError):
        return False
    except anyio.get_cancelled_exc_class():
        await sockets.aclose()
        raise
    return isinstance(greeting, dict) and greeting.get("lmstudio") is True
