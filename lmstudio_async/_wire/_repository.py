"""What is sent to find models and to download them, and about artifacts: what people share on the hub."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._struct import Unknown, WireObject, nullable

__all__ = [
    "ArtifactFile",
    "ArtifactFileList",
    "ArtifactFiles",
    "ArtifactOwners",
    "ArtifactPlanCreation",
    "DownloadArtifactCreation",
    "DownloadModelCreation",
    "DownloadModelPacket",
    "DownloadModelSuccess",
    "DownloadOption",
    "DownloadOptions",
    "DownloadOptionsParameter",
    "DownloadPacket",
    "DownloadProgressPacket",
    "DownloadProgressUpdate",
    "DownloadSuccess",
    "InstallLocalPluginParameter",
    "ModelSearchResultIdentifier",
    "PathParameter",
    "PluginFolderParameter",
    "PushArtifactCreation",
    "PushArtifactPacket",
    "PushMessage",
    "SearchModelsOptions",
    "SearchModelsParameter",
    "SearchResult",
    "SearchResults",
    "StaffPick",
    "StaffPicks",
    "StaffPicksParameter",
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


@attrs.frozen(kw_only=True)
class StaffPicksParameter(WireObject):
    search_term: str | None = None
    limit: int | None = None
    compatibility_types: list[str] | None = None


@attrs.frozen(kw_only=True)
class StaffPick(WireObject):
    """A model that the people of LM Studio recommend.

    :param owner: who published it.
    :param name: its name on the hub.
    :param revision_number: its newest revision.
    :param created_at_timestamp: when that was made, in milliseconds since 1970.
    :param description: what it is good for.
    :param exact: its name is what was searched for.
    :param extra: members that the server sent and this SDK does not know.
    """

    owner: str = ""
    name: str = ""
    revision_number: int = 0
    created_at_timestamp: int = 0
    description: str = ""
    exact: bool = False


@attrs.frozen(kw_only=True)
class StaffPicks(WireObject):
    results: list[StaffPick]


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
DownloadPacket = DownloadProgressPacket | StartFinalizing | DownloadSuccess | Unknown


# -- artifacts


@attrs.frozen(kw_only=True)
class DownloadArtifactCreation(WireObject):
    artifact_owner: str
    artifact_name: str
    revision_number: int | None = nullable()
    path: str


@attrs.frozen(kw_only=True)
class ArtifactPlanCreation(WireObject):
    """What old servers have instead of a plan for models and artifacts."""

    owner: str
    name: str


@attrs.frozen(kw_only=True)
class PushArtifactCreation(WireObject):
    path: str
    description: str | None = None
    make_private: bool | None = None
    write_revision: bool | None = None
    overrides: Any = None


@attrs.frozen(kw_only=True)
class PushMessage(WireObject):
    TAG: ClassVar[str] = "message"
    message: str = ""


PushArtifactPacket = PushMessage | Unknown


@attrs.frozen(kw_only=True)
class PathParameter(WireObject):
    path: str


@attrs.frozen(kw_only=True)
class ArtifactFile(WireObject):
    """A file of an artifact.

    :param relative_path: where it lies in the artifact's folder.
    :param size_bytes: its size.
    :param extra: members that the server sent and this SDK does not know.
    """

    relative_path: str = ""
    size_bytes: int = 0


@attrs.frozen(kw_only=True)
class ArtifactFileList(WireObject):
    """What would be uploaded of a folder.

    :param files: the files.
    :param used_ignore_file: the file that says what to leave out; None if there is none.
    :param extra: members that the server sent and this SDK does not know.
    """

    files: list[ArtifactFile] = attrs.field(factory=list, hash=False)
    used_ignore_file: str | None = nullable()


@attrs.frozen(kw_only=True)
class ArtifactFiles(WireObject):
    file_list: ArtifactFileList


@attrs.frozen(kw_only=True)
class ArtifactOwners(WireObject):
    owners: list[str]


@attrs.frozen(kw_only=True)
class PluginFolderParameter(WireObject):
    plugin_folder: str


@attrs.frozen(kw_only=True)
class InstallLocalPluginParameter(WireObject):
    plugin_path: str
