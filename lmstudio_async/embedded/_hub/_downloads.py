"""Running downloads of models: one for all clients that wait for the same model, cancelled when the last one leaves."""

from __future__ import annotations

import copy
import logging
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._repository import DownloadProgressPacket, DownloadProgressUpdate, StartFinalizing
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._catalog._gguf import GgufError, read_header
from lmstudio_async.embedded._hub._hub import Hub, HubFile, Listing, disk_error
from lmstudio_async.embedded._hub._hub_models import HubModel, HubModelName, models_of
from lmstudio_async.embedded._hub._partial_file import PartialFile, PartialFileInUse, PresentFile
from lmstudio_async.errors import LMStudioError

__all__ = ["DownloadCallback", "Downloads"]

logger = logging.getLogger("lmstudio_async.embedded")

DownloadCallback = Callable[[DownloadProgressPacket | StartFinalizing], None]

#: Seconds between two progress reports, and seconds over which the speed is measured.
_REPORT_SECONDS: Final = 0.2
_SPEED_SECONDS: Final = 3.0
#: Seconds that a cancelled download may take to close its files.
_END_SECONDS: Final = 5.0
#: Begins with a dot, because the catalog skips names that do.
_HIDDEN: Final = ".downloads"


class Downloads:
    """Downloads models into the folder of a catalog.

    :param tasks: the task group in which the downloads run.
    """

    def __init__(self, catalog: Catalog, hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
        self._catalog = catalog
        self._hub = hub
        self._tasks = tasks
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._projectors: dict[str, _SharedFile] = {}

    async def download(self, identifier: str, report: DownloadCallback) -> str:
        """Download a model, or join a running download of it.

        Cancelling this call also cancels the download, unless another call waits for it.

        :return: the key of the model.
        :raises LMStudioServerError: the download failed.
        """
        name = HubModelName.parse(identifier)
        job = await self._job(name)
        job.join(report)
        try:
            await job.over.wait()
        finally:
            job.watchers.remove(report)
            if not job.watchers and not job.over.is_set():
                job.scope.cancel()
                with anyio.move_on_after(_END_SECONDS, shield=True):
                    await job.over.wait()
        if job.error is not None:
            raise copy.copy(job.error)
        return job.key

    def is_under_way(self, name: HubModelName) -> bool:
        """Return whether a model is being downloaded, so that `download` would join."""
        job = self._jobs.get((name.repository, name.path))
        return job is not None and not job.scope.cancel_called

    async def _job(self, name: HubModelName) -> _Job:
        which = (name.repository, name.path)
        while (job := self._jobs.get(which)) is not None:
            if not job.scope.cancel_called:
                return job
            # Wait for a cancelled download, because it still has its file open.
            await job.over.wait()
        job = self._jobs[which] = _Job(name)
        self._tasks.start_soon(self._run, job)
        return job

    async def _run(self, job: _Job) -> None:
        job.error = server_error("The download was cancelled, because this server shuts down.")
        self._tasks.start_soon(job.report)
        try:
            with job.scope:
                job.key = await self._download(job)
                job.error = None
        except PartialFileInUse:
            job.error = server_error(
                f'Another program downloads "{job.name.path}" into the same models folder.',
                "Wait until it is done.",
            )
        except OSError as error:
            job.error = disk_error(error, f'The download of "{job.name.path}"')
        except LMStudioError as error:
            job.error = error
        except Exception:
            logger.exception("the download of %s broke by a fault of this server", job.name)
            job.error = server_error("The download failed by a fault of this server.")
        finally:
            del self._jobs[job.name.repository, job.name.path]
            job.reporting.cancel()
            job.over.set()

    async def _download(self, job: _Job) -> str:
        self._check_folder()
        listing = await self._hub.files(job.name.repository, job.name.commit)
        model = next((each for each in models_of(listing) if each.name.path == job.name.path), None)
        if model is None:
            raise server_error(
                f'There is no model "{job.name.path}" in "{job.name.repository}".',
                "Ask for the download options again.",
            )
        # The first progress comes before the look elsewhere, which may read a large file: it is repeated meanwhile.
        job.start(model.size_bytes)
        if (key := await self._key_elsewhere(model)) is not None:
            job.reach(model.size_bytes)
            job.finalize()
            return key
        await anyio.to_thread.run_sync(self._check_disk_space, model)
        if model.projector is not None:
            shared = self._projectors.setdefault(model.place(model.projector), _SharedFile())
            async with shared.turn_of(job):
                if await self._get(job, listing, model, model.projector, 0, shared.reach):
                    await anyio.to_thread.run_sync(self._move, model, [model.projector])
        new = [
            part for part in model.parts if await self._get(job, listing, model, part, job.done, job.reach)
        ]
        job.finalize()
        return await anyio.to_thread.run_sync(self._put_in_place, model, new)

    async def _key_elsewhere(self, model: HubModel) -> str | None:
        """Return the key of the same model in another place than the models folder, such as Hugging Face's cache."""
        path = model.place(model.parts[0])
        entries = await anyio.to_thread.run_sync(self._catalog.scan)
        entry = next((entry for entry in entries if entry.path == path), None)
        if entry is None or entry.file.is_relative_to(await anyio.to_thread.run_sync(self._folder.resolve)):
            return None
        files = [*entry.parts, *filter(None, [entry.projector])]
        wanted = [*model.parts, *filter(None, [model.projector])]
        if len(files) == len(wanted):
            for file, expected in zip(files, wanted, strict=True):
                if not await _is_whole(file, expected):
                    return None
            return entry.model_key
        return None

    async def _get(
        self,
        job: _Job,
        listing: Listing,
        model: HubModel,
        file: HubFile,
        before: int,
        reach: Callable[[int], None],
    ) -> bool:
        """Download a file and verify it; return false if its place already had it, so that it need not be moved.

        :param before: number of bytes of the files that the download has already.
        :param reach: called with the number of bytes, those included, when more are on the disk.
        """
        if await _is_whole(self._place(model, file), file):
            job.reach(before + file.size)
            return False
        with await anyio.to_thread.run_sync(PartialFile, self._partial(model, file), file) as partial:
            while await anyio.to_thread.run_sync(partial.read_on):
                job.begin(before + partial.size)
            job.begin(before + partial.size)
            await self._hub.fetch(listing, file, partial, lambda size: reach(before + size))
            if not partial.is_right():
                await anyio.to_thread.run_sync(partial.remove)
                raise server_error(
                    f'The downloaded file "{file.path}" is not the one that the Hub announced: its check sum is wrong.',
                    "It was removed. Download it again.",
                )
            await anyio.to_thread.run_sync(partial.finish)
        job.reach(before + file.size)
        return True

    # -- the files

    def _check_folder(self) -> None:
        if self._catalog.folder is None:
            raise server_error(
                "This server has no models folder to download to: it was given only files.",
                'Give it a folder, too: EmbeddedServer(["model.gguf", "folder"]).',
            )

    @property
    def _folder(self) -> Path:
        assert self._catalog.folder is not None
        return self._catalog.folder

    def _place(self, model: HubModel, file: HubFile) -> Path:
        return self._folder / model.place(file)

    def _partial(self, model: HubModel, file: HubFile) -> Path:
        place = self._folder / _HIDDEN / model.place(file)
        # The digest is part of the name, because the file of another commit has other bytes.
        return place.with_name(f"{place.name}.{(file.sha256 or file.git_id or '')[:16]}.part")

    def _check_disk_space(self, model: HubModel) -> None:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        missing = 0
        for file in model.files:
            place, partial = self._place(model, file), self._partial(model, file)
            if _size(place) != file.size:
                self._refuse_links(place.parent, partial.parent)
                missing += file.size - max(_size(partial), 0)
        free = shutil.disk_usage(folder).free
        if missing > free:
            raise server_error(
                f"The disk of the models folder has too little free space: the download needs {missing / 1e9:.1f} GB, "
                f"and {free / 1e9:.1f} GB are free.",
                "Free some space on it, or take a smaller quantization.",
            )

    def _put_in_place(self, model: HubModel, new: list[HubFile]) -> str:
        """Move the files to their places and return the key of the model, or remove them if they are no valid model."""
        first = model.parts[0]
        try:
            read_header(self._partial(model, first) if first in new else self._place(model, first))
        except GgufError as error:
            for file in new:
                self._partial(model, file).unlink(missing_ok=True)
            raise server_error(f'"{first.path}" is no GGUF model: {error}. It was removed.') from error
        self._move(model, new)
        entries = self._catalog.scan()
        path = model.place(first)
        found = next((entry.model_key for entry in entries if entry.path == path), None)
        if found is None:
            for file in new:
                self._place(model, file).unlink(missing_ok=True)
            reason = self._catalog.broken.get(path, "it is not among the models")
            raise server_error(f'"{first.path}" cannot be used: {reason}. It was removed.')
        return found

    def _move(self, model: HubModel, files: list[HubFile]) -> None:
        # The first part is moved last, because the catalog ignores a model without its first part.
        for file in reversed(files):
            place, partial = self._place(model, file), self._partial(model, file)
            self._refuse_links(place.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(place)
            for old in partial.parent.glob(f"{_literally(place.name)}.*.part"):
                old.unlink(missing_ok=True)
            self._remove_empty_folders(partial.parent)

    def _refuse_links(self, *folders: Path) -> None:
        """Refuse to write through a link, because another program keeps its models behind the link."""
        root = self._folder.resolve()
        for folder in folders:
            if not (leads_to := folder.resolve()).is_relative_to(root):
                raise server_error(
                    f'The download would be written through a link: "{folder}" leads to "{leads_to}", outside of the '
                    "models folder.",
                    "Remove the link, or download the model with the program that keeps its models there.",
                )

    def _remove_empty_folders(self, folder: Path) -> None:
        """Remove a folder and its parents as far as they are empty."""
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


class _Job:
    """One download.

    :ivar key: the key of the downloaded model; empty until the download has ended.
    :ivar error: the reason why the download failed; None if it did not.
    """

    def __init__(self, name: HubModelName) -> None:
        self.name = name
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.watchers: list[DownloadCallback] = []
        self.key = ""
        self.error: LMStudioError | None = None
        self.total = 0
        self.done = 0
        self.reporting = anyio.CancelScope()
        self._finalizing = False
        self._history: deque[tuple[float, int]] = deque()

    def join(self, report: DownloadCallback) -> None:
        """Add a watcher, and send it the latest progress."""
        self.watchers.append(report)
        if self.total:
            report(self._packet())
        if self._finalizing:
            report(StartFinalizing())

    async def report(self) -> None:
        """Send progress to the watchers at intervals, until `reporting` is cancelled."""
        with self.reporting:
            reported = None
            while True:
                await anyio.sleep(_REPORT_SECONDS)
                if self.total and not self._finalizing and (packet := self._packet()) != reported:
                    self._tell(packet)
                    reported = packet

    def begin(self, done: int) -> None:
        """Set the number of bytes that are on the disk, and measure the speed from here on."""
        self._history.clear()
        self.reach(done)

    def reach(self, done: int) -> None:
        """Set the number of bytes that are on the disk."""
        self.done = done
        self._history.append((anyio.current_time(), done))

    def start(self, total: int) -> None:
        """Set the number of bytes of all files, and send the first progress."""
        self.total = total
        self._tell(self._packet())

    def finalize(self) -> None:
        """Tell the watchers that all bytes have arrived."""
        self._tell(self._packet())
        self._finalizing = True
        self._tell(StartFinalizing())

    def _tell(self, packet: DownloadProgressPacket | StartFinalizing) -> None:
        for report in self.watchers:
            report(packet)

    def _packet(self) -> DownloadProgressPacket:
        speed, now = 0.0, anyio.current_time()
        # Keep one entry that is older, as the start of the interval.
        while len(self._history) > 1 and now - self._history[1][0] > _SPEED_SECONDS:
            self._history.popleft()
        if self._history and now > self._history[0][0]:
            since, first = self._history[0]
            speed = max(self.done - first, 0) / (now - since)
        update = DownloadProgressUpdate(
            downloaded_bytes=self.done, total_bytes=self.total, speed_bytes_per_second=speed
        )
        return DownloadProgressPacket(update=update)


class _SharedFile:
    """A file that several models have. One download at a time gets it, and the others show the same progress."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._jobs: list[_Job] = []
        self._size = 0

    @asynccontextmanager
    async def turn_of(self, job: _Job) -> AsyncIterator[None]:
        """Wait until no other download gets the file. The file is the first one of the download."""
        self._jobs.append(job)
        try:
            if self._lock.locked():
                job.reach(self._size)
            async with self._lock:
                self._size = 0
                yield
        finally:
            self._jobs.remove(job)

    def reach(self, size: int) -> None:
        """Set the number of bytes that are on the disk, for all downloads that need the file."""
        self._size = size
        for job in self._jobs:
            job.reach(size)


async def _is_whole(path: Path, file: HubFile) -> bool:
    """Return whether a file is in its place already, with the right content."""
    if await anyio.to_thread.run_sync(_size, path) != file.size:
        return False
    with suppress(OSError), await anyio.to_thread.run_sync(PresentFile, path, file) as present:
        while await anyio.to_thread.run_sync(present.read_on):
            pass
        return present.is_right()
    return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _literally(name: str) -> str:
    """Escape a name for use in a glob pattern."""
    return "".join(f"[{character}]" if character in "[*?" else character for character in name)
