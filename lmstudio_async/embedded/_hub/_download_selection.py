"""A download plan: the quantizations of a model on the Hub, and the selected one. Without I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._plan import (
    DownloadPlan,
    DownloadPlanOptions,
    FileNamePreference,
    ModelNode,
    PlanModel,
    PlanModelOption,
    QuantNamePreference,
    SelectDownloadOption,
)
from lmstudio_async._wire._repository import DownloadOption
from lmstudio_async._wire._struct import Unknown

__all__ = ["DownloadSelection", "pending_plan"]


def pending_plan(label: str) -> DownloadPlan:
    """Return the plan that is shown until the Hub has answered.

    :param label: the repository's name.
    """
    node = ModelNode(state="fetching", dependency_label=label, resolved_sources=0, total_sources=1)
    return DownloadPlan(nodes=[node], version=1)


class DownloadSelection:
    """The models of a repository, and the selected one.

    :param label: the repository's name.
    :param options: its models.
    :param keys: path in the models folder -> model key, of the downloaded models.
    :param under_way: the download identifiers of the models that are being downloaded.
    :param wishes: the preferences of the client; the first one that matches a model decides.
    """

    def __init__(
        self,
        label: str,
        options: Sequence[DownloadOption],
        *,
        keys: dict[str, str],
        under_way: Collection[str] = (),
        wishes: DownloadPlanOptions | None = None,
    ) -> None:
        self._label = label
        self._options = options
        self._keys = keys
        self._under_way = under_way
        self._version = 2
        self._recommended = next((i for i, option in enumerate(options) if option.recommended), None)
        wished = _wished(options, wishes)
        best = self._recommended if wished is None else wished
        present = [index for index, option in enumerate(options) if self._key(option) is not None]
        self._owned = best if best in present else next(iter(present), None)
        #: None: use the model that is already downloaded.
        self._selected = None if self._owned is not None and wished in (None, self._owned) else best

    def to_download(self) -> DownloadOption | None:
        """Return the model to download, or None if a downloaded one is used.

        :raises LMStudioServerError: no model is selected, and none is downloaded.
        """
        if self._selected is None and self._owned is None:
            raise server_error(
                f'No model of "{self._label}" fits into the memory of this machine, so none is selected.',
                "Select one of the download options of the plan, or take a smaller model.",
            )
        return self._coming

    def select(self, wanted: SelectDownloadOption) -> None:
        """Select the model that the client requests.

        :raises LMStudioServerError: the request has an index that does not exist, or requests the downloaded model
            although there is none.
        """
        index = wanted.selected_download_option_index
        if wanted.node_index != 0:
            raise server_error(f"The plan has one node, and its index is 0, not {wanted.node_index}.")
        if index is None and self._owned is None:
            raise server_error("None of these models is here already: select one to download.")
        if index is not None and not 0 <= index < len(self._options):
            raise server_error(
                f"There are {len(self._options)} download options, and none has the index {index}."
            )
        self._selected = index
        # The client counts the versions too, and waits for the version that shows its selection.
        self._version = max(self._version + 1, wanted.requested_plan_version)

    def show(self) -> DownloadPlan:
        """Return the plan in the form of the protocol."""
        coming = self._coming
        attach = coming is not None and coming.download_identifier in self._under_way
        satisfied = self._selected is None and self._owned is not None
        node = ModelNode(
            state="satisfied" if satisfied else "completed",
            dependency_label=self._label,
            resolved_sources=1,
            total_sources=1,
            already_owned=self._model(self._owned),
            selected=self._model(self._selected),
            download_options=[self._option(option) for option in self._options],
            selected_download_option_index=self._selected,
            recommended_download_option_index=self._recommended,
        )
        action = "attachToExistingDownload" if attach else "startNewDownload"
        return DownloadPlan(
            nodes=[node],
            download_size_bytes=coming.size_bytes if coming else 0,
            download_action=action if coming else "none",
            download_job_identifier=coming.download_identifier if coming and attach else None,
            version=self._version,
        )

    @property
    def _coming(self) -> DownloadOption | None:
        option = None if self._selected is None else self._options[self._selected]
        return None if option is None or self._key(option) is not None else option

    def _key(self, option: DownloadOption) -> str | None:
        return self._keys.get(option.indexed_model_identifier)

    def _model(self, index: int | None) -> PlanModel | None:
        if index is None:
            return None
        option = self._options[index]
        return PlanModel(
            display_name=option.name,
            size_bytes=option.size_bytes,
            quant_name=option.quantization,
            compatibility_type="gguf",
            model_key=self._key(option),
        )

    def _option(self, option: DownloadOption) -> PlanModelOption:
        if self._key(option) is not None:
            availability = "downloaded"
        else:
            is_coming = option.download_identifier in self._under_way
            availability = "downloading" if is_coming else "notDownloaded"
        return PlanModelOption(
            display_name=option.name,
            size_bytes=option.size_bytes,
            quant_name=option.quantization,
            compatibility_type="gguf",
            fit_estimation=option.fit_estimation or "",
            availability=availability,
            recommended=option.recommended,
        )


def _wished(options: Sequence[DownloadOption], wishes: DownloadPlanOptions | None) -> int | None:
    for wish in (wishes and wishes.resolution_preference) or ():
        for index, option in enumerate(options):
            if _is_wished(option, wish):
                return index
    return None


def _is_wished(option: DownloadOption, wish: FileNamePreference | QuantNamePreference | Unknown) -> bool:
    match wish:
        case FileNamePreference(file_name=name):
            names = {PurePosixPath(option.indexed_model_identifier).name, option.name}
            return name.lower() in {each.lower() for each in names}
        case QuantNamePreference(quant_name=name):
            return option.quantization is not None and option.quantization.lower() == name.lower()
    return False
