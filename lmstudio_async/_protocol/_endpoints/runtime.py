"""The endpoints of ``runtime``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._protocol._endpoints._base import RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._runtime import (
        EngineInfo,
        HardwareSurveyResult,
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
SURVEY_HARDWARE: RpcEndpoint[SurveyHardwareParameter | None, HardwareSurveyResult] = RpcEndpoint(
    "surveyHardware",
    "_runtime.SurveyHardwareParameter",
    "_runtime.HardwareSurveyResult",
    optional_parameter=True,
    label="Hardware survey",
)
