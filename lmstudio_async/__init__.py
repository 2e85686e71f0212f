"""The async SDK for LM Studio: load, access and unload models, watch the loading, and use them.

::

    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        llm = await client.llm.load_new_instance("llama-3.2-1b-instruct", "my-llama", ttl=3600)
        print(await llm.respond("What is the meaning of life?"))
        await llm.unload()

Works on asyncio and on trio. Each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._lazy_exports import export_lazily

if TYPE_CHECKING or not export_lazily(__name__):
    from lmstudio_async._act import ActResult as ActResult
    from lmstudio_async._act import PredictionRoundResult as PredictionRoundResult
    from lmstudio_async._chat import Chat as Chat
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
    from lmstudio_async._download import AsyncDownloadStream as AsyncDownloadStream
    from lmstudio_async._download import DownloadProgressUpdate as DownloadProgressUpdate
    from lmstudio_async._download_choice import DownloadName as DownloadName
    from lmstudio_async._downloaded_model import AsyncDownloadedModel as AsyncDownloadedModel
    from lmstudio_async._embedding import AsyncDownloadedEmbeddingModel as AsyncDownloadedEmbeddingModel
    from lmstudio_async._embedding import AsyncEmbeddingModel as AsyncEmbeddingModel
    from lmstudio_async._embedding import AsyncEmbeddingNamespace as AsyncEmbeddingNamespace
    from lmstudio_async._ensure_stream import AsyncEnsureStream as AsyncEnsureStream
    from lmstudio_async._files_namespace import AsyncFilesNamespace as AsyncFilesNamespace
    from lmstudio_async._files_namespace import LocalFileInput as LocalFileInput
    from lmstudio_async._handles import AsyncModelHandle as AsyncModelHandle
    from lmstudio_async._instance_events import InstanceChanged as InstanceChanged
    from lmstudio_async._instance_events import InstanceEvent as InstanceEvent
    from lmstudio_async._instance_events import InstanceLoaded as InstanceLoaded
    from lmstudio_async._instance_events import InstanceLoadFailed as InstanceLoadFailed
    from lmstudio_async._instance_events import InstanceLoading as InstanceLoading
    from lmstudio_async._instance_events import InstancePresent as InstancePresent
    from lmstudio_async._instance_events import InstanceUnloaded as InstanceUnloaded
    from lmstudio_async._instance_events import ServerBack as ServerBack
    from lmstudio_async._instance_events import ServerLost as ServerLost
    from lmstudio_async._instance_events import UnloadReason as UnloadReason
    from lmstudio_async._instance_status import InstanceStatus as InstanceStatus
    from lmstudio_async._instance_watch import AsyncInstanceWatch as AsyncInstanceWatch
    from lmstudio_async._llm import AsyncDownloadedLlm as AsyncDownloadedLlm
    from lmstudio_async._llm import AsyncLLM as AsyncLLM
    from lmstudio_async._llm import AsyncLlmNamespace as AsyncLlmNamespace
    from lmstudio_async._load import AsyncLoadStream as AsyncLoadStream
    from lmstudio_async._load_feed import LoadProgress as LoadProgress
    from lmstudio_async._messages import AnyChatMessage as AnyChatMessage
    from lmstudio_async._model_namespace import AsyncModelNamespace as AsyncModelNamespace
    from lmstudio_async._model_namespace import ModelLoadingCallback as ModelLoadingCallback
    from lmstudio_async._operations import AsyncOperation as AsyncOperation
    from lmstudio_async._prediction import AsyncPredictionStream as AsyncPredictionStream
    from lmstudio_async._prediction import PredictionFirstTokenCallback as PredictionFirstTokenCallback
    from lmstudio_async._prediction import PredictionFragmentCallback as PredictionFragmentCallback
    from lmstudio_async._prediction import PredictionMessageCallback as PredictionMessageCallback
    from lmstudio_async._prediction import PromptProcessingCallback as PromptProcessingCallback
    from lmstudio_async._prediction_result import PredictionResult as PredictionResult
    from lmstudio_async._progress_bar import progress_bar as progress_bar
    from lmstudio_async._repository_namespace import AsyncAvailableModel as AsyncAvailableModel
    from lmstudio_async._repository_namespace import AsyncModelDownloadOption as AsyncModelDownloadOption
    from lmstudio_async._repository_namespace import AsyncRepositoryNamespace as AsyncRepositoryNamespace
    from lmstudio_async._repository_namespace import DownloadFinalizedCallback as DownloadFinalizedCallback
    from lmstudio_async._repository_namespace import DownloadProgressCallback as DownloadProgressCallback
    from lmstudio_async._response_format import BaseModel as BaseModel
    from lmstudio_async._response_format import DictSchema as DictSchema
    from lmstudio_async._response_format import GbnfGrammar as GbnfGrammar
    from lmstudio_async._response_format import ModelSchema as ModelSchema
    from lmstudio_async._response_format import ResponseFormat as ResponseFormat
    from lmstudio_async._system_namespace import AsyncSystemNamespace as AsyncSystemNamespace
    from lmstudio_async._template_options import (
        ApplyPromptTemplateOptionsDict as ApplyPromptTemplateOptionsDict,
    )
    from lmstudio_async._tool_call_reporter import ToolCallProgress as ToolCallProgress
    from lmstudio_async._tool_call_reporter import ToolCallProgressCallback as ToolCallProgressCallback
    from lmstudio_async._tool_calls import GuardToolCallHandler as GuardToolCallHandler
    from lmstudio_async._tool_calls import InvalidToolRequestHandler as InvalidToolRequestHandler
    from lmstudio_async._tools import ToolDefinition as ToolDefinition
    from lmstudio_async._tools import ToolFunctionDef as ToolFunctionDef
    from lmstudio_async._tools import ToolFunctionDefDict as ToolFunctionDefDict
    from lmstudio_async._tools import ToolParamDefDict as ToolParamDefDict
    from lmstudio_async._transport import ServerAddress as ServerAddress
    from lmstudio_async._wire._history import AssistantResponse as AssistantResponse
    from lmstudio_async._wire._history import FileHandle as FileHandle
    from lmstudio_async._wire._history import SystemPrompt as SystemPrompt
    from lmstudio_async._wire._history import TextData as TextData
    from lmstudio_async._wire._history import ToolCallRequestData as ToolCallRequestData
    from lmstudio_async._wire._history import ToolCallResultData as ToolCallResultData
    from lmstudio_async._wire._history import ToolResultMessage as ToolResultMessage
    from lmstudio_async._wire._history import UserMessage as UserMessage
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
    from lmstudio_async._wire._predict import ToolCallRequest as ToolCallRequest
    from lmstudio_async._wire._repository import DownloadOption as DownloadOption
    from lmstudio_async._wire._repository import ModelSearchResultIdentifier as ModelSearchResultIdentifier
    from lmstudio_async._wire._repository import SearchResult as SearchResult
    from lmstudio_async._wire._system import ServerInfo as ServerInfo
    from lmstudio_async._wire._system import ServerVersion as ServerVersion
    from lmstudio_async._wire._usage import MemoryEstimate as MemoryEstimate
    from lmstudio_async._wire._usage import ModelUsage as ModelUsage
    from lmstudio_async._wire._usage import ProcessingState as ProcessingState
    from lmstudio_async.embedded._server import EmbeddedServer as EmbeddedServer
    from lmstudio_async.errors import LMStudioAuthenticationError as LMStudioAuthenticationError
    from lmstudio_async.errors import LMStudioBacklogError as LMStudioBacklogError
    from lmstudio_async.errors import LMStudioCancelledError as LMStudioCancelledError
    from lmstudio_async.errors import LMStudioChannelClosedError as LMStudioChannelClosedError
    from lmstudio_async.errors import LMStudioClientError as LMStudioClientError
    from lmstudio_async.errors import LMStudioConfigError as LMStudioConfigError
    from lmstudio_async.errors import LMStudioConfigMismatchError as LMStudioConfigMismatchError
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
    from lmstudio_async.errors import LMStudioStructuredOutputError as LMStudioStructuredOutputError
    from lmstudio_async.errors import LMStudioTimeoutError as LMStudioTimeoutError
    from lmstudio_async.errors import LMStudioUnknownMessageWarning as LMStudioUnknownMessageWarning
    from lmstudio_async.errors import LMStudioUnreachableError as LMStudioUnreachableError
    from lmstudio_async.errors import LMStudioUnsupportedFeatureError as LMStudioUnsupportedFeatureError
    from lmstudio_async.errors import LMStudioValueError as LMStudioValueError
    from lmstudio_async.errors import LMStudioWebsocketError as LMStudioWebsocketError
