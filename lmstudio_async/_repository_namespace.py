"""The namespace ``repository``: search the hub for models, and download them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lmstudio_async._arguments import check_text, check_whole_number
from lmstudio_async._callbacks import check_callback, tell, used_once
from lmstudio_async._handles import ModelList
from lmstudio_async._preload import preload
from lmstudio_async._printable import short_members
from lmstudio_async._session import Session
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._download import AsyncDownloadStream, DownloadProgressUpdate
    from lmstudio_async._wire._repository import DownloadOption, SearchResult

__all__ = [
    "AsyncAvailableModel",
    "AsyncModelDownloadOption",
    "AsyncRepositoryNamespace",
    "DownloadFinalizedCallback",
    "DownloadProgressCallback",
]

DownloadProgressCallback = Callable[["DownloadProgressUpdate"], Awaitable[object] | object]
"""Callback for the progress of a download. Plain or async; an exception in it ends the download."""

DownloadFinalizedCallback = Callable[[], Awaitable[object] | object]
"""Callback for the final check, when all bytes are received. Plain or async; an exception in it ends the download."""

MOST_RESULTS = 25


class AsyncRepositoryNamespace:
    """The models that can be downloaded: `AsyncClient.repository`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def search_models(
        self,
        search_term: str | None = None,
        limit: int | None = None,
        compatibility_types: Iterable[str] | None = None,
    ) -> Sequence[AsyncAvailableModel]:
        """Search for models to download.

        :param search_term: text that the names should contain; None for the server's recommendations.
        :param limit: maximum number of results, from 1 to 25; None leaves it to the server.
        :param compatibility_types: formats to look for, such as ``["gguf"]``; None for those that the server can run.
        :return: the models found, best first.
        :raises LMStudioValueError: if an argument makes no sense.

        ::

            for model in await client.repository.search_models("llama 3.2 1b", limit=5):
                print(model.search_result.name)
        """
        await preload("_protocol._endpoints.repository", "_wire._repository")
        from lmstudio_async._protocol._endpoints.repository import SEARCH_MODELS
        from lmstudio_async._wire._repository import SearchModelsOptions, SearchModelsParameter

        options = SearchModelsOptions(
            search_term=None if search_term is None else check_text(search_term, "search_term"),
            limit=check_whole_number(limit, "limit", 1, MOST_RESULTS),
            compatibility_types=_check_formats(compatibility_types),
        )
        found = await self._session.call(SEARCH_MODELS, SearchModelsParameter(opts=options))
        return ModelList(AsyncAvailableModel(self._session, result) for result in found.results)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._session.address!r})"


class AsyncAvailableModel:
    """A model found by a search. Usable as long as its client is open."""

    def __init__(self, session: Session, search_result: SearchResult) -> None:
        self._session = session
        self._search_result = search_result

    @property
    def search_result(self) -> SearchResult:
        """Description of the model in the result of the search."""
        return self._search_result

    async def get_download_options(self) -> Sequence[AsyncModelDownloadOption]:
        """List the files that the model is available as.

        :return: the options; the one that fits the server's machine best has ``info.recommended``.

        ::

            model, *_ = await client.repository.search_models("smollm2 360m")
            options = await model.get_download_options()
            best = next((option for option in options if option.info.recommended), options[0])
            print(await best.download())
        """
        await preload("_download", "_protocol._endpoints.repository")
        from lmstudio_async._protocol._endpoints.repository import GET_MODEL_DOWNLOAD_OPTIONS
        from lmstudio_async._wire._repository import DownloadOptionsParameter

        parameter = DownloadOptionsParameter(model_search_result_identifier=self._search_result.identifier)
        found = await self._session.call(GET_MODEL_DOWNLOAD_OPTIONS, parameter)
        return ModelList(AsyncModelDownloadOption(self._session, info) for info in found.results)

    def __repr__(self) -> str:
        return short_members(type(self).__name__, [("name", self._search_result.name)])


class AsyncModelDownloadOption:
    """One of the files that a model is available as. Usable as long as its client is open."""

    def __init__(self, session: Session, info: DownloadOption) -> None:
        self._session = session
        self._info = info

    @property
    def info(self) -> DownloadOption:
        """Description from the server: size, quantization, and whether the file fits the server's machine."""
        return self._info

    async def download(
        self,
        on_progress: DownloadProgressCallback | None = None,
        on_finalize: DownloadFinalizedCallback | None = None,
    ) -> str:
        """Download the file, and wait until the download is complete.

        :param on_progress: plain or async function that is called with the progress of the download;
            ``progress_bar()`` returns one that draws.
        :param on_finalize: plain or async function that is called when all bytes are received and are being checked.
        :return: the model key to load the model by.
        :raises LMStudioServerError: if the download fails.

        ::

            model, *_ = await client.repository.search_models("smollm2 360m")
            option, *_ = await model.get_download_options()
            key = await option.download(lambda update: print(update.downloaded_bytes, "of", update.total_bytes))
            llm = await client.llm.model(key)
        """
        check_callback(on_progress, "on_progress")
        check_callback(on_finalize, "on_finalize")
        async with self.download_stream() as download, used_once(on_progress) as callback:
            async for update in download:
                if update.phase == "finalizing":
                    await tell("on_finalize", on_finalize)
                else:
                    await tell("on_progress", callback, update)
            return await download.wait_for_result()

    def download_stream(self) -> AsyncDownloadStream:
        """Return the same download as `download`, as a stream of its progress.

        :return: the download; nothing is sent before it is entered, iterated over or awaited.

        ::

            model, *_ = await client.repository.search_models("smollm2 360m")
            option, *_ = await model.get_download_options()
            async with option.download_stream() as download:
                async for update in download:
                    print(f"{update.phase}: {update.fraction:.0%}")
                key = await download.wait_for_result()
        """
        from lmstudio_async._download import AsyncDownloadStream

        return AsyncDownloadStream(self._session, self._info.download_identifier)

    def __repr__(self) -> str:
        members = [("name", self._info.name), ("quantization", self._info.quantization)]
        return short_members(type(self).__name__, members)


def _check_formats(formats: Iterable[str] | None) -> list[str] | None:
    if formats is None:
        return None
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        raise LMStudioValueError(
            f"compatibility_types must be a list of formats such as ['gguf'], not {formats!r:.80}"
        )
    return [check_text(each, "a compatibility type") for each in formats]
