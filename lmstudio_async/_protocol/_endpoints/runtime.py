"""The endpoints of ``runtime``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._models import Cancel
from lmstudio_async._wire._repository import DownloadPacket
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
from lmstudio_async._wire._struct import Unknown

LIST_ENGINES: RpcEndpoint[None, list[EngineInfo]] = RpcEndpoint(
    "listEngines", None, list[EngineInfo], label="Engine list"
)
GET_ENGINE_SELECTIONS: RpcEndpoint[SuperJson, SuperJson] = RpcEndpoint(
    "getEngineSelections", SuperJson, SuperJson, label="Engine selections"
)
SELECT_ENGINE: RpcEndpoint[SelectEngineParameter, None] = RpcEndpoint(
    "selectEngine", SelectEngineParameter, label="Engine selection"
)
REMOVE_ENGINE: RpcEndpoint[EngineSpecifier, None] = RpcEndpoint(
    "removeEngine", EngineSpecifier, repeatable=False, label="Engine removal"
)
SURVEY_HARDWARE: RpcEndpoint[SurveyHardwareParameter | None, HardwareSurveyResult] = RpcEndpoint(
    "surveyHardware",
    SurveyHardwareParameter,
    HardwareSurveyResult,
    optional_parameter=True,
    label="Hardware survey",
)
SEARCH_RUNTIME_EXTENSIONS: RpcEndpoint[SearchRuntimeExtensionsParameter, RuntimeExtensions] = RpcEndpoint(
    "searchRuntimeExtensions", SearchRuntimeExtensionsParameter, RuntimeExtensions, label="Runtime search"
)
DOWNLOAD_RUNTIME_EXTENSION: ChannelEndpoint[DownloadRuntimeExtensionCreation, Any] = ChannelEndpoint(
    "downloadRuntimeExtension",
    DownloadRuntimeExtensionCreation,
    DownloadPacket,
    Cancel | Unknown,
    label="Runtime download",
)
