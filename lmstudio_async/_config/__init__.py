"""Configs of users: checks, and conversion to the KV config of the wire and back.

A misspelt key or an invalid value raises an error here, because the server reports neither: it ignores a misspelt
key, and never responds to an invalid value.
"""

from __future__ import annotations

from lmstudio_async._config._comparison import mismatched_settings
from lmstudio_async._config._convert import (
    load_config_fields,
    load_config_from_fields,
    load_settings,
    prediction_config_fields,
    prediction_config_from_fields,
)
from lmstudio_async._config._dicts import (
    EmbeddingLoadModelConfigDict,
    GpuSettingDict,
    LlmLoadModelConfigDict,
    LlmPredictionConfigDict,
)
from lmstudio_async._config._load import EmbeddingLoadModelConfig, LlmLoadModelConfig
from lmstudio_async._config._predict import LlmPredictionConfig
from lmstudio_async._config._types import GpuSetting

__all__ = [
    "EmbeddingLoadModelConfig",
    "EmbeddingLoadModelConfigDict",
    "GpuSetting",
    "GpuSettingDict",
    "LlmLoadModelConfig",
    "LlmLoadModelConfigDict",
    "LlmPredictionConfig",
    "LlmPredictionConfigDict",
    "load_config_fields",
    "load_config_from_fields",
    "load_settings",
    "mismatched_settings",
    "prediction_config_fields",
    "prediction_config_from_fields",
]
