"""The endpoints that ``llm`` and ``embedding`` share."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._infos import AnyInstanceInfo
from lmstudio_async._wire._models import (
    Cancel,
    EstimateModelUsageParameter,
    GetModelInfoParameter,
    GetOrLoadCreation,
    GetOrLoadPacket,
    InputStringParameter,
    LoadModelCreation,
    LoadModelPacket,
    ModelUsage,
    ProcessingState,
    SpecifierParameter,
    TokenCount,
    Tokens,
    UnloadModelParameter,
)
from lmstudio_async._wire._predict import KvConfig
from lmstudio_async._wire._struct import Unknown

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
    "loadModel", LoadModelCreation, LoadModelPacket, Cancel | Unknown, label="Model load"
)
GET_OR_LOAD: ChannelEndpoint[GetOrLoadCreation, Any] = ChannelEndpoint(
    "getOrLoad", GetOrLoadCreation, GetOrLoadPacket, Cancel | Unknown, label="Model get/load"
)
UNLOAD_MODEL: RpcEndpoint[UnloadModelParameter, None] = RpcEndpoint(
    "unloadModel", UnloadModelParameter, repeatable=False, label="Model unload"
)
LIST_LOADED: RpcEndpoint[None, list[AnyInstanceInfo]] = RpcEndpoint("listLoaded", None, list[AnyInstanceInfo])
GET_MODEL_INFO: RpcEndpoint[GetModelInfoParameter, AnyInstanceInfo | None] = RpcEndpoint(
    "getModelInfo", GetModelInfoParameter, AnyInstanceInfo, optional_result=True, label="Model info"
)
GET_LOAD_CONFIG: RpcEndpoint[SpecifierParameter, KvConfig] = RpcEndpoint(
    "getLoadConfig", SpecifierParameter, KvConfig, label="Load config"
)
GET_BASE_PREDICTION_CONFIG: RpcEndpoint[SpecifierParameter, KvConfig] = RpcEndpoint(
    "getBasePredictionConfig", SpecifierParameter, KvConfig, label="Prediction config"
)
GET_INSTANCE_PROCESSING_STATE: RpcEndpoint[GetModelInfoParameter, ProcessingState] = RpcEndpoint(
    "getInstanceProcessingState", GetModelInfoParameter, ProcessingState, label="Processing state"
)
ESTIMATE_MODEL_USAGE: RpcEndpoint[EstimateModelUsageParameter, ModelUsage] = RpcEndpoint(
    "estimateModelUsage", EstimateModelUsageParameter, ModelUsage, label="Memory estimate"
)
TOKENIZE: RpcEndpoint[InputStringParameter, Tokens] = RpcEndpoint(
    "tokenize", InputStringParameter, Tokens, label="Tokenization"
)
COUNT_TOKENS: RpcEndpoint[InputStringParameter, TokenCount] = RpcEndpoint(
    "countTokens", InputStringParameter, TokenCount, label="Token count"
)
