"""Status of the loaded instances: the table that `AsyncClient.list_instances` returns."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs

from lmstudio_async._handles import ModelList
from lmstudio_async._instance_journal import instance_key
from lmstudio_async._printable import ShortRepr
from lmstudio_async._wire._infos import ModelInstanceInfo

if TYPE_CHECKING:
    from lmstudio_async._embedding import AsyncEmbeddingModel
    from lmstudio_async._instance_journal import InstanceJournal
    from lmstudio_async._instance_survey import Sighting
    from lmstudio_async._llm import AsyncLLM
    from lmstudio_async._session import Session

__all__ = ["InstanceStatus", "instance_status", "list_statuses", "with_handles"]

HandleT = TypeVar("HandleT")


@attrs.frozen(kw_only=True, repr=False)
class InstanceStatus(ShortRepr, Generic[HandleT]):
    """A loaded instance and what it does.

    :param kind: ``llm`` or ``embedding``.
    :param identifier: name of the instance, unique on its server.
    :param model_key: key of its model.
    :param instance_reference: reference of this one instance.
    :param status: ``idle``, ``processingPrompt``, ``generating`` or ``computingEmbedding``; None if the server does not
        tell, as older ones.
    :param prompt_progress: how much of the prompt is processed, from 0.0 to 1.0; None if it processes none, or the server
        does not tell. The embedded server tells.
    :param queued: number of requests that wait for the instance.
    :param ttl: idle time in seconds after which the server unloads it; None for never.
    :param idle_seconds: seconds since its last request ended, or since it was loaded, if it had none yet and this client
        saw it come. 0.0 while it works; None if it is not known.
    :param unloads_in: seconds until the server unloads it, unless it is used before: all of the TTL while it works; None
        without a TTL, and if its idle time is not known.
    :param context_length: size of its context, in tokens.
    :param size_bytes: size of its model on disk.
    :param device: identifier of the LM Link device that runs it; None for the server's own machine.
    :param info: all info that the server sent about it.
    :param make_handle: makes the handle that `handle` returns.

    ::

        for instance in await client.list_instances():
            print(instance.identifier, instance.status, instance.unloads_in)
    """

    _shown = "identifier kind model_key status queued prompt_progress ttl idle_seconds unloads_in context_length device"

    kind: str
    identifier: str
    model_key: str
    instance_reference: str
    status: str | None
    prompt_progress: float | None
    queued: int
    ttl: float | None
    idle_seconds: float | None
    unloads_in: float | None
    context_length: int
    size_bytes: int
    device: str | None
    info: ModelInstanceInfo
    _make_handle: Callable[[], HandleT] = attrs.field(eq=False)

    def handle(self) -> HandleT:
        """Return a handle of the instance. Makes no request.

        :return: the handle.

        ::

            instance = (await client.list_instances())[0]
            await instance.handle().unload()
        """
        return self._make_handle()


def with_handles(status: InstanceStatus[Any], wrap: Callable[[Any], HandleT]) -> InstanceStatus[HandleT]:
    """Return the same status with handles of another kind.

    :param wrap: makes such a handle out of the original one.
    """
    return cast("InstanceStatus[HandleT]", attrs.evolve(status, make_handle=lambda: wrap(status.handle())))


def instance_status(
    sighting: Sighting,
    make_handle: Callable[[ModelInstanceInfo], HandleT],
    *,
    loaded_at: float | None,
    server_is_ahead: float,
) -> InstanceStatus[HandleT]:
    """Return the status of an instance that the server has described.

    :param make_handle: makes a handle of the instance.
    :param loaded_at: time of this machine at which the instance was loaded, in seconds since 1970, if it is known.
    :param server_is_ahead: seconds that the server's clock is ahead of this machine's.
    """
    info, state = sighting.info.read(), sighting.state
    idle: float | None = None
    if state is not None and state.status != "idle":
        idle = 0.0
    elif info.last_used_time is not None:
        idle = max(0.0, time.time() + server_is_ahead - info.last_used_time / 1000)
    elif loaded_at is not None:
        idle = max(0.0, time.time() - loaded_at)
    return InstanceStatus(
        kind=info.type,
        identifier=info.identifier,
        model_key=info.model_key,
        instance_reference=info.instance_reference,
        status=None if state is None else state.status,
        prompt_progress=None if state is None else state.prompt_progress,
        queued=0 if state is None else state.queued,
        ttl=info.ttl,
        idle_seconds=idle,
        unloads_in=None if info.ttl is None or idle is None else max(0.0, info.ttl - idle),
        context_length=info.context_length,
        size_bytes=info.size_bytes,
        device=info.device_identifier,
        info=info,
        make_handle=lambda: make_handle(info),
    )


async def list_statuses(
    llm: Session, embedding: Session, journal: InstanceJournal
) -> ModelList[InstanceStatus[AsyncLLM | AsyncEmbeddingModel]]:
    """Request the status of each instance of a server.

    :param llm: the session of the language models.
    :param embedding: the session of the embedding models.
    :param journal: the client's journal.
    """
    from lmstudio_async._embedding import AsyncEmbeddingModel
    from lmstudio_async._instance_survey import survey
    from lmstudio_async._llm import AsyncLLM

    handles: dict[str, Callable[[ModelInstanceInfo], AsyncLLM | AsyncEmbeddingModel]] = {
        "llm": partial(AsyncLLM, llm),
        "embedding": partial(AsyncEmbeddingModel, embedding),
    }
    return ModelList(
        instance_status(
            sighting,
            handles[sighting.info.type],
            loaded_at=journal.loaded_at(instance_key(sighting.info)),
            server_is_ahead=llm.server_is_ahead,
        )
        for sighting in await survey([llm, embedding])
    )
