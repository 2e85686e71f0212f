"""Calls of endpoints that this SDK has no method for."""

from __future__ import annotations

from typing import Any

from lmstudio_async._arguments import check_name
from lmstudio_async._protocol._endpoints import NAMESPACES, ChannelEndpoint, RpcEndpoint, endpoints
from lmstudio_async._wire._kv import misfit
from lmstudio_async.errors import LMStudioValueError

__all__ = ["any_call", "check_protocol_namespace"]


def check_protocol_namespace(namespace: object) -> str:
    """Check that ``namespace`` is a namespace of the protocol, and return it."""
    if namespace not in NAMESPACES:
        raise LMStudioValueError(f"namespace must be one of {', '.join(NAMESPACES)}, not {namespace!r:.80}")
    return str(namespace)


def any_call(namespace: str, endpoint: str, parameter: object) -> RpcEndpoint[Any, Any]:
    """Make an endpoint whose parameter and result are plain JSON.

    :raises LMStudioValueError: if the endpoint is a channel, or the parameter is not JSON.
    """
    name = check_name(endpoint, "the endpoint")
    known = endpoints(namespace).get(name)
    if isinstance(known, ChannelEndpoint):
        raise LMStudioValueError(
            f"{namespace}.{name} is a channel: call() supports only endpoints with a single response"
        )
    found = misfit(("json",), parameter)
    if found is not None:
        raise LMStudioValueError(f"the parameter of {namespace}.{name} is not JSON: it{' '.join(found)}")
    return RpcEndpoint(
        name,
        None,
        Any,
        optional_result=True,
        # An unknown endpoint may not be idempotent, so a call of it is not retried.
        repeatable=known is not None and known.repeatable,
        label=f"{namespace}.{name}",
    )
