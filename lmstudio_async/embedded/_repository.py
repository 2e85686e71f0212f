"""What the server answers about models that could be downloaded: ``repository``, as far as the Hub has it."""

from __future__ import annotations

import anyio.abc

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._repository import (
    DownloadModelCreation,
    DownloadModelSuccess,
    DownloadOptions,
    DownloadOptionsParameter,
    DownloadProgressPacket,
    ModelSearchResultIdentifier,
    SearchModelsParameter,
    SearchResult,
    SearchResults,
    StartFinalizing,
)
from lmstudio_async.embedded._catalog import Catalog
from lmstudio_async.embedded._connection import Channel
from lmstudio_async.embedded._downloads import Downloads
from lmstudio_async.embedded._hardware import Hardware
from lmstudio_async.embedded._hub import Hub
from lmstudio_async.embedded._hub_models import download_options, models_of

__all__ = ["RepositoryHandlers"]

#: As in LM Studio.
_MOST_RESULTS = 25
_RESULTS = 10


class RepositoryHandlers:
    """The endpoints of ``repository``, for all clients of a server.

    :param tasks: what downloads run in.
    """

    def __init__(self, catalog: Catalog, tasks: anyio.abc.TaskGroup) -> None:
        self._hub = Hub()
        self._hardware = Hardware()
        self._downloads = Downloads(catalog, self._hub, tasks)

    async def search_models(self, parameter: SearchModelsParameter) -> SearchResults:
        options = parameter.opts
        limit = _RESULTS if options.limit is None else options.limit
        if not 1 <= limit <= _MOST_RESULTS:
            raise server_error(f"limit must be from 1 to {_MOST_RESULTS}, not {limit}.")
        if options.compatibility_types is not None and "gguf" not in options.compatibility_types:
            return SearchResults(results=[])
        term = _bare(options.search_term or "")
        names = await self._hub.search(term, limit)
        results = [
            SearchResult(
                name=name,
                identifier=ModelSearchResultIdentifier(type="hf", identifier=name),
                exact=term.lower() in (name.lower(), name.lower().partition("/")[2]),
                staff_pick=False,
            )
            for name in names
        ]
        return SearchResults(results=sorted(results, key=lambda result: not result.exact))

    async def get_model_download_options(self, parameter: DownloadOptionsParameter) -> DownloadOptions:
        identifier = parameter.model_search_result_identifier
        if identifier.type != "hf":
            raise server_error(
                f"This server knows nothing of LM Studio's own catalog ({identifier.type[:40]!r}).",
                "Take the identifier from a search on this server, which is one of Hugging Face.",
            )
        models = models_of(await self._hub.files(_bare(identifier.identifier)))
        if not models:
            raise server_error(
                f'"{identifier.identifier[:200]}" has no GGUF model, which is what this server loads.',
                'Search with compatibility_types=["gguf"].',
            )
        return DownloadOptions(results=download_options(models, await self._hardware.memory()))

    async def download_model(self, creation: DownloadModelCreation, channel: Channel) -> None:
        def report(packet: DownloadProgressPacket | StartFinalizing) -> None:
            channel.repeat_when_silent(packet)
            channel.post(packet)

        with channel.cancellable():
            key = await self._downloads.download(creation.download_identifier, report)
            channel.post(DownloadModelSuccess(default_identifier=key))
            return
        raise server_error(
            "Model download was cancelled. What has come is kept: the next one goes on from there."
        )


def _bare(name: str) -> str:
    """A repository's name, also out of its address in a browser."""
    name = name.strip()
    for beginning in ("https://huggingface.co/", "huggingface.co/", "hf.co/"):
        if name.startswith(beginning):
            return "/".join(name.removeprefix(beginning).split("/")[:2])
    return name
