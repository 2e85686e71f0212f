"""The namespace ``system``: requests about the server itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstudio_async._arguments import check_name, check_text, check_whole_number
from lmstudio_async._handles import ModelList
from lmstudio_async._model_namespace import downloaded_model
from lmstudio_async._preload import preload
from lmstudio_async._protocol._endpoints.system import (
    GET_EXPERIMENT_FLAGS,
    INFO,
    LIST_DOWNLOADED_MODEL_VARIANTS,
    LIST_DOWNLOADED_MODELS,
    NOTIFY,
    REQUEST_SHUTDOWN,
    SET_EXPERIMENT_FLAG,
    START_HTTP_SERVER,
    STOP_HTTP_SERVER,
    VERSION,
)
from lmstudio_async._session import Session

if TYPE_CHECKING:
    from lmstudio_async._embedding import AsyncDownloadedEmbeddingModel, AsyncEmbeddingNamespace
    from lmstudio_async._llm import AsyncDownloadedLlm, AsyncLlmNamespace
    from lmstudio_async._wire._infos import ModelInfo
    from lmstudio_async._wire._system import ServerInfo, ServerVersion

__all__ = ["AsyncSystemNamespace"]


class AsyncSystemNamespace:
    """Requests about the server itself: `AsyncClient.system`."""

    def __init__(self, session: Session, llm: AsyncLlmNamespace, embedding: AsyncEmbeddingNamespace) -> None:
        self._session = session
        self._llm = llm
        self._embedding = embedding

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._session.address!r})"

    async def list_downloaded_models(self) -> Sequence[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel]:
        """List the downloaded models, of every kind that this SDK can load.

        :return: the models, each with the info that the server sent.

        ::

            for model in await client.system.list_downloaded_models():
                print(model.type, model.model_key)
        """
        await preload("_wire._infos")
        infos = await self._session.call(LIST_DOWNLOADED_MODELS)
        return self._downloaded(infos)

    async def list_downloaded_model_variants(
        self, model_key: str
    ) -> Sequence[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel]:
        """List the variants of a model, such as its quantizations.

        :param model_key: the key of the model, or of one of its variants.
        :return: the variants, each with the info that the server sent.
        :raises LMStudioServerError: if the model has no variants.

        ::

            for variant in await client.system.list_downloaded_model_variants("qwen3-4b"):
                print(variant.model_key, variant.info.quantization)
        """
        await preload("_wire._infos", "_wire._system")
        from lmstudio_async._wire._system import ListVariantsParameter

        parameter = ListVariantsParameter(model_key=check_name(model_key, "the model key"))
        infos = await self._session.call(LIST_DOWNLOADED_MODEL_VARIANTS, parameter)
        return self._downloaded(infos)

    async def version(self) -> ServerVersion:
        """Request the version of LM Studio.

        :return: its version and build.

        ::

            print((await client.system.version()).version)
        """
        await preload("_wire._system")
        return await self._session.call(VERSION)

    async def info(self) -> ServerInfo:
        """Request info about the server's process. Older servers do not support this.

        :return: its process id, its version, and whether it runs without a window.

        ::

            print((await client.system.info()).pid)
        """
        await preload("_wire._system")
        return await self._session.call(INFO)

    async def notify(
        self, title: str, description: str | None = None, *, no_auto_dismiss: bool | None = None
    ) -> None:
        """Show a notification in LM Studio's window.

        :param title: headline of the notification.
        :param description: text below the headline; None for none.
        :param no_auto_dismiss: True keeps the notification open until the user closes it.
        :raises LMStudioValueError: if the title or the description is not a text.

        ::

            await client.system.notify("The translation is done", "See translation.txt")
        """
        await preload("_wire._system")
        from lmstudio_async._wire._system import NotifyParameter

        parameter = NotifyParameter(
            title=check_text(title, "title"),
            description=None if description is None else check_text(description, "description"),
            no_auto_dismiss=None if no_auto_dismiss is None else bool(no_auto_dismiss),
        )
        await self._session.call(NOTIFY, parameter)

    async def start_http_server(
        self, port: int | None = None, *, cors: bool | None = None, network_interface: str | None = None
    ) -> None:
        """Start LM Studio's HTTP server, which serves the REST API.

        :param port: the port to listen on, from 1 to 65535; None leaves it to LM Studio's settings.
        :param cors: whether web pages of other origins may use it; None leaves it to LM Studio's settings.
        :param network_interface: the address to listen on, such as ``"127.0.0.1"``; None leaves it to LM
            Studio's settings.
        :raises LMStudioValueError: if an argument is invalid.
        :raises LMStudioServerError: if it cannot be started.

        ::

            await client.system.start_http_server(1234)
        """
        await preload("_wire._system")
        from lmstudio_async._wire._system import StartHttpServerParameter

        parameter = StartHttpServerParameter(
            port=check_whole_number(port, "port", 1, 65535),
            cors=None if cors is None else bool(cors),
            network_interface=None
            if network_interface is None
            else check_text(network_interface, "network_interface"),
        )
        await self._session.call(START_HTTP_SERVER, parameter)

    async def stop_http_server(self) -> None:
        """Stop LM Studio's HTTP server. This connection does not use it and stays open."""
        await self._session.call(STOP_HTTP_SERVER)

    async def get_experiment_flags(self) -> Sequence[str]:
        """List the experiments that are switched on.

        :return: their codes.
        """
        return await self._session.call(GET_EXPERIMENT_FLAGS)

    async def set_experiment_flag(self, code: str, value: bool) -> None:
        """Switch an experiment on or off.

        :param code: code of the experiment.
        :param value: True for on.
        """
        await preload("_wire._system")
        from lmstudio_async._wire._system import SetExperimentFlagParameter

        parameter = SetExperimentFlagParameter(code=check_text(code, "code"), value=bool(value))
        await self._session.call(SET_EXPERIMENT_FLAG, parameter)

    async def request_shutdown(self) -> None:
        """Request the server to shut down, which closes all connections to it."""
        await self._session.call(REQUEST_SHUTDOWN)

    def _downloaded(
        self, infos: Sequence[ModelInfo]
    ) -> list[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel]:
        models: list[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel] = ModelList()
        for info in infos:
            if info.type == "llm":
                models.append(downloaded_model(self._llm, info))
            elif info.type == "embedding":
                models.append(downloaded_model(self._embedding, info))
        return models
