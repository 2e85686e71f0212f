"""Selection of the loaded instance for the specifier in a request."""

from __future__ import annotations

from collections.abc import Sequence

from lmstudio_async._protocol._errors import no_model_matching, server_error
from lmstudio_async._wire._models import (
    InstanceReferenceSpecifier,
    ModelQuery,
    ModelSpecifier,
    QuerySpecifier,
)
from lmstudio_async._wire._struct import write
from lmstudio_async.embedded._catalog._naming import folded
from lmstudio_async.embedded._instances._departures import Departures
from lmstudio_async.embedded._instances._instance import Domain, Instance

__all__ = ["select"]


def select(
    specifier: ModelSpecifier, loaded: Sequence[Instance], domain: Domain, departures: Departures
) -> Instance:
    """Return the instance that a specifier means, among the loaded ones of a namespace.

    :param departures: the reasons why other instances are gone.
    :raises LMStudioModelNotFoundError: no loaded instance matches the query.
    :raises LMStudioInstanceUnloadedError: the referenced instance is not loaded.
    """
    if isinstance(specifier, InstanceReferenceSpecifier):
        for instance in loaded:
            if instance.reference == specifier.instance_reference:
                return instance
        raise departures.error(specifier.instance_reference)
    if not isinstance(specifier, QuerySpecifier):
        raise server_error(f"The server knows no model specifier of type {specifier.extra.get('type')!r}.")
    query = specifier.query
    fitting = [instance for instance in loaded if _fits(query, instance)]
    if query.identifier is not None:
        # An equal identifier takes precedence over a matching key or path.
        exact = [instance for instance in fitting if instance.identifier == query.identifier]
        fitting = exact or [instance for instance in fitting if _is_called(query.identifier, instance)]
    if not fitting:
        raise no_model_matching(
            {**write(query), "domain": domain}, [instance.identifier for instance in loaded]
        )
    return fitting[0]


def _fits(query: ModelQuery, instance: Instance) -> bool:
    """Whether an instance matches a query, apart from the identifier."""
    return (
        query.domain in (None, instance.domain)
        # There is no other device than this one.
        and query.device_identifier is None
        and (query.path is None or _is_at(query.path, instance))
        and (query.vision is None or query.vision == instance.entry.vision)
    )


def _is_at(path: str, instance: Instance) -> bool:
    """Whether the path is the path of the model, or of a folder that contains it."""
    wanted = folded(path).rstrip("/")
    return (folded(instance.entry.path) + "/").startswith(wanted + "/")


def _is_called(name: str, instance: Instance) -> bool:
    """Whether the name is the model's key, or a prefix of its path with more than the publisher."""
    wanted = folded(name)
    entry = instance.entry
    keys = {folded(entry.model_key), folded(entry.base_key)}
    return wanted in keys or ("/" in wanted and folded(entry.path).startswith(wanted))
