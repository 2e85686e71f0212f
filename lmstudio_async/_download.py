"""Download of a model: an operation whose result is the model key to load it by."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import anyio
import attrs

from lmstudio_async._callbacks import check_callback, tell, used_once
from lmstudio_async._operation_feed import OperationFeed
from lmstudio_async._operations import AsyncOperation, OperationChannel
from lmstudio_async._printable import ShortRepr
from lmstudio_async._session import Session
from lmstudio_async._wire._repository import (
    DownloadModelCreation,
    DownloadModelSuccess,
    DownloadProgressPacket,
    StartFinalizing,
)
from lmstudio_async.errors import LMStudioCancelledError

if TYPE_CHECKING:
    from lmstudio_async._download_source import FindDownload

__all__ = ["AsyncDownloadStream", "DownloadFeed", "DownloadProgressUpdate", "follow_download"]

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

    def __init__(self, session: Session, source: str | FindDownload) -> None:
        """Make the stream.

        :param source: the download identifier, or a function that finds it when the stream begins.
        """
        from lmstudio_async._protocol._endpoints.repository import DOWNLOAD_MODEL

        self._progress = DownloadFeed(DOWNLOAD_MODEL.label)
        self._find = None if isinstance(source, str) else source
        self._search: anyio.CancelScope | None = None
        creation = DownloadModelCreation(download_identifier=source if isinstance(source, str) else "")
        super().__init__(session, DOWNLOAD_MODEL, creation, self._progress)

    @property
    def latest(self) -> DownloadProgressUpdate:
        """Latest progress of the download."""
        return self._progress.latest

    def _result(self) -> str:
        return self._progress.identifier

    async def _open_channel(self, creation: DownloadModelCreation) -> OperationChannel:
        find, self._find = self._find, None
        if find is not None:
            with anyio.CancelScope() as self._search:
                found = await find()
            if self._search.cancelled_caught:
                raise LMStudioCancelledError(f"{self._feed.label}: cancelled before it had begun.")
            if isinstance(found, str):
                self._progress.identifier = found
                self._progress.succeed()
                return _NothingToDownload()
            creation = DownloadModelCreation(download_identifier=found.download_identifier)
        return await super()._open_channel(creation)

    async def _wait_for_end(self) -> None:
        if self._search is not None:
            # Another task looks for the model.
            self._search.cancel()
        await super()._wait_for_end()

    async def _stop(self) -> None:
        await super()._stop()
        # Always the same error, however the server confirms the cancel. A download that is complete by now stays
        # complete, because other programs can use the model too.
        if not self._feed.succeeded and not isinstance(self._feed.error, LMStudioCancelledError):
            self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled by this program."))

    def _latest_progress(self) -> str:
        return f", after {self.latest.downloaded_bytes} bytes"


class _NothingToDownload:
    """Stands in for the channel of a download whose model is there already."""

    async def cancel(self) -> None:
        """Do nothing."""

    def drop_soon(self, receiver: OperationFeed[Any]) -> None:
        """Do nothing."""


async def follow_download(
    stream: AsyncDownloadStream,
    on_progress: Callable[[DownloadProgressUpdate], Any] | None,
    on_finalize: Callable[[], Any] | None,
) -> str:
    """Run a download to its end, and report its progress to the callbacks.

    :return: the model key.
    """
    check_callback(on_progress, "on_progress")
    check_callback(on_finalize, "on_finalize")
    async with stream as download, used_once(on_progress) as callback:
        async for update in download:
            if update.phase == "finalizing":
                await tell("on_finalize", on_finalize)
            else:
                await tell("on_progress", callback, update)
        return await download.wait_for_result()
