"""Feed of a load: its progress and its end, from the packets of the server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import attrs

from lmstudio_async._instance_journal import LoadRecord
from lmstudio_async._operation_feed import OperationFeed
from lmstudio_async._printable import ShortRepr, printable
from lmstudio_async._protocol._endpoints import RpcEndpoint
from lmstudio_async._protocol._endpoints.models import UNLOAD_MODEL
from lmstudio_async._wire._infos import ModelInfo, ModelInstanceInfo
from lmstudio_async._wire._models import (
    AlreadyLoaded,
    LoadProgressPacket,
    LoadSuccess,
    Progress,
    Resolved,
    StartLoading,
    Success,
    UnloadingOtherJITModel,
    UnloadModelParameter,
)
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioProtocolError,
)

if TYPE_CHECKING:
    from lmstudio_async._connection import Connection
    from lmstudio_async._tracing import LoadSpan

__all__ = ["LoadFeed", "LoadProgress"]

#: Bytes of memory that the info of a model takes.
INFO_BYTES = 2048

logger = logging.getLogger("lmstudio_async")


@attrs.frozen(repr=False)
class LoadProgress(ShortRepr):
    """Progress of a load.

    :param phase: ``resolved``: the server has found the model. ``evicting``: it unloads another instance first, see
        ``info``. ``loading``: it reads the weights. ``loaded``: the instance is ready.
    :param fraction: from 0.0 to 1.0, never decreasing, and 1.0 only with ``loaded``.
    :param info: the model that is being loaded; with ``evicting`` the instance that is unloaded, with ``loaded`` the
        new instance. None if the server did not send it.
    :param ambiguous: model keys that the given key matches as well; the load continues with ``info``.

    ::

        async for progress in client.llm.load_new_instance_stream("qwen3-4b"):
            print(f"{progress.phase}: {progress.fraction:.0%}")
    """

    _shown = "phase fraction info:info.model_key ambiguous"

    phase: Literal["resolved", "evicting", "loading", "loaded"]
    fraction: float
    info: ModelInfo | None = None
    ambiguous: tuple[str, ...] = ()


class LoadFeed(OperationFeed[LoadProgress]):
    """State of a load. Its fraction conflates: of many unread values, only the latest is kept.

    :param makes_instance: whether the load creates a new instance, to be unloaded if the consumer does not take it.
    :param record: the record of the load in the client's journal.
    """

    def __init__(self, label: str, *, makes_instance: bool, record: LoadRecord) -> None:
        super().__init__(label)
        self.makes_instance = makes_instance
        self._record = record
        self.report_to(record)
        self.span: LoadSpan | None = None
        #: Whether the instance is a result of this load, and was not loaded before.
        self.has_loaded = False
        #: Whether the consumer has taken the instance, so that it stays loaded.
        self.is_claimed = False
        self.fraction = 0.0
        self.model: ModelInfo | None = None
        self.instance: ModelInstanceInfo | None = None
        self.lost: LMStudioConnectionBrokenError | None = None

    @property
    def identifier(self) -> str:
        """Name of the instance, as far as it is known."""
        return self._record.identifier

    @property
    def may_need_undoing(self) -> bool:
        is_over = self.done and not self.is_open
        return self.makes_instance and not self.is_claimed and not (is_over and self.instance is None)

    def attach(self, connection: Connection, number: int) -> None:
        super().attach(connection, number)
        self._record.on_sent()

    def undoing(self) -> tuple[RpcEndpoint[Any, Any], UnloadModelParameter] | None:
        info = self.instance
        if info is None or self.is_claimed or not self.makes_instance:
            return None
        parameter = UnloadModelParameter(identifier=info.identifier, device_identifier=info.device_identifier)
        return UNLOAD_MODEL, parameter

    def settle(self, *, is_undone: bool = True) -> None:
        if self.instance is not None and is_undone:
            self._record.on_undone(self.instance)
        self.instance = None

    def give_up(self, error: LMStudioError) -> None:
        if self.instance is not None and self.undoing() is not None:
            self._record.on_undoing(self.instance)
            self.items.clear()
            self.succeeded = False
            self.fail(error)
        else:
            super().give_up(error)

    def feed(self, packet: Any) -> None:
        if self.done and self.error is not None and isinstance(packet, Success):
            # The load has succeeded although it was given up, so its instance must be unloaded.
            self.instance = packet.info
            self._connection.undo_later(self)
        super().feed(packet)

    def end(self, error: LMStudioError | None) -> None:
        if isinstance(error, LMStudioConnectionBrokenError) and not self.done:
            # The load may have succeeded on the server. Wake the waiting tasks: one looks for the instance.
            self.is_open = False
            self.lost = error
            self._wake()
        else:
            super().end(error)

    def take(self, packet: Any) -> None:
        match packet:
            case Progress() | LoadProgressPacket():
                self._advance(packet.progress)
            case Resolved():
                self.model = packet.info
                ambiguous = tuple(packet.ambiguous or ())
                if ambiguous:
                    logger.warning(
                        "the model key is ambiguous, took %s of %s",
                        printable(packet.info.model_key),
                        printable(str(ambiguous)),
                        extra={
                            "event": "ambiguous_key",
                            "model_key": packet.info.model_key,
                            "candidates": ambiguous,
                        },
                    )
                self._enter(LoadProgress("resolved", self.fraction, packet.info, ambiguous))
                self._record.on_model(packet.info)
            case StartLoading():
                self.model = packet.info
                self._enter(LoadProgress("resolved", self.fraction, packet.info))
                self._record.on_model(packet.info, packet.identifier)
            case UnloadingOtherJITModel():
                self._enter(LoadProgress("evicting", self.fraction, packet.info))
                self._record.on_evicting(packet.info)
                if self.span is not None:
                    self.span.on_evicting(packet.info)
            case Success() | LoadSuccess():
                self.has_loaded = True
                self.finish(packet.info)
            case AlreadyLoaded():
                self.finish(packet.info)
            case _:
                logger.debug("%s: ignored a packet of an unknown type", self.label)

    def _enter(self, phase: LoadProgress) -> None:
        self.queue(phase, INFO_BYTES)

    def _advance(self, fraction: float) -> None:
        # The fraction must not decrease, and 1.0 is reserved for the loaded instance.
        if not self.fraction < fraction < 1.0:
            return
        self.fraction = fraction
        self._record.on_fraction(fraction)
        if self.span is not None:
            self.span.on_fraction(fraction)
        progress = LoadProgress("loading", fraction, self.model)
        if self.items and self.items[-1].phase == "loading":
            self.items[-1] = progress
        else:
            self.queue(progress, 0)

    def finish(self, info: ModelInstanceInfo) -> None:
        """End the load with the instance as its result."""
        if not info.identifier:
            self.fail(
                LMStudioProtocolError(f"{self.label}: the server did not name the instance that it loaded.")
            )
            return
        self.fraction = 1.0
        self.instance = info
        if self.has_loaded:
            self._record.on_loaded(info)
        if self.span is not None:
            self.span.on_instance(info, has_loaded=self.has_loaded)
        self.items.append(LoadProgress("loaded", 1.0, info))
        self.succeed()
