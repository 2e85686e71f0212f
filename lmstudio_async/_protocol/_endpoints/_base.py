"""What an endpoint is: a call with one answer, or a channel with packets both ways."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import attrs

__all__ = ["ChannelEndpoint", "Endpoint", "RpcEndpoint"]

P = TypeVar("P")
R = TypeVar("R")


@attrs.frozen
class RpcEndpoint(Generic[P, R]):
    """A call: one parameter, one answer.

    :param name: on the wire.
    :param parameter: class of its parameter; None where it has none.
    :param result: type of its result; None where it has none.
    :param optional_parameter: the parameter may be absent.
    :param optional_result: the result may be absent.
    :param repeatable: calling it twice does no more than calling it once, so it may be repeated after a
        connection was lost.
    :param label: what a person would call it, for error messages.
    """

    name: str
    parameter: Any = None
    result: Any = None
    optional_parameter: bool = attrs.field(default=False, kw_only=True)
    optional_result: bool = attrs.field(default=False, kw_only=True)
    repeatable: bool = attrs.field(default=True, kw_only=True)
    label: str = attrs.field(default="Request", kw_only=True)


@attrs.frozen
class ChannelEndpoint(Generic[P, R]):
    """A channel: packets until the server ends it.

    :param name: on the wire.
    :param creation: class of its creation parameter; None where it has none.
    :param to_client: union of the packets that the server sends.
    :param to_server: union of the packets that the client sends.
    :param label: what a person would call it, for error messages.
    """

    name: str
    creation: Any = None
    to_client: Any = None
    to_server: Any = None
    label: str = attrs.field(default="Operation", kw_only=True)


Endpoint = RpcEndpoint[Any, Any] | ChannelEndpoint[Any, Any]
