"""The async SDK for LM Studio: load, access and unload models, watch the loading, and use them.

::

    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        llm = await client.llm.load_new_instance("llama-3.2-1b-instruct", "my-llama", ttl=3600)
        print(await llm.respond("What is the meaning of life?"))
        await llm.unload()

Works on asyncio and on trio. Everything here is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstudio_async._chat import ChatInput as ChatInput
    from lmstudio_async._client import AsyncClient as AsyncClient
    from lmstudio_async._config import EmbeddingLoadModelConfig as EmbeddingLoadModelConfig
    from lmstudio_async._config import EmbeddingLoadModelConfigDict as EmbeddingLoadModelConfigDict
    from lmstudio_async._config import GpuSetting as GpuSetting
    from lmstudio_async._config import GpuSettingDict as GpuSettingDict
    from lmstudio_async._config import LlmLoadModelConfig as LlmLoadModelConfig
    from lmstudio_async._config import LlmLoadModelConfigDict as LlmLoadModelConfigDict
    from lmstudio_async._config import LlmPredictionConfig as LlmPredictionConfig
    from lmstudio_async._config import LlmPredictionConfigDict as LlmPredictionConfigDict
    from lmstudio_async._embedding import AsyncDownloadedEmbeddingModel as AsyncDownloadedEmbeddingModel
    from lmstudio_async._embedding import AsyncEmbeddingModel as AsyncEmbeddingModel
    from lmstudio_async._embedding import AsyncEmbeddingNamespace as AsyncEmbeddingNamespace
    from lmstudio_async._handles import AsyncModelHandle as AsyncModelHandle
    from lmstudio_async._llm import AsyncDownloadedLlm as AsyncDownloadedLlm
    from lmstudio_async._llm import AsyncLLM as AsyncLLM
    from lmstudio_async._llm import AsyncLlmNamespace as AsyncLlmNamespace
    from lmstudio_async._loading import AsyncLoadStream as AsyncLoadStream
    from lmstudio_async._loading import LoadProgress as LoadProgress
    from lmstudio_async._models import AsyncDownloadedModel as AsyncDownloadedModel
    from lmstudio_async._models import AsyncModelNamespace as AsyncModelNamespace
    from lmstudio_async._models import ModelLoadingCallback as ModelLoadingCallback
    from lmstudio_async._operations import AsyncOperation as AsyncOperation
    from lmstudio_async._predicting import AsyncPredictionStream as AsyncPredictionStream
    from lmstudio_async._predicting import PredictionResult as PredictionResult
    from lmstudio_async._system import AsyncSystemNamespace as AsyncSystemNamespace
    from lmstudio_async._wire._infos import EmbeddingModelInfo as EmbeddingModelInfo
    from lmstudio_async._wire._infos import EmbeddingModelInstanceInfo as EmbeddingModelInstanceInfo
    from lmstudio_async._wire._infos import LlmInfo as LlmInfo
    from lmstudio_async._wire._infos import LlmInstanceInfo as LlmInstanceInfo
    from lmstudio_async._wire._infos import ModelInfo as ModelInfo
    from lmstudio_async._wire._infos import ModelInstanceInfo as ModelInstanceInfo
    from lmstudio_async._wire._infos import Quantization as Quantization
    from lmstudio_async._wire._models import ModelQuery as ModelQuery
    from lmstudio_async._wire._predict import LlmPredictionFragment as LlmPredictionFragment
    from lmstudio_async._wire._predict import LlmPredictionStats as LlmPredictionStats
    from lmstudio_async._wire._predict import TokenCandidate as TokenCandidate
    from lmstudio_async._wire._predict import TokenInfo as TokenInfo
    from lmstudio_async.embedded._server import EmbeddedServer as EmbeddedServer
    from lmstudio_async.errors import LMStudioAuthenticationError as LMStudioAuthenticationError
    from lmstudio_async.errors import LMStudioCancelledError as LMStudioCancelledError
    from lmstudio_async.errors import LMStudioChannelClosedError as LMStudioChannelClosedError
    from lmstudio_async.errors import LMStudioClientError as LMStudioClientError
    from lmstudio_async.errors import LMStudioConfigError as LMStudioConfigError
    from lmstudio_async.errors import LMStudioConnectionBrokenError as LMStudioConnectionBrokenError
    from lmstudio_async.errors import LMStudioConnectionClosedError as LMStudioConnectionClosedError
    from lmstudio_async.errors import LMStudioDomainMismatchError as LMStudioDomainMismatchError
    from lmstudio_async.errors import LMStudioError as LMStudioError
    from lmstudio_async.errors import LMStudioIdentifierInUseError as LMStudioIdentifierInUseError
    from lmstudio_async.errors import LMStudioInstanceUnloadedError as LMStudioInstanceUnloadedError
    from lmstudio_async.errors import LMStudioMissingRuntimeError as LMStudioMissingRuntimeError
    from lmstudio_async.errors import LMStudioModelNotFoundError as LMStudioModelNotFoundError
    from lmstudio_async.errors import LMStudioOSError as LMStudioOSError
    from lmstudio_async.errors import LMStudioPredictionError as LMStudioPredictionError
    from lmstudio_async.errors import LMStudioPresetNotFoundError as LMStudioPresetNotFoundError
    from lmstudio_async.errors import LMStudioProtocolError as LMStudioProtocolError
    from lmstudio_async.errors import LMStudioRuntimeError as LMStudioRuntimeError
    from lmstudio_async.errors import LMStudioServerError as LMStudioServerError
    from lmstudio_async.errors import LMStudioTimeoutError as LMStudioTimeoutError
    from lmstudio_async.errors import LMStudioUnknownMessageWarning as LMStudioUnknownMessageWarning
    from lmstudio_async.errors import LMStudioUnreachableError as LMStudioUnreachableError
    from lmstudio_async.errors import LMStudioUnsupportedFeatureError as LMStudioUnsupportedFeatureError
    from lmstudio_async.errors import LMStudioValueError as LMStudioValueError
    from lmstudio_async.errors import LMStudioWebsocketError as LMStudioWebsocketError

__all__ = [
    "AsyncClient",
    "AsyncDownloadedEmbeddingModel",
    "AsyncDownloadedLlm",
    "AsyncDownloadedModel",
    "AsyncEmbeddingModel",
    "AsyncEmbeddingNamespace",
    "AsyncLLM",
    "AsyncLlmNamespace",
    "AsyncLoadStream",
    "AsyncModelHandle",
    "AsyncModelNamespace",
    "AsyncOperation",
    "AsyncPredictionStream",
    "AsyncSystemNamespace",
    "ChatInput",
    "EmbeddedServer",
    "EmbeddingLoadModelConfig",
    "EmbeddingLoadModelConfigDict",
    "EmbeddingModelInfo",
    "EmbeddingModelInstanceInfo",
    "GpuSetting",
    "GpuSettingDict",
    "LMStudioAuthenticationError",
    "LMStudioCancelledError",
    "LMStudioChannelClosedError",
    "LMStudioClientError",
    "LMStudioConfigError",
    "LMStudioConnectionBrokenError",
    "LMStudioConnectionClosedError",
    "LMStudioDomainMismatchError",
    "LMStudioError",
    "LMStudioIdentifierInUseError",
    "LMStudioInstanceUnloadedError",
    "LMStudioMissingRuntimeError",
    "LMStudioModelNotFoundError",
    "LMStudioOSError",
    "LMStudioPredictionError",
    "LMStudioPresetNotFoundError",
    "LMStudioProtocolError",
    "LMStudioRuntimeError",
    "LMStudioServerError",
    "LMStudioTimeoutError",
    "LMStudioUnknownMessageWarning",
    "LMStudioUnreachableError",
    "LMStudioUnsupportedFeatureError",
    "LMStudioValueError",
    "LMStudioWebsocketError",
    "LlmInfo",
    "LlmInstanceInfo",
    "LlmLoadModelConfig",
    "LlmLoadModelConfigDict",
    "LlmPredictionConfig",
    "LlmPredictionConfigDict",
    "LlmPredictionFragment",
    "LlmPredictionStats",
    "LoadProgress",
    "ModelInfo",
    "ModelInstanceInfo",
    "ModelLoadingCallback",
    "ModelQuery",
    "PredictionResult",
    "Quantization",
    "TokenCandidate",
    "TokenInfo",
]

_WHERE = {
    "_chat": ("ChatInput",),
    "_client": ("AsyncClient",),
    "_config": (
        "EmbeddingLoadModelConfig",
        "EmbeddingLoadModelConfigDict",
        "GpuSetting",
        "GpuSettingDict",
        "LlmLoadModelConfig",
        "LlmLoadModelConfigDict",
        "LlmPredictionConfig",
        "LlmPredictionConfigDict",
    ),
    "_embedding": (
        "AsyncDownloadedEmbeddingModel",
        "AsyncEmbeddingModel",
        "AsyncEmbeddingNamespace",
    ),
    "_handles": ("AsyncModelHandle",),
    "_llm": (
        "AsyncDownloadedLlm",
        "AsyncLLM",
        "AsyncLlmNamespace",
    ),
    "_loading": (
        "AsyncLoadStream",
        "LoadProgress",
    ),
    "_models": (
        "AsyncDownloadedModel",
        "AsyncModelNamespace",
        "ModelLoadingCallback",
    ),
    "_operations": ("AsyncOperation",),
    "_predicting": (
        "AsyncPredictionStream",
        "PredictionResult",
    ),
    "_system": ("AsyncSystemNamespace",),
    "_wire._infos": (
        "EmbeddingModelInfo",
        "EmbeddingModelInstanceInfo",
        "LlmInfo",
        "LlmInstanceInfo",
        "ModelInfo",
        "ModelInstanceInfo",
        "Quantization",
    ),
    "_wire._models": ("ModelQuery",),
    "_wire._predict": (
        "LlmPredictionFragment",
        "LlmPredictionStats",
        "TokenCandidate",
        "TokenInfo",
    ),
    "embedded._server": ("EmbeddedServer",),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    if isinstance(value, type) and not value.__annotations__:
        # Tracebacks show where users find it. What has annotations keeps the module where they can be resolved.
        value.__module__ = __name__
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
