"""The endpoint table: one row per endpoint, for the client and for the embedded server alike.

A namespace's table is loaded when the namespace is first used, and a row's types when they are first used, because
making their classes takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, Endpoint, RpcEndpoint

__all__ = ["NAMESPACES", "ChannelEndpoint", "Endpoint", "RpcEndpoint", "endpoints"]

# The namespaces with a table of their own. All endpoints of ``plugins`` are untyped.
_TYPED = ("llm", "embedding", "system", "files", "repository", "diagnostics", "runtime")
NAMESPACES = (*_TYPED, "plugins")


@cache
def endpoints(namespace: str) -> Mapping[str, Endpoint]:
    """Return all endpoints of a namespace, by name."""
    from lmstudio_async._protocol._endpoints._untyped import UNTYPED

    rows = vars(import_module(f"{__name__}.{namespace}")).values() if namespace in _TYPED else ()
    typed = (row for row in rows if isinstance(row, (RpcEndpoint, ChannelEndpoint)))
    return {row.name: row for row in (*typed, *UNTYPED.get(namespace, ()))}
