"""Events of instances that a client watches: `AsyncClient.watch_instances` yields them."""

from __future__ import annotations

from datetime import datetime

import attrs

from lmstudio_async._printable import ShortRepr
from lmstudio_async._protocol._departure import UnloadReason
from lmstudio_async._wire._infos import ModelInfo
from lmstudio_async.errors import LMStudioError

__all__ = [
    "InstanceChanged",
    "InstanceEvent",
    "InstanceLoadFailed",
    "InstanceLoaded",
    "InstanceLoading",
    "InstancePresent",
    "InstanceUnloaded",
    "ServerBack",
    "ServerLost",
    "UnloadReason",
]


@attrs.frozen(kw_only=True, repr=False)
class InstanceEvent(ShortRepr):
    """Base of all events: what happened to which instance, and when.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name of the instance; empty for an event of the server itself.
    :param instance_reference: reference of the instance; empty where there is none, as during a load.
    :param kind: ``llm`` or ``embedding``; empty for an event of the server itself.
    :param info: info that the server sent about the instance; during a load about the model, None before the server
        has found it. None for an event of the server itself.

    ::

        async for event in client.watch_instances():
            print(event.at, type(event).__name__, event.identifier)
            break
    """

    _shown = "identifier kind at"

    at: datetime
    identifier: str = ""
    instance_reference: str = ""
    kind: str = ""
    info: ModelInfo | None = None


@attrs.frozen(kw_only=True, repr=False)
class _WithState(InstanceEvent):
    _shown = "identifier kind status queued at"
    status: str | None = None
    queued: int = 0


@attrs.frozen(kw_only=True, repr=False)
class InstancePresent(_WithState):
    """The instance was loaded before the watch began.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name of the instance.
    :param instance_reference: reference of the instance.
    :param kind: ``llm`` or ``embedding``.
    :param info: info that the server sent about the instance.
    :param status: ``idle``, ``processingPrompt``, ``generating`` or ``computingEmbedding``; None if the server does
        not tell.
    :param queued: number of requests that wait for the instance.
    """


@attrs.frozen(kw_only=True, repr=False)
class InstanceLoading(InstanceEvent):
    """A load of this client has made progress.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name that the instance will have, as far as it is known: the server may add a number.
    :param instance_reference: empty.
    :param kind: ``llm`` or ``embedding``.
    :param info: info about the model; None before the server has found it.
    :param fraction: progress from 0.0 to below 1.0.
    """

    _shown = "identifier kind fraction at"

    fraction: float = 0.0


@attrs.frozen(kw_only=True, repr=False)
class InstanceLoadFailed(InstanceEvent):
    """A load of this client has ended without an instance, after an `InstanceLoading`.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name that the instance would have had.
    :param instance_reference: empty.
    :param kind: ``llm`` or ``embedding``.
    :param info: info about the model; None if the server had not found it.
    :param error: the error that ended the load.
    """

    _shown = "identifier kind error at"

    error: LMStudioError


@attrs.frozen(kw_only=True, repr=False)
class InstanceLoaded(_WithState):
    """The instance has been loaded, by any client.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name of the instance.
    :param instance_reference: reference of the instance.
    :param kind: ``llm`` or ``embedding``.
    :param info: info that the server sent about the instance.
    :param status: ``idle``, ``processingPrompt``, ``generating`` or ``computingEmbedding``; None if it is not known.
    :param queued: number of requests that wait for the instance.
    """


@attrs.frozen(kw_only=True, repr=False)
class InstanceChanged(_WithState):
    """The status, the queue or the info of the instance has changed. The info has its TTL and its last use.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name of the instance.
    :param instance_reference: reference of the instance.
    :param kind: ``llm`` or ``embedding``.
    :param info: current info that the server sent about the instance.
    :param status: ``idle``, ``processingPrompt``, ``generating`` or ``computingEmbedding``; None if the server does
        not tell.
    :param queued: number of requests that wait for the instance.
    """


@attrs.frozen(kw_only=True, repr=False)
class InstanceUnloaded(InstanceEvent):
    """The instance is gone.

    :param at: time of this machine at which the client learned of it.
    :param identifier: name that the instance had.
    :param instance_reference: reference that the instance had.
    :param kind: ``llm`` or ``embedding``.
    :param info: the last info that the server sent about the instance.
    :param reason: why it is gone, as far as anyone can tell.
    :param evicted_for: key of the model that it was evicted for; None for another reason.
    """

    _shown = "identifier kind reason evicted_for at"

    reason: UnloadReason = "unknown"
    evicted_for: str | None = None


@attrs.frozen(kw_only=True, repr=False)
class ServerLost(InstanceEvent):
    """The server does not answer any more. The watch goes on trying.

    :param at: time of this machine at which the client learned of it.
    :param identifier: empty.
    :param instance_reference: empty.
    :param kind: empty.
    :param info: None.
    :param error: the error of the last attempt.
    """

    _shown = "error at"

    error: LMStudioError


@attrs.frozen(kw_only=True, repr=False)
class ServerBack(InstanceEvent):
    """The server answers again. The events that follow tell what differs from the time before the loss.

    :param at: time of this machine at which the client learned of it.
    :param identifier: empty.
    :param instance_reference: empty.
    :param kind: empty.
    :param info: None.
    """

    _shown = "at"
