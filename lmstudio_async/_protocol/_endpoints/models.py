"""The endpoints that ``llm`` and ``embedding`` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import AnyInstanceInfo
    from lmstudio_async._wire._models import (
        GetModelInfoParameter,
        GetOrLoadCreation,
        LoadModelCreation,
        SpecifierParameter,
        UnloadModelParameter,
    )
    from lmstudio_async._wire._predict import KvConfig
    from lmstudio_async._wire._texts import InputStringParameter, TokenCount, Tokens
    from lmstudio_async._wire._usage import EstimateModelUsageParameter, ModelUsage, ProcessingState

__all__ = [
    "COUNT_TOKENS",
    "ESTIMATE_MODEL_USAGE",
    "GET_BASE_PREDICTION_CONFIG",
    "GET_INSTANCE_PROCESSING_STATE",
    "GET_LOAD_CONFIG",
    "GET_MODEL_INFO",
    "GET_OR_LOAD",
    "LIST_LOADED",
    "LOAD_MODEL",
    "TOKENIZE",
    "UNLOAD_MODEL",
]

LOAD_MODEL: ChannelEndpoint[LoadModelCreation, Any] = ChannelEndpoint(
    "loadModel",
    "_models.LoadModelCreation",
    "_models.LoadModelPacket",
    "_models.Cancel | _struct.Unknown",
    label="Model load",
)
GET_OR_LOAD: ChannelEndpoint[GetOrLoadCreation, Any] = ChannelEndpoint(
    "getOrLoad",
    "_models.GetOrLoadCreation",
    "_models.GetOrLoadPacket",
    "_models.Cancel | _struct.Unknown",
    label="Model get/load",
)
UNLOAD_MODEL: RpcEndpoint[UnloadModelParameter, None] = RpcEndpoint(
    "unloadModel", "_models.UnloadModelParameter", repeatable=False, label="Model unload"
)
LIST_LOADED: RpcEndpoint[None, list[AnyInstanceInfo]] = RpcEndpoint(
    "listLoaded", None, "list[_infos.AnyInstanceInfo]"
)
GET_MODEL_INFO: RpcEndpoint[GetModelInfoParameter, AnyInstanceInfo | None] = RpcEndpoint(
    "getModelInfo",
    "_models.GetModelInfoParameter",
    "_infos.AnyInstanceInfo",
    optional_result=True,
    is_use=False,
    label="Model info",
)
GET_LOAD_CONFIG: RpcEndpoint[SpecifierParameter, KvConfig] = RpcEndpoint(
    "getLoadConfig", "_models.SpecifierParameter", "_predict.KvConfig", is_use=False, label="Load config"
)
GET_BASE_PREDICTION_CONFIG: RpcEndpoint[SpecifierParameter, KvConfig] = RpcEndpoint(
    "getBasePredictionConfig",
    "_models.SpecifierParameter",
    "_predict.KvConfig",
    is_use=False,
    label="Prediction config",
)
GET_INSTANCE_PROCESSING_STATE: RpcEndpoint[GetModelInfoParameter, ProcessingState] = RpcEndpoint(
    "getInstanceProcessingState",
    "_models.GetModelInfoParameter",
    "_usage.ProcessingState",
    is_use=False,
    label="Processing state",
)
ESTIMATE_MODEL_USAGE: RpcEndpoint[EstimateModelUsageParameter, ModelUsage] = RpcEndpoint(
    "estimateModelUsage", "_usage.EstimateModelUsageParameter", "_usage.ModelUsage", label="Memory estimate"
)
TOKENIZE: RpcEndpoint[InputStringParameter, Tokens] = RpcEndpoint(
    "tokenize", "_texts.InputStringParameter", "_texts.Tokens", label="Tokenization"
)
COUNT_TOKENS: RpcEndpoint[InputStringParameter, TokenCount] = RpcEndpoint(
    "countTokens", "_texts.InputStringParameter", "_texts.TokenCount", label="Token count"
)
