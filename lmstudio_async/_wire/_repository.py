"""Wire types of model search and model download."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "DownloadModelCreation",
    "DownloadModelPacket",
    "DownloadModelSuccess",
    "DownloadOption",
    "DownloadOptions",
    "DownloadOptionsParameter",
    "DownloadProgressPacket",
    "DownloadProgressUpdate",
    "DownloadSuccess",
    "ModelSearchResultIdentifier",
    "SearchModelsOptions",
    "SearchModelsParameter",
    "SearchResult",
    "SearchResults",
    "StartFinalizing",
]


# -- searching


@attrs.frozen(kw_only=True)
class SearchModelsOptions(WireObject):
    search_term: str | None = None
    limit: int | None = None
    compatibility_types: list[str] | None = None


@attrs.frozen(kw_only=True)
class SearchModelsParameter(WireObject):
    opts: SearchModelsOptions = attrs.field(factory=SearchModelsOptions)


@attrs.frozen(kw_only=True)
class ModelSearchResultIdentifier(WireObject):
    """Where a search found a model.

    :param type: ``catalog`` for the hub of LM Studio, ``hf`` for Hugging Face.
    :param identifier: its name there, ``owner/name``.
    :param extra: members that the server sent and this SDK does not know.
    """

    type: str = ""
    identifier: str = ""


@attrs.frozen(kw_only=True)
class SearchResult(WireObject):
    """A model that a search found.

    :param name: a name for people.
    :param identifier: where it is.
    :param exact: its name is what was searched for.
    :param staff_pick: the people of LM Studio recommend it.
    :param extra: members that the server sent and this SDK does not know.
    """

    name: str = ""
    identifier: ModelSearchResultIdentifier = attrs.field(factory=ModelSearchResultIdentifier)
    exact: bool | None = None
    staff_pick: bool | None = None


@attrs.frozen(kw_only=True)
class SearchResults(WireObject):
    results: list[SearchResult]


# -- downloading a model


@attrs.frozen(kw_only=True)
class DownloadOptionsParameter(WireObject):
    model_search_result_identifier: ModelSearchResultIdentifier


@attrs.frozen(kw_only=True)
class DownloadOption(WireObject):
    """One of the files that a model comes in.

    :param quantization: how its weights are stored, such as ``Q4_K_M``.
    :param name: a name for people.
    :param size_bytes: its size.
    :param fit_estimation: how it fits this machine: ``fullGPUOffload``, ``partialGPUOffload``, ``fitWithoutGPU``,
        ``willNotFit``, or one that this SDK does not know.
    :param recommended: the server would take it.
    :param download_identifier: what to download it by.
    :param indexed_model_identifier: what the server will call it.
    :param compatibility_type: its format, such as ``gguf``.
    :param extra: members that the server sent and this SDK does not know.
    """

    quantization: str | None = None
    name: str = ""
    size_bytes: int = 0
    fit_estimation: str | None = None
    recommended: bool | None = None
    download_identifier: str = ""
    indexed_model_identifier: str = ""
    compatibility_type: str | None = None


@attrs.frozen(kw_only=True)
class DownloadOptions(WireObject):
    results: list[DownloadOption]


@attrs.frozen(kw_only=True)
class DownloadModelCreation(WireObject):
    download_identifier: str


@attrs.frozen(kw_only=True)
class DownloadProgressUpdate(WireObject):
    """How far a download is.

    :param downloaded_bytes: what is here.
    :param total_bytes: what will be here.
    :param speed_bytes_per_second: how fast it comes.
    :param extra: members that the server sent and this SDK does not know.
    """

    downloaded_bytes: int = 0
    total_bytes: int = 0
    speed_bytes_per_second: float = 0


@attrs.frozen(kw_only=True)
class DownloadProgressPacket(WireObject):
    TAG: ClassVar[str] = "downloadProgress"
    update: DownloadProgressUpdate


@attrs.frozen(kw_only=True)
class StartFinalizing(WireObject):
    TAG: ClassVar[str] = "startFinalizing"


@attrs.frozen(kw_only=True)
class DownloadSuccess(WireObject):
    TAG: ClassVar[str] = "success"


@attrs.frozen(kw_only=True)
class DownloadModelSuccess(WireObject):
    TAG: ClassVar[str] = "success"
    default_identifier: str


DownloadModelPacket = DownloadProgressPacket | StartFinalizing | DownloadModelSuccess | Unknown
