"""Configs: what users write, checked and turned into the KV config that the wire carries, and back.

A misspelt key or an impossible value is refused here, because the server would not: it ignores the one and leaves
the caller waiting for ever on the other.
"""

from __future__ import annotations

from lmstudio_async._config._convert import (
    load_config_fields,
    load_config_from_fields,
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
    "prediction_config_fields",
    "prediction_config_from_fields",
]
