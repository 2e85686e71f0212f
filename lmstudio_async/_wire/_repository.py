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


@attrs.frozen(kw_only=True, repr=False)
class ModelSearchResultIdentifier(WireObject):
    """The place where a search found a model.

    :param type: ``catalog`` for the hub of LM Studio, ``hf`` for Hugging Face.
    :param identifier: name of the model there, ``owner/name``.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "identifier type"

    type: str = ""
    identifier: str = ""


@attrs.frozen(kw_only=True, repr=False)
class SearchResult(WireObject):
    """A model that a search found.

    :param name: a name for people.
    :param identifier: the place where it was found.
    :param exact: its name equals the search term.
    :param staff_pick: the staff of LM Studio recommends it.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "name identifier:identifier.identifier type:identifier.type exact staff_pick"

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


@attrs.frozen(kw_only=True, repr=False)
class DownloadOption(WireObject):
    """One of the files of a model that can be downloaded.

    :param quantization: quantization of its weights, such as ``Q4_K_M``.
    :param name: a name for people.
    :param size_bytes: its size.
    :param fit_estimation: how it fits this machine: ``fullGPUOffload``, ``partialGPUOffload``, ``fitWithoutGPU``,
        ``willNotFit``, or one that this SDK does not know.
    :param recommended: the server recommends it.
    :param download_identifier: the identifier to download it by.
    :param indexed_model_identifier: the name that the server will give it.
    :param compatibility_type: its format, such as ``gguf``.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "name quantization size_bytes fit_estimation recommended compatibility_type"

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
    """Progress of a download.

    :param downloaded_bytes: number of bytes that are downloaded.
    :param total_bytes: number of bytes of the whole download.
    :param speed_bytes_per_second: speed of the download.
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
