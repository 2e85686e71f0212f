"""ASGI app that serves a port: the websockets, the greeting, and LM Studio's REST calls for models."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from lmstudio_async._protocol._endpoints import NAMESPACES
from lmstudio_async._protocol._errors import unwrap_group
from lmstudio_async._transport._address import ip_address, is_loopback
from lmstudio_async.embedded._connections._origins import host_of
from lmstudio_async.embedded._http._rest import RestError, list_models, load_model, unload_model
from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.embedded._server import EmbeddedServer, clients_of, origins_of
from lmstudio_async.embedded._versions import package_version
from lmstudio_async.errors import LMStudioConnectionBrokenError, LMStudioConnectionClosedError

__all__ = ["create_app"]

logger = logging.getLogger("lmstudio_async.embedded")

_AVAILABLE = (
    "This server has GET /api/v1/models, POST /api/v1/models/load and POST /api/v1/models/unload. "
    "All else goes over the websockets that LM Studio's SDKs use."
)


def create_app(server: EmbeddedServer) -> Starlette:
    """Make an ASGI app of a server, to be run by uvicorn or another ASGI server on asyncio.

    The app does not start the server: run it inside the server's block, in the same event loop. The ASGI server that
    runs the app limits the length of a message and the number of sockets.

    The app refuses requests of web pages, except those of this machine and of ``allowed_origins``, so that an arbitrary
    page in a browser cannot use the models. Without ``api_tokens`` it also refuses requests that arrive at an address
    of a network, and requests whose ``Host`` header is not a name of this machine.

    :param server: the server that handles the requests.
    :return: the app.

    ::

        async with EmbeddedServer("~/models") as server:
            await uvicorn.Server(uvicorn.Config(create_app(server), port=1234)).serve()
    """

    async def greeting(_: Request) -> Response:
        return _JsonResponse({"lmstudio": True})

    async def status(_: Request) -> Response:
        return _JsonResponse({"package": "lmstudio-async", "version": package_version()})

    async def websocket(socket: WebSocket) -> None:
        namespace = socket.path_params["namespace"]
        if namespace not in NAMESPACES:
            await socket.send_denial_response(_JsonResponse({"error": "no such namespace"}, status_code=404))
            return
        await socket.accept()
        await server.serve(_SocketTransport(socket), namespace)

    def rest(
        call: Callable[[EmbeddedServer, Any], Coroutine[Any, Any, dict[str, Any]]],
    ) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            try:
                _check_token(server, request)
                body = await _body(request, server.limits) if request.method == "POST" else None
                return _JsonResponse(await _cancelled_on_disconnect(request, call(server, body)))
            except RestError as error:
                return _error_response(error.status, error.type, str(error), error.param)

        return respond

    app = Starlette(
        routes=[
            Route("/lmstudio-greeting", greeting),
            Route("/lms-status", status),
            Route("/api/v1/models", rest(list_models)),
            Route("/api/v1/models/load", rest(load_model), methods=["POST"]),
            Route("/api/v1/models/unload", rest(unload_model), methods=["POST"]),
            WebSocketRoute("/{namespace:path}", websocket),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )
    app.add_middleware(_OriginMiddleware, server=server)
    return app


class _OriginMiddleware:
    """Middleware that refuses requests by their origin, address and host, and sends CORS headers to allowed pages."""

    def __init__(self, app: ASGIApp, server: EmbeddedServer) -> None:
        self._app = app
        self._clients = clients_of(server)
        self._origins = origins_of(server)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        problem = self._problem(connection)
        if problem is not None:
            logger.warning("refused: %s", problem)
            response = _error_response(403, "invalid_request", problem)
            if scope["type"] == "http":
                await response(scope, receive, send)
            else:
                await WebSocket(scope, receive, send).send_denial_response(response)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif (origin := connection.headers.get("origin")) is None:
            await self._app(scope, receive, _with_headers(send, {"Vary": "Origin"}))
        else:
            send = _with_headers(send, {"Vary": "Origin", "Access-Control-Allow-Origin": origin})
            if scope["method"] == "OPTIONS" and "access-control-request-method" in connection.headers:
                await _preflight_answer(connection)(scope, receive, send)
            else:
                await self._app(scope, receive, send)

    def _problem(self, connection: HTTPConnection) -> str | None:
        for origin in connection.headers.getlist("origin"):
            if not self._origins.allow(origin):
                return (
                    f"web pages of {origin[:100]!r} may not use this server; its owner can allow them by "
                    "allowed_origins, or serve --allow-origin"
                )
        if self._clients.needs_tokens:
            return None
        local = connection.scope.get("server")
        if local is not None and _is_open_to_others(local[0]):
            return "a client from another machine needs an API token, and this server has none: give it api_tokens"
        # DNS rebinding: a page can make its own host name resolve to this machine, but cannot change the Host header.
        host = connection.headers.get("host", "")
        if is_loopback(host_of(f"//{host}")):
            return None
        return f"this server is not called {host[:100]!r}; use localhost"


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers


def _preflight_answer(connection: HTTPConnection) -> Response:
    """Answer a CORS preflight request, in which browsers send no token."""
    headers = {
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
    }
    if connection.headers.get("access-control-request-private-network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=headers)


def _is_open_to_others(listening: str) -> bool:
    """Return whether an address of the server is one of a network, and not loopback or the path of a Unix socket."""
    address = ip_address(listening)
    return address is not None and not address.is_loopback


class _SocketTransport:
    """A websocket as a ``FrameTransport``."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._closed = False
        self._broken = False

    async def send(self, *frames: str) -> None:
        self._raise_if_ended()
        try:
            for frame in frames:
                await self._socket.send_text(frame)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise self._break() from error

    async def receive(self) -> Sequence[str]:
        while True:
            self._raise_if_ended()
            try:
                message = await self._socket.receive()
            except (WebSocketDisconnect, RuntimeError, OSError) as error:
                raise self._break() from error
            if message["type"] == "websocket.disconnect":
                raise self._break()
            if (text := message.get("text")) is not None:
                return [text]
            logger.warning("a binary frame was ignored")

    async def aclose(self) -> None:
        if self._closed or self._broken:
            self._closed = True
            return
        self._closed = True
        with anyio.move_on_after(2, shield=True):
            try:
                await self._socket.close()
            except (WebSocketDisconnect, RuntimeError, OSError):
                pass  # the client has closed it already

    def _break(self) -> LMStudioConnectionBrokenError:
        self._broken = True
        return LMStudioConnectionBrokenError("the connection was lost: the other side closed it")

    def _raise_if_ended(self) -> None:
        if self._closed:
            raise LMStudioConnectionClosedError("this connection was closed by this program")
        if self._broken:
            raise self._break()


def _check_token(server: EmbeddedServer, request: Request) -> None:
    clients = clients_of(server)
    if clients.needs_tokens:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not clients.accepts_token(token.strip()):
            raise RestError(
                401, "invalid_request", "This server needs an API token: Authorization: Bearer sk-lm-…"
            )


async def _body(request: Request, limits: ServerLimits) -> Any:
    content = b""
    try:
        with anyio.fail_after(limits.authentication_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.body_bytes:
                    raise RestError(
                        413, "invalid_request", f"The request is longer than {limits.body_bytes} bytes."
                    )
    except TimeoutError:
        raise RestError(408, "invalid_request", "The body of the request took too long.") from None
    except ClientDisconnect:
        raise RestError(
            400, "invalid_request", "The client disconnected before the end of the body."
        ) from None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise RestError(400, "invalid_request", "The body of the request is no JSON.") from None


async def _cancelled_on_disconnect(
    request: Request, call: Coroutine[Any, Any, dict[str, Any]]
) -> dict[str, Any]:
    """Return the result of a call; cancel it if the client disconnects, or is disconnected when the server ends."""

    async def cancel_on_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_on_disconnect)
            result = await call
            tasks.cancel_scope.cancel()
            return result
    except BaseExceptionGroup as group:
        raise unwrap_group(group) from None
    raise RestError(499, "invalid_request", "The client has left.")


class _JsonResponse(Response):
    """Response in ASCII JSON, because a client's text may have a lone surrogate, which UTF-8 cannot encode."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def _error_response(
    status: int, kind: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    error = {"type": kind, "message": message}
    if param is not None:
        error["param"] = param
    if status == 401:
        headers = {**(headers or {}), "WWW-Authenticate": "Bearer"}
    return _JsonResponse({"error": error}, status_code=status, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code in (404, 405):
        message = f"There is no {request.method} {request.url.path[:200]} here. {_AVAILABLE}"
    return _error_response(error.status_code, "invalid_request", message, headers=error.headers)


async def _internal_error(_: Request, __: Exception) -> Response:
    return _error_response(500, "internal_error", "Internal server error")
