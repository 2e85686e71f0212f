"""The configs as plain dicts, for editors and type checkers.

Each key stands here in both its spellings, so that ``{"contextLength": 8192}`` (as LM Studio's documentation
writes it) type-checks like ``{"context_length": 8192}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from lmstudio_async._config._types import (
    CacheQuantization,
    ContextOverflowPolicy,
    GpuSetting,
    Off,
    Ratio,
    SplitStrategy,
    ToolChoiceMode,
    ToolNaming,
)

__all__ = [
    "EmbeddingLoadModelConfigDict",
    "GpuSettingDict",
    "LlmLoadModelConfigDict",
    "LlmPredictionConfigDict",
]


class JinjaTemplateDict(TypedDict):
    """A chat template in Jinja."""

    template: str


class LoadPromptTemplateDict(TypedDict, total=False):
    """The chat template that a model is loaded with."""

    type: Literal["jinja"]
    jinja_prompt_template: JinjaTemplateDict
    jinjaPromptTemplate: JinjaTemplateDict


class MlxKvCacheQuantizationDict(TypedDict, total=False):
    """Quantization of MLX's KV cache."""

    enabled: bool
    bits: Literal[8, 6, 4, 3, 2]
    group_size: Literal[32, 64, 128]
    groupSize: Literal[32, 64, 128]
    quantized_start: int
    quantizedStart: int


class LlamaCppArgumentDict(TypedDict):
    """An argument for llama.cpp; an empty value passes the key alone."""

    key: str
    value: str


class LlamaCppArgumentsOverrideDict(TypedDict, total=False):
    """Changes to the arguments that llama.cpp is started with."""

    enabled: bool
    disabled_parameters: Sequence[str]
    disabledParameters: Sequence[str]
    override_parameters: Sequence[LlamaCppArgumentDict]
    overrideParameters: Sequence[LlamaCppArgumentDict]
    exclude_all_config: bool
    excludeAllConfig: bool


class StructuredDict(TypedDict, total=False):
    """Format of an answer."""

    type: Literal["none", "json", "gbnf"]
    json_schema: Any
    jsonSchema: Any
    gbnf_grammar: str
    gbnfGrammar: str


class RawToolsDict(TypedDict, total=False):
    """The tools that are described to a model."""

    type: Literal["none", "toolArray"]
    tools: Sequence[Mapping[str, Any]]
    force: bool


class ToolChoiceDict(TypedDict):
    """Whether a model uses tools, in wire form."""

    type: Literal["generic"]
    mode: ToolChoiceMode


class ReasoningParsingDict(TypedDict, total=False):
    """Separation of a model's reasoning from its answer."""

    enabled: bool
    start_string: str
    startString: str
    end_string: str
    endString: str


class ManualPromptTemplateDict(TypedDict, total=False):
    """A prompt made by putting strings around messages. All six are needed."""

    before_system: str
    beforeSystem: str
    after_system: str
    afterSystem: str
    before_user: str
    beforeUser: str
    after_user: str
    afterUser: str
    before_assistant: str
    beforeAssistant: str
    after_assistant: str
    afterAssistant: str


class PromptTemplateDict(TypedDict, total=False):
    """Template that makes a prompt out of a chat."""

    type: Literal["manual", "jinja"]
    stop_strings: Sequence[str]
    stopStrings: Sequence[str]
    manual_prompt_template: ManualPromptTemplateDict
    manualPromptTemplate: ManualPromptTemplateDict
    jinja_prompt_template: JinjaTemplateDict
    jinjaPromptTemplate: JinjaTemplateDict


class GpuSettingDict(TypedDict, total=False):
    """:class:`GpuSetting` as a dict."""

    ratio: Ratio | None
    num_cpu_expert_layers_ratio: Ratio | None
    numCpuExpertLayersRatio: Ratio | None
    main_gpu: int | None
    mainGpu: int | None
    split_strategy: SplitStrategy | None
    splitStrategy: SplitStrategy | None
    disabled_gpus: Sequence[int] | None
    disabledGpus: Sequence[int] | None


class EmbeddingLoadModelConfigDict(TypedDict, total=False):
    """:class:`EmbeddingLoadModelConfig` as a dict."""

    gpu: GpuSetting | GpuSettingDict | None
    context_length: int | None
    contextLength: int | None
    rope_frequency_base: float | Off | None
    ropeFrequencyBase: float | Off | None
    rope_frequency_scale: float | Off | None
    ropeFrequencyScale: float | Off | None
    keep_model_in_memory: bool | None
    keepModelInMemory: bool | None
    try_mmap: bool | None
    tryMmap: bool | None
    extra: Mapping[str, Any] | None


class LlmLoadModelConfigDict(TypedDict, total=False):
    """:class:`LlmLoadModelConfig` as a dict."""

    gpu: GpuSetting | GpuSettingDict | None
    context_length: int | None
    contextLength: int | None
    auto_fit: bool | None
    autoFit: bool | None
    max_parallel_predictions: int | None
    maxParallelPredictions: int | None
    use_unified_kv_cache: bool | None
    useUnifiedKvCache: bool | None
    gpu_strict_vram_cap: bool | None
    gpuStrictVramCap: bool | None
    offload_kv_cache_to_gpu: bool | None
    offloadKVCacheToGpu: bool | None
    eval_batch_size: int | None
    evalBatchSize: int | None
    physical_batch_size: int | None
    physicalBatchSize: int | None
    flash_attention: bool | None
    flashAttention: bool | None
    context_checkpoints: int | None
    contextCheckpoints: int | None
    keep_model_in_memory: bool | None
    keepModelInMemory: bool | None
    try_mmap: bool | None
    tryMmap: bool | None
    try_direct_io: bool | None
    tryDirectIO: bool | None
    seed: int | Off | None
    num_experts: int | None
    numExperts: int | None
    use_fp16_for_kv_cache: bool | None
    useFp16ForKVCache: bool | None
    llama_k_cache_quantization_type: CacheQuantization | Off | None
    llamaKCacheQuantizationType: CacheQuantization | Off | None
    llama_v_cache_quantization_type: CacheQuantization | Off | None
    llamaVCacheQuantizationType: CacheQuantization | Off | None
    rope_frequency_base: float | Off | None
    ropeFrequencyBase: float | Off | None
    rope_frequency_scale: float | Off | None
    ropeFrequencyScale: float | Off | None
    prompt_template: LoadPromptTemplateDict | None
    promptTemplate: LoadPromptTemplateDict | None
    reasoning_budget_message: str | None
    reasoningBudgetMessage: str | None
    speculative_draft_mtp: bool | None
    speculativeDraftMtp: bool | None
    speculative_draft_simple: bool | None
    speculativeDraftSimple: bool | None
    speculative_draft_model: str | None
    speculativeDraftModel: str | None
    speculative_draft_max_tokens: int | None
    speculativeDraftMaxTokens: int | None
    speculative_draft_min_tokens: int | None
    speculativeDraftMinTokens: int | None
    speculative_draft_min_continue_probability: float | None
    speculativeDraftMinContinueProbability: float | None
    llama_cpp_arguments_override: LlamaCppArgumentsOverrideDict | Off | None
    llamaCppArgumentsOverride: LlamaCppArgumentsOverrideDict | Off | None
    mlx_disk_cache: bool | None
    mlxDiskCache: bool | None
    mlx_kv_cache_quantization: MlxKvCacheQuantizationDict | Off | None
    mlxKvCacheQuantization: MlxKvCacheQuantizationDict | Off | None
    extra: Mapping[str, Any] | None


class LlmPredictionConfigDict(TypedDict, total=False):
    """:class:`LlmPredictionConfig` as a dict."""

    max_tokens: int | Off | None
    maxTokens: int | Off | None
    temperature: float | None
    stop_strings: Sequence[str] | None
    stopStrings: Sequence[str] | None
    context_overflow_policy: ContextOverflowPolicy | None
    contextOverflowPolicy: ContextOverflowPolicy | None
    structured: StructuredDict | None
    top_k_sampling: float | None
    topKSampling: float | None
    top_p_sampling: float | Off | None
    topPSampling: float | Off | None
    min_p_sampling: float | Off | None
    minPSampling: float | Off | None
    repeat_penalty: float | Off | None
    repeatPenalty: float | Off | None
    presence_penalty: float | Off | None
    presencePenalty: float | Off | None
    xtc_probability: float | Off | None
    xtcProbability: float | Off | None
    xtc_threshold: float | Off | None
    xtcThreshold: float | Off | None
    log_probs: int | Off | None
    logProbs: int | Off | None
    cpu_threads: int | None
    cpuThreads: int | None
    enable_thinking: bool | None
    enableThinking: bool | None
    reasoning_budget: int | Off | None
    reasoningBudget: int | Off | None
    reasoning_parsing: ReasoningParsingDict | Off | None
    reasoningParsing: ReasoningParsingDict | Off | None
    raw_tools: RawToolsDict | None
    rawTools: RawToolsDict | None
    tool_choice: ToolChoiceMode | ToolChoiceDict | None
    toolChoice: ToolChoiceMode | ToolChoiceDict | None
    tool_naming: ToolNaming | None
    toolNaming: ToolNaming | None
    tool_call_stop_strings: Sequence[str] | None
    toolCallStopStrings: Sequence[str] | None
    prompt_template: PromptTemplateDict | None
    promptTemplate: PromptTemplateDict | None
    draft_model: str | None
    draftModel: str | None
    speculative_decoding_num_draft_tokens_exact: int | None
    speculativeDecodingNumDraftTokensExact: int | None
    speculative_decoding_min_draft_length_to_consider: int | None
    speculativeDecodingMinDraftLengthToConsider: int | None
    speculative_decoding_min_continue_drafting_probability: float | None
    speculativeDecodingMinContinueDraftingProbability: float | None
    user_max_image_dimension_pixels: int | Off | None
    userMaxImageDimensionPixels: int | Off | None
    ignore_model_preferred_max_image_dimension: bool | None
    ignoreModelPreferredMaxImageDimension: bool | None
    raw: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None
