"""Specifiers of loaded instances: identifiers, queries, and instance references."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar, cast

from lmstudio_async._arguments import check_name, optional_name
from lmstudio_async._wire._models import (
    InstanceReferenceSpecifier,
    ModelQuery,
    ModelSpecifier,
    QuerySpecifier,
)
from lmstudio_async._wire._struct import MalformedError, read
from lmstudio_async.errors import LMStudioModelNotFoundError, LMStudioServerError, LMStudioValueError

__all__ = ["any_loaded_info", "instance_specifier", "no_such_instance", "to_specifier"]

InfoT = TypeVar("InfoT")

_QUERY_KEYS = {"domain", "device_identifier", "deviceIdentifier", "identifier", "path", "vision"}


class _Named(Protocol):
    @property
    def identifier(self) -> str: ...

    @property
    def instance_reference(self) -> str: ...


def instance_specifier(info: _Named) -> ModelSpecifier:
    """Return the specifier of the one instance that an info describes; older servers know only its identifier."""
    if info.instance_reference:
        return InstanceReferenceSpecifier(instance_reference=info.instance_reference)
    return QuerySpecifier(query=ModelQuery(identifier=info.identifier))


def to_specifier(specifier: object, device: str | None) -> ModelSpecifier:
    """Make a specifier from an identifier, a query, a specifier, or a mapping with the members of one of the last two.

    :param device: the device to which the specifier is limited; None for no limit.
    :raises LMStudioValueError: if it is none of these.
    """
    made = _specifier(specifier)
    if device is None:
        return made
    if not isinstance(made, QuerySpecifier):
        raise LMStudioValueError(
            "an instance reference names one instance wherever it runs: leave out device"
        )
    members = {name: getattr(made.query, name) for name in ("domain", "identifier", "path", "vision")}
    return QuerySpecifier(query=ModelQuery(device_identifier=optional_name(device, "device"), **members))


def _specifier(specifier: object) -> ModelSpecifier:
    if isinstance(specifier, str):
        return QuerySpecifier(query=ModelQuery(identifier=check_name(specifier, "the identifier")))
    if isinstance(specifier, InstanceReferenceSpecifier):
        return specifier
    if isinstance(specifier, QuerySpecifier):
        return _of_query(specifier.query)
    if isinstance(specifier, ModelQuery):
        return _of_query(specifier)
    if isinstance(specifier, Mapping):
        return _specifier_from_mapping(specifier)
    raise LMStudioValueError(
        "a model is specified by its identifier, a ModelQuery, or a mapping such as {'identifier': ...} or "
        f"{{'type': 'instanceReference', 'instanceReference': ...}}, not by {specifier!r:.80}"
    )


def _specifier_from_mapping(mapping: Mapping[Any, Any]) -> ModelSpecifier:
    if "type" in mapping:
        try:
            specifier: Any = read(cast("type[Any]", ModelSpecifier), dict(mapping))
        except MalformedError as error:
            raise LMStudioValueError(f"not a model specifier: {error}") from error
        if isinstance(specifier, InstanceReferenceSpecifier) and not specifier.extra:
            return specifier
        if isinstance(specifier, QuerySpecifier) and not {**specifier.extra, **specifier.query.extra}:
            return _of_query(specifier.query)
        raise LMStudioValueError(
            "a model specifier is {'type': 'query', 'query': {...}} or "
            f"{{'type': 'instanceReference', 'instanceReference': ...}}, not {mapping!r:.120}"
        )
    unknown = mapping.keys() - _QUERY_KEYS
    if unknown:
        raise LMStudioValueError(
            f"unknown in a model query: {', '.join(map(repr, sorted(map(str, unknown))))}. "
            "There are: domain, device_identifier, identifier, path, vision"
        )
    device = mapping.get("device_identifier", mapping.get("deviceIdentifier"))
    members: dict[str, Any] = {key: mapping.get(key) for key in ("domain", "identifier", "path", "vision")}
    return _of_query(ModelQuery(device_identifier=device, **members))


def _of_query(query: ModelQuery) -> QuerySpecifier:
    # The server ignores a member of a wrong type, and its response could then be about any instance.
    for name in ("domain", "device_identifier", "identifier", "path"):
        optional_name(getattr(query, name), f"{name} of a model query")
    if query.vision not in (None, True, False):
        raise LMStudioValueError(f"vision of a model query must be True or False, not {query.vision!r:.80}")
    return QuerySpecifier(query=query)


def no_such_instance(label: str) -> LMStudioServerError:
    """Make the server's error for a specifier that no instance fits, where the server has not sent it.

    :param label: the failed operation, for the message.
    """
    from lmstudio_async._protocol._errors import error_from_wire, no_model_matching

    return error_from_wire(no_model_matching({}, ()).server_error, label)


async def any_loaded_info(
    get_info: Callable[[ModelQuery], Awaitable[InfoT]], kind: Literal["llm", "embedding"], device: str | None
) -> InfoT:
    """Return the info of any loaded instance of a kind.

    :param get_info: requests the info of an instance that fits a query.
    :raises LMStudioModelNotFoundError: if none is loaded.
    """
    try:
        return await get_info(ModelQuery(domain=kind, device_identifier=optional_name(device, "device")))
    except LMStudioModelNotFoundError as error:
        raise LMStudioModelNotFoundError(
            f"No model of type {kind!r} is loaded, and model() without a key loads none.\n"
            f"Give it the key of a model to load; client.{kind}.list_downloaded() lists them.",
            error.server_error,
        ) from error
