"""Wire types of a download plan, which selects one of a model's files and lists everything that the model needs."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lmstudio_async._wire._repository import DownloadProgressPacket, DownloadSuccess, StartFinalizing
from lmstudio_async._wire._struct import Unknown, WireObject, nullable

__all__ = [
    "ArtifactNode",
    "ArtifactTarget",
    "CancelDownload",
    "CancelPlan",
    "CommitPlan",
    "DownloadPlan",
    "DownloadPlanCreation",
    "DownloadPlanOptions",
    "DownloadPlanPacket",
    "DownloadPlanRequest",
    "FileNamePreference",
    "HuggingFaceSource",
    "ModelNode",
    "ModelTarget",
    "PlanModel",
    "PlanModelOption",
    "PlanReady",
    "PlanUpdated",
    "QuantNamePreference",
    "SelectDownloadOption",
]


@attrs.frozen(kw_only=True)
class HuggingFaceSource(WireObject):
    TAG: ClassVar[str] = "huggingface"
    user: str
    repo: str


@attrs.frozen(kw_only=True)
class ArtifactTarget(WireObject):
    TAG: ClassVar[str] = "artifact"
    owner: str
    name: str


@attrs.frozen(kw_only=True)
class ModelTarget(WireObject):
    TAG: ClassVar[str] = "model"
    source: HuggingFaceSource | Unknown


@attrs.frozen(kw_only=True)
class FileNamePreference(WireObject):
    TAG: ClassVar[str] = "fileName"
    file_name: str


@attrs.frozen(kw_only=True)
class QuantNamePreference(WireObject):
    TAG: ClassVar[str] = "quantName"
    quant_name: str


@attrs.frozen(kw_only=True)
class DownloadPlanOptions(WireObject):
    resolution_preference: list[FileNamePreference | QuantNamePreference | Unknown] | None = None
    compatibility_types: list[str] | None = None


@attrs.frozen(kw_only=True)
class DownloadPlanCreation(WireObject):
    target: ArtifactTarget | ModelTarget | Unknown
    opts: DownloadPlanOptions | None = None


# -- the plan


@attrs.frozen(kw_only=True)
class PlanModel(WireObject):
    """A model file of a plan.

    :param display_name: a name for people.
    :param size_bytes: its size.
    :param quant_name: quantization of its weights.
    :param compatibility_type: its format.
    :param model_key: the key to load it by, if it is downloaded.
    :param extra: members that the server sent and this SDK does not know.
    """

    display_name: str = ""
    size_bytes: float = 0
    quant_name: str | None = None
    compatibility_type: str = ""
    model_key: str | None = None


@attrs.frozen(kw_only=True)
class PlanModelOption(WireObject):
    """A model file that a plan could select.

    :param display_name: a name for people.
    :param size_bytes: its size.
    :param quant_name: quantization of its weights.
    :param compatibility_type: its format.
    :param fit_estimation: how it fits this machine, see `DownloadOption`.
    :param availability: ``notDownloaded``, ``downloading`` or ``downloaded``.
    :param recommended: the server recommends it.
    :param extra: members that the server sent and this SDK does not know.
    """

    display_name: str = ""
    size_bytes: float = 0
    quant_name: str | None = None
    compatibility_type: str = ""
    fit_estimation: str = ""
    availability: str = ""
    recommended: bool | None = None


@attrs.frozen(kw_only=True)
class ArtifactNode(WireObject):
    """An artifact of a plan.

    :param owner: its publisher.
    :param name: its name.
    :param state: ``pending``, ``fetching``, ``satisfied`` or ``completed``.
    :param artifact_type: ``plugin``, ``preset``, ``model``, ``project`` or ``skill``, once it is known.
    :param size_bytes: its size, once it is known.
    :param dependency_nodes: the nodes it needs, by position in the plan.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "artifact"

    owner: str = ""
    name: str = ""
    state: str = ""
    artifact_type: str | None = None
    size_bytes: int | None = None
    dependency_nodes: list[int] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class ModelNode(WireObject):
    """A model of a plan.

    :param state: ``pending``, ``fetching``, ``satisfied`` or ``completed``.
    :param dependency_label: a name for people.
    :param resolved_sources: number of its sources that were queried.
    :param total_sources: number of its sources.
    :param already_owned: a downloaded file that is good enough.
    :param selected: the file that will be downloaded.
    :param download_options: the files to choose from.
    :param selected_download_option_index: position of the selected file in ``download_options``; None for none.
    :param recommended_download_option_index: position of the file that the server recommends; None for none.
    :param extra: members that the server sent and this SDK does not know.
    """

    TAG: ClassVar[str] = "model"

    state: str = ""
    dependency_label: str = ""
    resolved_sources: int | None = None
    total_sources: int | None = None
    already_owned: PlanModel | None = None
    selected: PlanModel | None = None
    download_options: list[PlanModelOption] | None = attrs.field(default=None, hash=False)
    selected_download_option_index: int | None = None
    recommended_download_option_index: int | None = None


@attrs.frozen(kw_only=True)
class DownloadPlan(WireObject):
    """The models and artifacts that have to be downloaded.

    :param nodes: the models and artifacts; the first is the requested one.
    :param download_size_bytes: number of bytes that are not downloaded yet.
    :param download_action: ``none``, ``startNewDownload`` or ``attachToExistingDownload``.
    :param download_job_identifier: identifier of the download, if it runs already.
    :param version: number of changes of the plan.
    :param extra: members that the server sent and this SDK does not know.
    """

    nodes: list[ArtifactNode | ModelNode | Unknown] = attrs.field(factory=list, hash=False)
    download_size_bytes: int = 0
    download_action: str = "none"
    download_job_identifier: str | None = None
    version: int = 0


@attrs.frozen(kw_only=True)
class PlanUpdated(WireObject):
    TAG: ClassVar[str] = "planUpdated"
    plan: DownloadPlan


@attrs.frozen(kw_only=True)
class PlanReady(WireObject):
    TAG: ClassVar[str] = "planReady"
    plan: DownloadPlan


DownloadPlanPacket = (
    PlanUpdated | PlanReady | DownloadProgressPacket | StartFinalizing | DownloadSuccess | Unknown
)


# -- packets of the client about the plan


@attrs.frozen(kw_only=True)
class SelectDownloadOption(WireObject):
    TAG: ClassVar[str] = "setSelectedDownloadOptionIndex"
    node_index: int
    selected_download_option_index: int | None = nullable()
    requested_plan_version: int


@attrs.frozen(kw_only=True)
class CommitPlan(WireObject):
    TAG: ClassVar[str] = "commit"


@attrs.frozen(kw_only=True)
class CancelPlan(WireObject):
    TAG: ClassVar[str] = "cancelPlan"


@attrs.frozen(kw_only=True)
class CancelDownload(WireObject):
    TAG: ClassVar[str] = "cancelDownload"


DownloadPlanRequest = SelectDownloadOption | CommitPlan | CancelPlan | CancelDownload | Unknown
