"""Source of a download: the model that a name means, found on the server, or by a search."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from lmstudio_async._download_choice import (
    DownloadName,
    choose_option,
    choose_result,
    not_found,
)
from lmstudio_async._printable import printable
from lmstudio_async._protocol._endpoints.repository import GET_MODEL_DOWNLOAD_OPTIONS, SEARCH_MODELS
from lmstudio_async._protocol._endpoints.system import LIST_DOWNLOADED_MODELS
from lmstudio_async._session import Session
from lmstudio_async._wire._repository import (
    DownloadOption,
    DownloadOptionsParameter,
    ModelSearchResultIdentifier,
    SearchModelsOptions,
    SearchModelsParameter,
    SearchResult,
)

__all__ = ["DownloadSource", "FindDownload"]

logger = logging.getLogger("lmstudio_async")

FindDownload = Callable[[], Awaitable[DownloadOption | str]]
"""Finds a download: its option, or the key of the model if it is downloaded already."""

_MOST_RESULTS = 25


class DownloadSource:
    """Finds the download of a wanted model.

    :param session: the session of the repository.
    :param system: the session that lists the downloaded models.
    :param result: the search result of the model, if the user has searched; None to search for its name.
    """

    def __init__(
        self, session: Session, system: Session, wanted: DownloadName, result: SearchResult | None = None
    ) -> None:
        self._session = session
        self._system = system
        self._wanted = wanted
        self._result = result

    async def find(self) -> DownloadOption | str:
        """Find the download. Nothing is requested from the Hub if the model is downloaded already.

        :return: the download option, or the key of the downloaded model.
        :raises LMStudioModelNotFoundError: there is no such model or no such quantization, or no model fits the memory.
        """
        downloaded = await self._system.call(LIST_DOWNLOADED_MODELS)
        if (key := self._wanted.key_among(downloaded)) is not None:
            return key
        option = await self.find_option()
        for info in downloaded:
            if info.device_identifier is None and option.indexed_model_identifier in (
                info.path,
                info.model_key,
            ):
                return info.model_key
        return option

    async def find_option(self) -> DownloadOption:
        """Find the download option, also of a model that is downloaded already.

        :raises LMStudioModelNotFoundError: as for `find`.
        """
        wanted = self._wanted
        identifier = self._result.identifier if self._result is not None else await self._identifier()
        parameter = DownloadOptionsParameter(model_search_result_identifier=identifier)
        found = await self._session.call(GET_MODEL_DOWNLOAD_OPTIONS, parameter)
        option = choose_option(wanted._replace(name=identifier.identifier or wanted.name), found.results)
        logger.info(
            "%s is %s of %s", printable(str(wanted)), printable(option.name), printable(identifier.identifier)
        )
        return option

    async def _identifier(self) -> ModelSearchResultIdentifier:
        wanted = self._wanted
        options = SearchModelsOptions(search_term=wanted.search_term, limit=_MOST_RESULTS)
        found = await self._session.call(SEARCH_MODELS, SearchModelsParameter(opts=options))
        result = choose_result(wanted, found.results)
        if result is not None:
            return result.identifier
        if not wanted.is_repository:
            raise not_found(wanted, found.results)
        # A search does not find every repository: not a private one, nor one without tags.
        return ModelSearchResultIdentifier(type="hf", identifier=wanted.name)
