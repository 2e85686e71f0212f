"""Survey of a server: which instances are loaded, and what each of them does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import attrs

from lmstudio_async._handles import LIST_INSTANCES, UnreadInfo
from lmstudio_async._protocol._endpoints.models import GET_INSTANCE_PROCESSING_STATE
from lmstudio_async._specifiers import instance_specifier
from lmstudio_async._wire._models import GetModelInfoParameter
from lmstudio_async.errors import LMStudioError, LMStudioModelNotFoundError, LMStudioServerError

if TYPE_CHECKING:
    from lmstudio_async._session import Session
    from lmstudio_async._wire._usage import ProcessingState

__all__ = ["Sighting", "survey"]


@attrs.frozen
class Sighting:
    """One instance, as the server has described it.

    :param info: info about the instance.
    :param state: the processing state of the instance; None if the server does not tell.
    """

    info: UnreadInfo
    state: ProcessingState | None


async def survey(sessions: Sequence[Session]) -> list[Sighting]:
    """Request the loaded instances of several namespaces, and their states, concurrently.

    An instance that is unloaded meanwhile is left out.

    :param sessions: the sessions of the namespaces.
    :raises LMStudioError: if the server cannot be reached, or does not respond in time.
    """
    found: list[list[Sighting]] = [[] for _ in sessions]
    errors: list[LMStudioError] = []

    async def look(index: int) -> None:
        try:
            found[index] = await _survey(sessions[index])
        except LMStudioError as error:
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for index in range(len(sessions)):
            tasks.start_soon(look, index)
    if errors:
        raise errors[0]
    return [sighting for each in found for sighting in each]


async def _survey(session: Session) -> list[Sighting]:
    infos = [info for info in await session.call(LIST_INSTANCES) if info.type == session.namespace]
    parameters = [
        GetModelInfoParameter(specifier=instance_specifier(info), throw_if_not_found=True) for info in infos
    ]
    states = await session.call_each(GET_INSTANCE_PROCESSING_STATE, parameters, returned=LMStudioServerError)
    return [
        Sighting(info, None if isinstance(state, LMStudioServerError) else state)
        for info, state in zip(infos, states, strict=True)
        if not isinstance(state, LMStudioModelNotFoundError)
    ]
