"""The two kinds of endpoint: a call with one response, or a channel with packets in both directions.

A row of the table names its types by their place below ``_wire``: ``"list[_infos.AnyInstanceInfo]"``. They are
looked up on first use, so that importing a row makes no classes that are never needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any, Generic, TypeVar

__all__ = ["ChannelEndpoint", "Endpoint", "RpcEndpoint"]

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")


class RpcEndpoint(Generic[P, R]):
    """A call: one parameter, one result.

    :param name: its name on the wire.
    :param parameter: class of its parameter; None where it has none.
    :param result: type of its result; None where it has none.
    :param optional_parameter: the parameter may be absent.
    :param optional_result: the result may be absent.
    :param repeatable: calling it twice does no more than calling it once, so it may be repeated after a
        connection was lost.
    :param is_use: whether it uses the instance that it names, so that the instance's TTL begins anew.
    :param label: a name for people, for error messages.
    """

    def __init__(
        self,
        name: str,
        parameter: Any = None,
        result: Any = None,
        *,
        optional_parameter: bool = False,
        optional_result: bool = False,
        repeatable: bool = True,
        is_use: bool = True,
        label: str = "Request",
    ) -> None:
        self.name = name
        self.optional_parameter = optional_parameter
        self.optional_result = optional_result
        self.repeatable = repeatable
        self.is_use = is_use
        self.label = label
        self.has_result: bool = result is not None
        self._parameter = parameter
        self._result = result

    @cached_property
    def parameter(self) -> Any:
        """Class of its parameter."""
        return _type(self._parameter)

    @cached_property
    def result(self) -> Any:
        """Type of its result."""
        return _type(self._result)

    @cached_property
    def read_result(self) -> Callable[[Any], Any]:
        """Function that makes a result out of decoded JSON."""
        return _reader(self.result)

    def read_by(self, read: Callable[[Any], S]) -> RpcEndpoint[P, S]:
        """Return the same call with another function that reads its result."""
        made: RpcEndpoint[P, Any] = copy.copy(self)
        made.read_result = read
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class ChannelEndpoint(Generic[P, R]):
    """A channel: packets until the server ends it.

    :param name: its name on the wire.
    :param creation: class of its creation parameter; None where it has none.
    :param to_client: union of the packets that the server sends.
    :param to_server: union of the packets that the client sends.
    :param label: a name for people, for error messages.
    """

    #: Like that of a call: a channel uses the instance that it names.
    is_use = True

    def __init__(
        self,
        name: str,
        creation: Any = None,
        to_client: Any = None,
        to_server: Any = None,
        *,
        label: str = "Operation",
    ) -> None:
        self.name = name
        self.label = label
        self._creation = creation
        self._to_client = to_client
        self._to_server = to_server

    @cached_property
    def creation(self) -> Any:
        """Class of its creation parameter."""
        return _type(self._creation)

    @cached_property
    def to_client(self) -> Any:
        """Union of the packets that the server sends."""
        return _type(self._to_client)

    @cached_property
    def to_server(self) -> Any:
        """Union of the packets that the client sends."""
        return _type(self._to_server)

    @cached_property
    def read_packet(self) -> Callable[[Any], Any]:
        """Function that makes a packet to the client out of decoded JSON."""
        return _reader(self.to_client)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


Endpoint = RpcEndpoint[Any, Any] | ChannelEndpoint[Any, Any]


class _WireModules(dict[str, Any]):
    """The modules below ``_wire``, by name."""

    def __missing__(self, name: str) -> Any:
        if not name.startswith("_"):
            raise KeyError(name)
        return import_module(f"lmstudio_async._wire.{name}")


def _type(named: Any) -> Any:
    # Safe to evaluate, because the expression is part of this package, like a quoted annotation.
    return eval(named, {}, _WireModules()) if isinstance(named, str) else named  # noqa: S307


def _reader(kind: Any) -> Callable[[Any], Any]:
    if kind is Any:
        return _as_it_is
    from lmstudio_async._wire._struct import reader

    return reader(kind)


def _as_it_is(value: Any) -> Any:
    return value
