"""Access of a client to its server, which is found when the client is opened, on first use at the latest."""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from lmstudio_async._call_site import call_site
from lmstudio_async._client_limits import DEFAULT_LIMITS, ClientLimits
from lmstudio_async._owned_task_group import OwnedTaskGroup
from lmstudio_async._preload import preload
from lmstudio_async._protocol._auth import Credentials
from lmstudio_async._transport import parse_api_host
from lmstudio_async.errors import (
    LMStudioConnectionClosedError,
    LMStudioMissingRuntimeError,
    LMStudioUnreachableError,
    LMStudioValueError,
)

if TYPE_CHECKING:
    from ssl import SSLContext

    from lmstudio_async._transport import Connector, WebSocketConnector
    from lmstudio_async.embedded import EmbeddedServer

__all__ = ["ServerAccess"]

HOST_VARIABLE = "LMSTUDIO_HOST"
EMBEDDED = "embedded"

logger = logging.getLogger("lmstudio_async")


class ServerAccess:
    """The server of one client, and the task group in which the client's connections live.

    :param host: the client's ``api_host``.
    :param credentials: the credentials that connections authenticate with.
    :param verify: the client's ``verify``.
    :param limits: the client's limits; None for the usual ones.
    :raises LMStudioValueError: if the host makes no sense.
    """

    tasks: OwnedTaskGroup

    def __init__(
        self,
        host: str | EmbeddedServer | None,
        credentials: Credentials,
        verify: SSLContext | str | None,
        limits: ClientLimits | None = None,
    ) -> None:
        if os.environ.get("LMSTUDIO_LOG"):
            from lmstudio_async._log_setup import set_up_log

            set_up_log()
        self.limits: ClientLimits = limits or DEFAULT_LIMITS
        self.credentials = credentials
        #: Whether connections can be made: the client was opened, and not closed since.
        self.is_open: bool = False
        self.connector: Connector | None = None
        self._host = _check_host(host)
        self._verify = verify
        self._made_at = call_site()
        self._attempt: anyio.Event | None = None
        self._is_closed = False
        self._own_connector: WebSocketConnector | None = None

    @property
    def address(self) -> str:
        """Address of the server, for messages."""
        server = self.connector or self._host
        return str(getattr(server, "address", server))

    def check_not_closed(self) -> None:
        """Check that the client has not been closed.

        :raises LMStudioConnectionClosedError: if it has.
        """
        if self._is_closed:
            raise LMStudioConnectionClosedError("This client is closed. Make a new one.")

    async def open(self) -> None:
        """Find the server, if it has not been found yet. A failure leaves nothing open, and the next use tries again.

        :raises LMStudioUnreachableError: if no server was named and none was found.
        """
        while not self.is_open and self._attempt is not None:
            # Another task is opening the client.
            await self._attempt.wait()
        self.check_not_closed()
        if self.is_open:
            self.tasks.check()
            return
        # Not a lock, because a lock would stay bound to the backend, asyncio or trio, of the first attempt.
        self._attempt = attempt = anyio.Event()
        try:
            await self._find_and_open()
        finally:
            self._attempt = None
            attempt.set()

    async def _find_and_open(self) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            await preload("_request_log")
        if "opentelemetry.trace" in sys.modules:
            await preload("_tracing")
        tasks = OwnedTaskGroup("client", f"AsyncClient({self.address!r})", self._made_at)
        await tasks.open()
        try:
            connector = await self._find_server(tasks)
            # Another task may have closed the client meanwhile.
            self.check_not_closed()
        except BaseException:
            await tasks.aclose()
            raise
        self.tasks, self.connector, self.is_open = tasks, connector, True

    def is_in_this_loop(self) -> bool:
        """Return whether the client was opened in the event loop that the caller runs in."""
        return self.connector is not None and self.tasks.is_in_this_loop()

    def refuse(self) -> None:
        """Refuse new connections from now on."""
        self._is_closed = True
        self.is_open = False

    async def aclose(self) -> None:
        """End the task group, and with it the client's own embedded server. Close all sessions before."""
        if self._attempt is not None:
            # The attempt to open the client finds that it was closed, and fails.
            await self._attempt.wait()
        if self.connector is None:
            return
        try:
            if self._own_connector is not None and self.tasks.is_in_this_loop():
                await self._own_connector.aclose()
            await self.tasks.aclose()
        finally:
            # After an interrupt in the lines above, the task group still ends in the background.
            self.tasks.close_soon()

    async def _find_server(self, tasks: OwnedTaskGroup) -> Connector:
        host = (_host_from_environment() or None) if self._host is None else self._host
        if host is None:
            await preload("_transport._discovery")
            from lmstudio_async._transport import find_default_local_api_host

            host = await find_default_local_api_host(self.limits)
            if host is None:
                ports = ", ".join(map(str, (*self.limits.api_ports, self.limits.app_port)))
                raise LMStudioUnreachableError(
                    f"No LM Studio found on this machine. Tried 127.0.0.1 at the ports {ports}.\n"
                    "Start LM Studio and its server, or give its address: api_host='host:port', or LMSTUDIO_HOST.\n"
                    'Or run models without it, by api_host="embedded", or LMSTUDIO_HOST=embedded. '
                    f"{await anyio.to_thread.run_sync(_next_step)}"
                )
        if host == EMBEDDED:
            await preload("embedded._server")
            from lmstudio_async.embedded import EmbeddedServer

            if await anyio.to_thread.run_sync(find_spec, "xllamacpp") is None:
                from lmstudio_async.embedded._requirements import engine_remedy

                remedy = await anyio.to_thread.run_sync(engine_remedy, "", "cli", "embedded", "hub")
                raise LMStudioMissingRuntimeError(
                    "The embedded server's engine is not installed. Give the api_host of LM Studio, or install it.\n"
                    f"{remedy}"
                )
            host = EmbeddedServer()
        if isinstance(host, str):
            await preload("_transport._connector", "_llm")
            from lmstudio_async._transport import WebSocketConnector

            address = parse_api_host(host)
            self._check_verifiable(address, secure=address.secure)
            self._own_connector = WebSocketConnector(address, verify=self._verify)
            return self._own_connector
        self._check_verifiable("an embedded server", secure=False)
        if not host.is_running:
            # The server ends with the task group.
            await tasks.start(host.run)
        return host

    def _check_verifiable(self, where: object, *, secure: bool) -> None:
        if self._verify is not None and not secure:
            raise LMStudioValueError(
                f"verify is for https and wss, but the connection to {where} does not use TLS. Leave it out, or write "
                "the api_host as https://..."
            )


def _host_from_environment() -> str | None:
    host = os.environ.get(HOST_VARIABLE)
    if host and host != EMBEDDED:
        try:
            parse_api_host(host)
        except LMStudioValueError as error:
            raise LMStudioValueError(f"{HOST_VARIABLE} is wrong: {error}") from error
    return host


def _next_step() -> str:
    """Return the command that brings the embedded server nearer to an answer."""
    from lmstudio_async._install_command import missing_modules, pull_command

    if "xllamacpp" in missing_modules("embedded"):
        from lmstudio_async.embedded._requirements import engine_remedy

        return "That needs an engine.\n" + engine_remedy("", "cli", "embedded", "hub")
    missing = missing_modules("cli", "embedded", "hub")
    needs = "Downloads need more packages" if missing else "To download a model for it"
    return f"{needs}:\n{pull_command()}"


def _check_host(host: str | EmbeddedServer | None) -> str | EmbeddedServer | None:
    if isinstance(host, str) and host != EMBEDDED:
        parse_api_host(host)
    if host is None or isinstance(host, str) or hasattr(host, "is_running"):
        return host
    raise LMStudioValueError(f"api_host must be a text or an EmbeddedServer, not {host!r:.80}")
