"""Requests about loaded instances that are given by a name or a query, without a handle."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from lmstudio_async._arguments import check_name, optional_name
from lmstudio_async._protocol._endpoints.models import GET_MODEL_INFO, UNLOAD_MODEL
from lmstudio_async._specifiers import no_such_instance, to_specifier
from lmstudio_async._wire._models import GetModelInfoParameter, UnloadModelParameter

if TYPE_CHECKING:
    from lmstudio_async._session import Session
    from lmstudio_async._wire._infos import ModelInstanceInfo

__all__ = ["request_info", "unload_by_name"]


async def request_info(session: Session, specifier: object, device: str | None) -> ModelInstanceInfo:
    """Request info about a loaded instance.

    :param specifier: see `to_specifier`.
    :param device: the device that runs it; None for any.
    :raises LMStudioModelNotFoundError: if no loaded instance matches.
    """
    parameter = GetModelInfoParameter(specifier=to_specifier(specifier, device), throw_if_not_found=True)
    info = await session.call(GET_MODEL_INFO, parameter)
    if info is None:
        raise no_such_instance(GET_MODEL_INFO.label)
    return info


async def unload_by_name(
    session: Session, kind: Literal["llm", "embedding"], identifier: str, device: str | None
) -> None:
    """Unload the instance of an identifier.

    :param device: the device that runs it; None for any.
    :raises LMStudioModelNotFoundError: if no instance has this identifier.
    """
    parameter = UnloadModelParameter(
        identifier=check_name(identifier, "the identifier"),
        device_identifier=optional_name(device, "device"),
    )
    # Before that, the address of the server may not be known, which the span shows.
    await session.open()
    tracing = session.tracing()
    with (
        nullcontext() if tracing is None else tracing.unload(kind, identifier),
        session.journal.unloading(kind, identifier, device=device),
    ):
        await session.call(UNLOAD_MODEL, parameter)
