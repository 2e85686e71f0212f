"""Loads of models that the server may not have: they are downloaded first, if the user wants so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from lmstudio_async._callbacks import check_callback
from lmstudio_async.errors import LMStudioInstanceUnloadedError, LMStudioModelNotFoundError

if TYPE_CHECKING:
    from lmstudio_async._session import Session

__all__ = ["MissingModels"]

ResultT = TypeVar("ResultT")


class MissingModels:
    """The models of a server, and the ones that it could download.

    :param repository: the session that downloads.
    :param system: the session that lists the downloaded models.
    """

    def __init__(self, repository: Session, system: Session) -> None:
        self._repository = repository
        self._system = system

    async def load(
        self,
        load: Callable[[str], Awaitable[ResultT]],
        model_key: str,
        download: bool,
        on_download_progress: Callable[..., Any] | None,
        on_progress: Callable[..., Any] | None,
    ) -> ResultT:
        """Load a model. If the server does not have it, download it before, and load it by the key that it then has.

        :param load: loads the model of a key.
        :param download: whether to download; if not, the error of the load is raised.
        :param on_download_progress: callback for the progress of the download.
        :param on_progress: callback for the progress of the load. A progress bar draws downloads too.
        :raises LMStudioModelNotFoundError: there is no such model, also none to download.
        """
        check_callback(on_download_progress, "on_download_progress")
        try:
            return await load(model_key)
        except LMStudioInstanceUnloadedError:
            # The model is there.
            raise
        except LMStudioModelNotFoundError:
            if not download:
                raise
        from lmstudio_async._repository_namespace import download_missing

        source = (self._repository, self._system)
        return await load(await download_missing(*source, model_key, on_download_progress, on_progress))
