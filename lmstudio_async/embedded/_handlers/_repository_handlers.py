"""Endpoints of the namespace ``repository``: search and download of models of Hugging Face."""

from __future__ import annotations

import platform
from typing import Final

import anyio.abc
import anyio.to_thread

from lmstudio_async._protocol._errors import repository_not_found, server_error
from lmstudio_async._wire._hub import AuthenticationState, IsAuthenticated, LmLinkStatus, NoAccount
from lmstudio_async._wire._plan import (
    CommitPlan,
    DownloadPlanCreation,
    HuggingFaceSource,
    ModelTarget,
    PlanReady,
    PlanUpdated,
    SelectDownloadOption,
)
from lmstudio_async._wire._repository import (
    DownloadModelCreation,
    DownloadModelSuccess,
    DownloadOptions,
    DownloadOptionsParameter,
    DownloadProgressPacket,
    DownloadSuccess,
    ModelSearchResultIdentifier,
    SearchModelsParameter,
    SearchResult,
    SearchResults,
    StartFinalizing,
)
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._connections._refused_endpoints import unsupported_endpoint
from lmstudio_async.embedded._hub._download_selection import DownloadSelection, pending_plan
from lmstudio_async.embedded._hub._downloads import Downloads
from lmstudio_async.embedded._hub._hub import Hub
from lmstudio_async.embedded._hub._hub_models import HubModel, download_options, models_of
from lmstudio_async.embedded._machine._hardware import Hardware
from lmstudio_async.embedded._timing import ServerTiming

__all__ = ["RepositoryHandlers"]

#: The limits of LM Studio.
_MOST_RESULTS: Final = 25
_RESULTS: Final = 10

_CANCELLED: Final = (
    "Model download was cancelled. The downloaded part is kept: the next download goes on from there."
)


class RepositoryHandlers:
    """The endpoints of ``repository``, for all clients of a server.

    :param catalog: the catalog of downloaded models.
    :param hardware: the hardware of this machine, for estimates of which models fit into its memory.
    :param tasks: the task group in which downloads run.
    :param timing: the durations of the server.
    """

    def __init__(
        self, catalog: Catalog, hardware: Hardware, tasks: anyio.abc.TaskGroup, timing: ServerTiming
    ) -> None:
        self._catalog = catalog
        self._hub = Hub(timing.retry_seconds)
        self._hardware = hardware
        self._downloads = Downloads(catalog, self._hub, tasks)

    async def aclose(self) -> None:
        """Close the HTTP client for the Hub, when no task needs it any more."""
        await self._hub.aclose()

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
                f"This server has no access to LM Studio's own catalog ({identifier.type[:40]!r}).",
                "Take the identifier from a search on this server, which is one of Hugging Face.",
            )
        models = await self._models(_bare(identifier.identifier))
        return DownloadOptions(results=download_options(models, await self._hardware.memory()))

    async def download_model(self, creation: DownloadModelCreation, channel: Channel) -> None:
        with channel.cancellable():
            key = await self._download(creation.download_identifier, channel)
            channel.post(DownloadModelSuccess(default_identifier=key))
            return
        raise server_error(_CANCELLED)

    async def create_download_plan(self, creation: DownloadPlanCreation, channel: Channel) -> None:
        committed = False
        with channel.cancellable():
            plan = await self._plan(creation, channel)
            channel.post(PlanReady(plan=plan.show()))
            while not isinstance(packet := await channel.next_packet(), CommitPlan):
                if isinstance(packet, SelectDownloadOption):
                    plan.select(packet)
                    channel.post(PlanUpdated(plan=plan.show()))
            option = plan.to_download()
            committed = True
            if option is not None:
                await self._download(option.download_identifier, channel)
            channel.post(DownloadSuccess())
            return
        raise server_error(_CANCELLED if committed else "The download plan was cancelled.")

    # -- LM Studio's own hub: there is no login, and no other machine is linked

    async def is_authenticated(self, _: None) -> IsAuthenticated:
        return IsAuthenticated(authenticated=False)

    async def get_authentication_status(self, _: None) -> AuthenticationState:
        return AuthenticationState(authentication_status=NoAccount())

    async def deauthenticate(self, _: None) -> None:
        return

    async def lm_link_status(self, _: None) -> LmLinkStatus:
        return LmLinkStatus(status="offline", issues=["notLoggedIn"], device_name=platform.node())

    async def _models(self, repository: str) -> list[HubModel]:
        models = models_of(await self._hub.files(repository))
        if not models:
            raise repository_not_found(
                f'"{repository[:200]}" has no GGUF model, and this server loads no other format.',
                "Choose a repository whose name ends in GGUF.",
            )
        return models

    async def _plan(self, creation: DownloadPlanCreation, channel: Channel) -> DownloadSelection:
        match creation.target:
            case ModelTarget(source=HuggingFaceSource(user=user, repo=repo)):
                repository = f"{user}/{repo}"
            case _:
                raise unsupported_endpoint("repository", "createArtifactDownloadPlan")
        formats = creation.opts.compatibility_types if creation.opts else None
        if formats and "gguf" not in formats:
            raise server_error(
                f"This server loads GGUF models, and none of the format {', '.join(formats)[:100]}.",
                'Request the format "gguf", or leave the format out.',
            )
        pending = PlanUpdated(plan=pending_plan(repository))
        channel.post(pending)
        channel.repeat_when_silent(pending)
        models = await self._models(repository)
        entries = await anyio.to_thread.run_sync(self._catalog.scan)
        options = download_options(models, await self._hardware.memory())
        channel.repeat_when_silent(None)
        return DownloadSelection(
            repository,
            options,
            keys={entry.path: entry.model_key for entry in entries},
            under_way={str(model.name) for model in models if self._downloads.is_under_way(model.name)},
            wishes=creation.opts,
        )

    async def _download(self, identifier: str, channel: Channel) -> str:
        def report(packet: DownloadProgressPacket | StartFinalizing) -> None:
            channel.repeat_when_silent(packet)
            channel.post(packet)

        return await self._downloads.download(identifier, report)


def _bare(name: str) -> str:
    """Return the name of a repository, given its name or its URL."""
    name = name.strip()
    for beginning in ("https://huggingface.co/", "huggingface.co/", "hf.co/"):
        if name.startswith(beginning):
            return "/".join(name.removeprefix(beginning).split("/")[:2])
    return name
