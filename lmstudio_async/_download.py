"""Download of a model: an operation whose result is the model key to load it by."""

from __future__ import annotations

import logging
from typing import Any, Literal

import attrs

from lmstudio_async._operation_feed import OperationFeed
from lmstudio_async._operations import AsyncOperation
from lmstudio_async._printable import ShortRepr
from lmstudio_async._session import Session
from lmstudio_async._wire._repository import (
    DownloadModelCreation,
    DownloadModelSuccess,
    DownloadProgressPacket,
    StartFinalizing,
)
from lmstudio_async.errors import LMStudioCancelledError

__all__ = ["AsyncDownloadStream", "DownloadFeed", "DownloadProgressUpdate"]

logger = logging.getLogger("lmstudio_async")


@attrs.frozen(repr=False)
class DownloadProgressUpdate(ShortRepr):
    """Progress of a download.

    :param downloaded_bytes: number of bytes received so far.
    :param total_bytes: total number of bytes; 0 while the server does not know it.
    :param speed_bytes_per_second: current speed.
    :param phase: ``downloading``: the server receives the bytes. ``finalizing``: all bytes are received; the server
        checks them and moves the model to its place.

    ::

        model, *_ = await client.repository.search_models("smollm2 360m")
        option, *_ = await model.get_download_options()
        async for update in option.download_stream():
            print(f"{update.phase}: {update.downloaded_bytes} of {update.total_bytes} bytes")
    """

    _shown = "phase downloaded_bytes total_bytes speed_bytes_per_second"

    downloaded_bytes: int
    total_bytes: int
    speed_bytes_per_second: float
    phase: Literal["downloading", "finalizing"] = "downloading"

    @property
    def fraction(self) -> float:
        """Fraction of the bytes received, from 0.0 to 1.0."""
        if self.total_bytes <= 0:
            return 0.0
        return min(max(self.downloaded_bytes / self.total_bytes, 0.0), 1.0)


class DownloadFeed(OperationFeed[DownloadProgressUpdate]):
    """State of a download. Its progress conflates: of the unread updates of a phase, only the latest is kept."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.latest = DownloadProgressUpdate(0, 0, 0.0)
        self.identifier = ""

    def take(self, packet: Any) -> None:
        match packet:
            case DownloadProgressPacket():
                update = packet.update
                self._update(
                    DownloadProgressUpdate(
                        update.downloaded_bytes, update.total_bytes, update.speed_bytes_per_second
                    )
                )
            case StartFinalizing():
                self._update(attrs.evolve(self.latest, speed_bytes_per_second=0.0, phase="finalizing"))
            case DownloadModelSuccess():
                self.identifier = packet.default_identifier
                self.succeed()
            case _:
                logger.debug("%s: ignored a packet of an unknown type", self.label)

    def _update(self, update: DownloadProgressUpdate) -> None:
        self.latest = update
        if self.items and self.items[-1].phase == update.phase:
            self.items[-1] = update
        else:
            self.queue(update, 0)


class AsyncDownloadStream(AsyncOperation[DownloadProgressUpdate, str]):
    """A download: iterate over its progress, await the model's key.

    A download that has not ended is cancelled on the server by each of these: `cancel`, leaving the block, a timeout,
    cancellation of the task, closing the client, and dropping the stream.

    ::

        model, *_ = await client.repository.search_models("smollm2 360m")
        option, *_ = await model.get_download_options()
        async with option.download_stream() as download:
            async for update in download:
                print(f"{update.phase}: {update.fraction:.0%}")
            llm = await client.llm.model(await download.wait_for_result())
    """

    def __init__(self, session: Session, download_identifier: str) -> None:
        from lmstudio_async._protocol._endpoints.repository import DOWNLOAD_MODEL

        self._progress = DownloadFeed(DOWNLOAD_MODEL.label)
        creation = DownloadModelCreation(download_identifier=download_identifier)
        super().__init__(session, DOWNLOAD_MODEL, creation, self._progress)

    @property
    def latest(self) -> DownloadProgressUpdate:
        """Latest progress of the download."""
        return self._progress.latest

    def _result(self) -> str:
        return self._progress.identifier

    async def _stop(self) -> None:
        await super()._stop()
        # Always the same error, however the server confirms the cancel. A download that is complete by now stays
        # complete, because other programs can use the model too.
        if not self._feed.succeeded and not isinstance(self._feed.error, LMStudioCancelledError):
            self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled by this program."))

    def _latest_progress(self) -> str:
        return f", after {self.latest.downloaded_bytes} bytes"
