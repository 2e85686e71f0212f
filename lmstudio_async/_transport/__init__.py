"""Layer 1: text frames in, text frames out. The only importer of httpx and httpx-ws.

The modules are loaded on first use, so that parsing an address does not import an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstudio_async._transport._address import ServerAddress as ServerAddress
    from lmstudio_async._transport._address import parse_api_host as parse_api_host
    from lmstudio_async._transport._base import Connector as Connector
    from lmstudio_async._transport._base import FrameTransport as FrameTransport
    from lmstudio_async._transport._discovery import DEFAULT_API_PORTS as DEFAULT_API_PORTS
    from lmstudio_async._transport._discovery import (
        find_default_local_api_host as find_default_local_api_host,
    )
    from lmstudio_async._transport._discovery import is_valid_api_host as is_valid_api_host
    from lmstudio_async._transport._memory import memory_pair as memory_pair
    from lmstudio_async._transport._websocket import WebSocketConnector as WebSocketConnector

__all__ = [
    "DEFAULT_API_PORTS",
    "Connector",
    "FrameTransport",
    "ServerAddress",
    "WebSocketConnector",
    "find_default_local_api_host",
    "is_valid_api_host",
    "memory_pair",
    "parse_api_host",
]

_MODULES = {
    "Connector": "_base",
    "DEFAULT_API_PORTS": "_discovery",
    "FrameTransport": "_base",
    "ServerAddress": "_address",
    "WebSocketConnector": "_websocket",
    "find_default_local_api_host": "_discovery",
    "is_valid_api_host": "_discovery",
    "memory_pair": "_memory",
    "parse_api_host": "_address",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
