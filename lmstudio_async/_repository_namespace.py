"""The namespace ``repository``: search the hub for models, and download them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lmstudio_async._arguments import check_text, check_whole_number
from lmstudio_async._callbacks import is_scoped
from lmstudio_async._handles import ModelList
from lmstudio_async._preload import preload
from lmstudio_async._printable import short_members
from lmstudio_async._session import Session
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._download import AsyncDownloadStream, DownloadProgressUpdate
    from lmstudio_async._download_source import DownloadSource
    from lmstudio_async._wire._repository import DownloadOption, SearchResult

__all__ = [
    "AsyncAvailableModel",
    "AsyncModelDownloadOption",
    "AsyncRepositoryNamespace",
    "DownloadFinalizedCallback",
    "DownloadProgressCallback",
    "download_missing",
]

DownloadProgressCallback = Callable[["DownloadProgressUpdate"], Awaitable[object] | object]
"""Callback for the progress of a download. Plain or async; an exception in it ends the download."""

DownloadFinalizedCallback = Callable[[], Awaitable[object] | object]
"""Callback for the final check, when all bytes are received. Plain or async; an exception in it ends the download."""

MOST_RESULTS = 25


class AsyncRepositoryNamespace:
    """The models that can be downloaded: `AsyncClient.repository`."""

    def __init__(self, session: Session, system: Session) -> None:
        self._session = session
        self._system = system

    async def download(
        self,
        name: str,
        /,
        *,
        quantization: str | None = None,
        on_progress: DownloadProgressCallback | None = None,
        on_finalize: DownloadFinalizedCallback | None = None,
    ) -> str:
        """Download a model by its name, and wait until the download is complete.

        A model that is downloaded already stays as it is, and nothing is requested from the Hub then.

        :param name: a repository of the Hub, ``owner/repo`` or its URL, or the name of a model. Of several repositories
            with this name, the server's first one counts: the most downloaded one on the embedded server. ``-GGUF`` at the
            end of a name may be missing. The quantization may follow the name: ``owner/repo:Q4_K_M``.
        :param quantization: quantization of the weights, such as ``Q4_K_M``, or the name of a file of the repository.
            None for any that is downloaded, or else the one that the server recommends for its machine.
        :param on_progress: plain or async function that is called with the progress of the download;
            ``progress_bar()`` returns one that draws. Not called for a model that is downloaded already.
        :param on_finalize: plain or async function that is called when all bytes are received and are being checked.
        :return: the model key to load the model by.
        :raises LMStudioModelNotFoundError: if there is no such model or no such quantization, or no model of the
            repository fits the memory of the server's machine. The message lists those that exist.
        :raises LMStudioServerError: if the download fails.
        :raises LMStudioValueError: if an argument makes no sense.

        ::

            key = await client.repository.download("bartowski/SmolLM2-360M-Instruct-GGUF", quantization="Q4_K_M")
            llm = await client.llm.model(key)
        """
        await preload("_download", "_download_source", "_wire._infos")
        from lmstudio_async._download import follow_download

        stream = self.download_stream(name, quantization=quantization)
        return await follow_download(stream, on_progress, on_finalize)

    def download_stream(self, name: str, /, *, quantization: str | None = None) -> AsyncDownloadStream:
        """Return the same download as `download`, as a stream of its progress.

        The stream looks for the model when it begins. It has no progress if the model is downloaded already.

        :param name: see `download`.
        :param quantization: see `download`.
        :return: the download; nothing is sent before it is entered, iterated over or awaited.
        :raises LMStudioValueError: if an argument makes no sense.

        ::

            async with client.repository.download_stream("smollm2-360m-instruct") as download:
                async for update in download:
                    print(f"{update.phase}: {update.fraction:.0%}")
                key = await download.wait_for_result()
        """
        from lmstudio_async._download import AsyncDownloadStream
        from lmstudio_async._download_choice import DownloadName
        from lmstudio_async._download_source import DownloadSource

        source = DownloadSource(self._session, self._system, DownloadName.parse(name, quantization))
        return AsyncDownloadStream(self._session, source.find)

    async def find_download_option(
        self, name: str, /, *, quantization: str | None = None
    ) -> AsyncModelDownloadOption:
        """Find the file that `download` would download, and download nothing.

        Models that are downloaded already do not count.

        :param name: see `download`.
        :param quantization: see `download`.
        :return: the file, with its size, its quantization, and whether it fits the server's machine.
        :raises LMStudioModelNotFoundError: see `download`.
        :raises LMStudioServerError: if the Hub cannot be reached.
        :raises LMStudioValueError: if an argument makes no sense.

        ::

            option = await client.repository.find_download_option("smollm2-360m-instruct")
            print(f"{option.info.quantization}: {option.info.size_bytes / 1e6:.0f} MB")
        """
        await preload("_download", "_download_source")
        from lmstudio_async._download_choice import DownloadName
        from lmstudio_async._download_source import DownloadSource

        source = DownloadSource(self._session, self._system, DownloadName.parse(name, quantization))
        return AsyncModelDownloadOption(self._session, await source.find_option())

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
        return ModelList(AsyncAvailableModel(self._session, self._system, result) for result in found.results)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._session.address!r})"


class AsyncAvailableModel:
    """A model found by a search. Usable as long as its client is open."""

    def __init__(self, session: Session, system: Session, search_result: SearchResult) -> None:
        self._session = session
        self._system = system
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

    async def find_download_option(self, *, quantization: str | None = None) -> AsyncModelDownloadOption:
        """Find the file of this model that `download` would download, and download nothing.

        :param quantization: quantization of the weights, such as ``Q4_K_M``, or the name of a file of the repository.
            None for the one that the server recommends for its machine.
        :return: the file, with its size, its quantization, and whether it fits the server's machine.
        :raises LMStudioModelNotFoundError: see `download`.

        ::

            model, *_ = await client.repository.search_models("smollm2 360m")
            option = await model.find_download_option(quantization="Q4_K_M")
            print(f"{option.info.quantization}: {option.info.size_bytes / 1e6:.0f} MB")
        """
        await preload("_download", "_download_source")
        return AsyncModelDownloadOption(self._session, await self._source(quantization).find_option())

    async def download(
        self,
        *,
        quantization: str | None = None,
        on_progress: DownloadProgressCallback | None = None,
        on_finalize: DownloadFinalizedCallback | None = None,
    ) -> str:
        """Download this model, see `AsyncRepositoryNamespace.download`.

        :param quantization: quantization of the weights, such as ``Q4_K_M``, or the name of a file of the repository.
            None for any that is downloaded, or else the one that the server recommends for its machine.
        :param on_progress: plain or async function that is called with the progress of the download;
            ``progress_bar()`` returns one that draws. Not called for a model that is downloaded already.
        :param on_finalize: plain or async function that is called when all bytes are received and are being checked.
        :return: the model key to load the model by.
        :raises LMStudioModelNotFoundError: if there is no such quantization, or no model fits the memory of the server's
            machine. The message lists those that exist.
        :raises LMStudioServerError: if the download fails.

        ::

            found, *_ = await client.repository.search_models("smollm2 360m")
            llm = await client.llm.model(await found.download())
        """
        await preload("_download", "_download_source", "_wire._infos")
        from lmstudio_async._download import follow_download

        return await follow_download(
            self.download_stream(quantization=quantization), on_progress, on_finalize
        )

    def download_stream(self, *, quantization: str | None = None) -> AsyncDownloadStream:
        """Return the same download as `download`, as a stream of its progress.

        :param quantization: see `download`.
        :return: the download; nothing is sent before it is entered, iterated over or awaited.

        ::

            found, *_ = await client.repository.search_models("smollm2 360m")
            async for update in found.download_stream(quantization="Q4_K_M"):
                print(f"{update.phase}: {update.fraction:.0%}")
        """
        from lmstudio_async._download import AsyncDownloadStream

        return AsyncDownloadStream(self._session, self._source(quantization).find)

    def _source(self, quantization: str | None) -> DownloadSource:
        from lmstudio_async._download_choice import DownloadName
        from lmstudio_async._download_source import DownloadSource

        result = self._search_result
        wanted = DownloadName.parse(result.identifier.identifier or result.name, quantization)
        return DownloadSource(self._session, self._system, wanted, result)

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
        from lmstudio_async._download import follow_download

        return await follow_download(self.download_stream(), on_progress, on_finalize)

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


async def download_missing(
    repository: Session,
    system: Session,
    model_key: str,
    on_progress: Callable[..., Any] | None,
    on_load_progress: Callable[..., Any] | None,
) -> str:
    """Download the model of a key that the server does not know, and return the key to load it by.

    :param on_progress: the callback for the progress of the download.
    :param on_load_progress: the callback for the progress of the load. A progress bar draws downloads too.
    :raises LMStudioModelNotFoundError: there is no such model to download.
    """
    if on_progress is None and is_scoped(on_load_progress):
        on_progress = on_load_progress
    return await AsyncRepositoryNamespace(repository, system).download(model_key, on_progress=on_progress)


def _check_formats(formats: Iterable[str] | None) -> list[str] | None:
    if formats is None:
        return None
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        raise LMStudioValueError(
            f"compatibility_types must be a list of formats such as ['gguf'], not {formats!r:.80}"
        )
    return [check_text(each, "a compatibility type") for each in formats]
