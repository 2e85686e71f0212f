"""Arguments, checked before anything is sent: the server would not answer a bad one, but keep silent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from lmstudio_async._wire._models import (
    InstanceReferenceSpecifier,
    ModelQuery,
    ModelSpecifier,
    QuerySpecifier,
)
from lmstudio_async._wire._struct import MalformedError, read
from lmstudio_async.errors import LMStudioValueError

__all__ = ["DEFAULT_TTL", "check_name", "check_text", "optional_name", "to_specifier", "ttl_to_ms"]

DEFAULT_TTL = 3600
"""Idle seconds after which a model that this SDK loaded is unloaded, unless told otherwise."""

_LONGEST_NAME = 1024
_QUERY_KEYS = {"domain", "device_identifier", "deviceIdentifier", "identifier", "path", "vision"}


def check_text(value: object, what: str) -> str:
    """Make sure that it is a text."""
    if not isinstance(value, str):
        raise LMStudioValueError(f"{what} must be a text, not {type(value).__name__}: {value!r:.80}")
    return value


def check_name(value: object, what: str) -> str:
    """Make sure that it can be a model key, an instance identifier or a device identifier."""
    name = check_text(value, what)
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise LMStudioValueError(f"{what} must have 1 to {_LONGEST_NAME} characters, not {len(name)}")
    if not name.isprintable() or name == "__proto__":
        raise LMStudioValueError(f"{what} must not have control characters, nor be '__proto__': {name!r:.80}")
    return name


def optional_name(value: object, what: str) -> str | None:
    """The same, where None stands for none."""
    return None if value is None else check_name(value, what)


def ttl_to_ms(ttl: float | None) -> int | None:
    """Seconds -> the wire's milliseconds; None stays None: never."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise LMStudioValueError(f"ttl must be a number of seconds, or None for no limit, not {ttl!r:.80}")
    if not math.isfinite(ttl) or ttl < 0.001:
        raise LMStudioValueError(
            f"ttl must be at least 0.001 seconds, not {ttl!r}. For a model that is never unloaded when idle, give None."
        )
    return round(ttl * 1000)


def to_specifier(specifier: object) -> ModelSpecifier:
    """Make a specifier out of an identifier, a query, or either of them as a mapping."""
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
    # A member of a wrong type would be overlooked by the server, and the answer be about any instance at all.
    for name in ("domain", "device_identifier", "identifier", "path"):
        optional_name(getattr(query, name), f"{name} of a model query")
    if query.vision not in (None, True, False):
        raise LMStudioValueError(f"vision of a model query must be True or False, not {query.vision!r:.80}")
    return QuerySpecifier(query=query)
