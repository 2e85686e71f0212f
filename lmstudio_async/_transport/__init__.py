"""Connections to a server: text frames in, text frames out. The only importer of httpx and httpx-ws.

The modules are loaded on first use, so that parsing an address does not import an HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._lazy_exports import export_lazily

if TYPE_CHECKING or not export_lazily(__name__):
    from lmstudio_async._transport._address import ServerAddress as ServerAddress
    from lmstudio_async._transport._address import parse_api_host as parse_api_host
    from lmstudio_async._transport._base import ClientTransport as ClientTransport
    from lmstudio_async._transport._base import Connector as Connector
    from lmstudio_async._transport._base import FrameTransport as FrameTransport
    from lmstudio_async._transport._connector import WebSocketConnector as WebSocketConnector
    from lmstudio_async._transport._discovery import (
        find_default_local_api_host as find_default_local_api_host,
    )
    from lmstudio_async._transport._discovery import is_valid_api_host as is_valid_api_host
    from lmstudio_async._transport._memory_transport import memory_pair as memory_pair
