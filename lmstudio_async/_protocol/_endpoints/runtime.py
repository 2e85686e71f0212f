"""The endpoints of ``runtime``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._runtime import (
        DownloadRuntimeExtensionCreation,
        EngineInfo,
        EngineSpecifier,
        HardwareSurveyResult,
        RuntimeExtensions,
        SearchRuntimeExtensionsParameter,
        SelectEngineParameter,
        SuperJson,
        SurveyHardwareParameter,
    )

LIST_ENGINES: RpcEndpoint[None, list[EngineInfo]] = RpcEndpoint(
    "listEngines", None, "list[_runtime.EngineInfo]", label="Engine list"
)
GET_ENGINE_SELECTIONS: RpcEndpoint[SuperJson, SuperJson] = RpcEndpoint(
    "getEngineSelections", "_runtime.SuperJson", "_runtime.SuperJson", label="Engine selections"
)
SELECT_ENGINE: RpcEndpoint[SelectEngineParameter, None] = RpcEndpoint(
    "selectEngine", "_runtime.SelectEngineParameter", label="Engine selection"
)
REMOVE_ENGINE: RpcEndpoint[EngineSpecifier, None] = RpcEndpoint(
    "removeEngine", "_runtime.EngineSpecifier", repeatable=False, label="Engine removal"
)
SURVEY_HARDWARE: RpcEndpoint[SurveyHardwareParameter | None, HardwareSurveyResult] = RpcEndpoint(
    "surveyHardware",
    "_runtime.SurveyHardwareParameter",
    "_runtime.HardwareSurveyResult",
    optional_parameter=True,
    label="Hardware survey",
)
SEARCH_RUNTIME_EXTENSIONS: RpcEndpoint[SearchRuntimeExtensionsParameter, RuntimeExtensions] = RpcEndpoint(
    "searchRuntimeExtensions",
    "_runtime.SearchRuntimeExtensionsParameter",
    "_runtime.RuntimeExtensions",
    label="Runtime search",
)
DOWNLOAD_RUNTIME_EXTENSION: ChannelEndpoint[DownloadRuntimeExtensionCreation, Any] = ChannelEndpoint(
    "downloadRuntimeExtension",
    "_runtime.DownloadRuntimeExtensionCreation",
    "_repository.DownloadPacket",
    "_models.Cancel | _struct.Unknown",
    label="Runtime download",
)
