"""Validation of requests that load a model, before the server acts on them."""

from __future__ import annotations

from typing import Final

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._models import GetOrLoadCreation, LoadModelCreation
from lmstudio_async.embedded._catalog._naming import is_sound_key

__all__ = ["check_load_request"]

# A JavaScript client cannot represent all integers above this one.
_LONGEST_TTL_MS: Final = 2**53


def check_load_request(creation: LoadModelCreation | GetOrLoadCreation) -> None:
    """Validate the members of a request that loads a model, so that no invalid member is silently ignored.

    :raises LMStudioServerError: a member has an invalid value, or one that this server does not support.
    """
    for name in ("identifier", "deviceIdentifier", "ttlMs", "loadTtlMs", "loadConfigStack"):
        if name in creation.extra:
            # The wire reader moves a member with a known name and a wrong type to `extra`.
            raise server_error(f"{name} cannot be {creation.extra[name]!r:.60}.")
    ttl_ms = creation.ttl_ms if isinstance(creation, LoadModelCreation) else creation.load_ttl_ms
    if ttl_ms is not None and not 1 <= ttl_ms <= _LONGEST_TTL_MS:
        raise server_error(
            f"The TTL must be a whole number of milliseconds from 1 to {_LONGEST_TTL_MS}, not {ttl_ms!r:.60}.",
            "Leave it out for the default of the server.",
        )
    if creation.device_identifier is not None:
        raise server_error(
            f"There is no LM Link device {creation.device_identifier!r:.60}: this server is part of no LM Link.",
            "Leave the device identifier out.",
        )
    # In the other request, the identifier is the model key or the identifier of a loaded instance.
    identifier = creation.identifier if isinstance(creation, LoadModelCreation) else None
    if identifier is not None and not is_sound_key(identifier):
        raise server_error(
            "An identifier has 1 to 1024 characters, none of them a control character.",
            "Leave it out to have the server name the instance.",
        )
