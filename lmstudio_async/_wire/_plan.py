"""What is sent about a download plan: which of several files of a model to take, and all that it needs."""

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
    :param quant_name: how its weights are stored.
    :param compatibility_type: its format.
    :param model_key: what to load it by, if it is here.
    :param extra: members that the server sent and this SDK does not know.
    """

    display_name: str = ""
    size_bytes: float = 0
    quant_name: str | None = None
    compatibility_type: str = ""
    model_key: str | None = None


@attrs.frozen(kw_only=True)
class PlanModelOption(WireObject):
    """A model file that a plan could take.

    :param display_name: a name for people.
    :param size_bytes: its size.
    :param quant_name: how its weights are stored.
    :param compatibility_type: its format.
    :param fit_estimation: how it fits this machine, see `DownloadOption`.
    :param availability: ``notDownloaded``, ``downloading`` or ``downloaded``.
    :param recommended: the server would take it.
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

    :param owner: who published it.
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
    :param resolved_sources: how many of its sources were asked.
    :param total_sources: how many it has.
    :param already_owned: the file that is here and will do.
    :param selected: the file that will be downloaded.
    :param download_options: the files there are.
    :param selected_download_option_index: which of them is selected; None for none.
    :param recommended_download_option_index: which of them the server would take; None for none.
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
    """What has to be downloaded.

    :param nodes: the models and artifacts; the first is the one that was asked for.
    :param download_size_bytes: what is not here yet.
    :param download_action: ``none``, ``startNewDownload`` or ``attachToExistingDownload``.
    :param download_job_identifier: of the download that runs already.
    :param version: counts the changes of the plan.
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


# -- what the client says about it


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
