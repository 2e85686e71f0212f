"""The configs that models are loaded with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from lmstudio_async._config._dicts import (
    GpuSettingDict,
    LlamaCppArgumentsOverrideDict,
    LoadPromptTemplateDict,
    MlxKvCacheQuantizationDict,
)
from lmstudio_async._config._types import CacheQuantization, GpuSetting, Off, Settings

__all__ = ["EmbeddingLoadModelConfig", "LlmLoadModelConfig"]


def _as_gpu(value: GpuSetting | GpuSettingDict | None) -> GpuSetting | None:
    return GpuSetting.from_dict(value) if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True, repr=False)
class EmbeddingLoadModelConfig(Settings):
    """Load config of an embedding model.

    Every setting is optional; ``None``, the default, leaves it to the server, which uses the user's setting for the
    model, the model's own preference, or the *server's default* given below. A plain dict with the same keys
    (or their camelCase spellings) is accepted wherever this class is.

    :param gpu: how the work is spread over CPU and GPUs.
    :param context_length: how many tokens fit into one input; at least 1. Server's default: 2048, or the model's.
    :param rope_frequency_base: base frequency of the rotary position encoding; ``False``: the model's own.
        Server's default: the model's own.
    :param rope_frequency_scale: scale of the rotary position encoding; ``False``: the model's own.
        Server's default: the model's own.
    :param keep_model_in_memory: keep the operating system from swapping the model out. Server's default: ``True``.
    :param try_mmap: map the model's file into memory instead of reading it, if possible.
        Server's default: ``True``.
    :param extra: settings that have no parameter here, by their wire key. In a config that a server reported, these
        are the settings that this version does not know; they are sent back unchanged. The parameters above take
        precedence.

    Example::

        config = EmbeddingLoadModelConfig(context_length=512, gpu=GpuSetting(ratio="off"))
        model = await client.embedding.load_new_instance("nomic-embed-text-v1.5", config=config)
    """

    _title: ClassVar[str] = "load config of an embedding model"

    gpu: GpuSetting | None = attrs.field(default=None, converter=_as_gpu)
    context_length: int | None = None
    rope_frequency_base: float | Off | None = None
    rope_frequency_scale: float | Off | None = None
    keep_model_in_memory: bool | None = None
    try_mmap: bool | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class LlmLoadModelConfig(Settings):
    """Load config of an LLM.

    Every setting is optional; ``None``, the default, leaves it to the server, which uses the user's setting for the
    model, the model's own preference, or the *server's default* given below. A plain dict with the same keys
    (or their camelCase spellings) is accepted wherever this class is. LM Studio ignores settings that the
    model's engine does not have; the embedded server refuses them.

    :param gpu: how the work is spread over CPU and GPUs.
    :param context_length: how many tokens fit into the context, prompt and answer together; at least 1.
        Server's default: 2048, or the user's setting.
    :param auto_fit: let the server choose context length and placement by the free memory. If it is not set, each of
        ``context_length``, ``gpu_strict_vram_cap``, ``gpu.ratio``, ``gpu.main_gpu``, ``gpu.split_strategy`` and
        ``gpu.num_cpu_expert_layers_ratio`` switches it off, because they have no effect together with it.
    :param max_parallel_predictions: how many predictions run at once, from 1 to 1023; others wait.
        Server's default: 4.
    :param use_unified_kv_cache: parallel predictions share one KV cache, which saves memory; ``False`` gives each
        of them the whole context length. Server's default: ``True``.
    :param gpu_strict_vram_cap: never put more on the GPU than its own memory holds. Server's default: ``False``.
    :param offload_kv_cache_to_gpu: keep the KV cache in the GPU's memory. Server's default: ``True``.
    :param eval_batch_size: how many tokens of a prompt are processed together; at least 1. More is faster and
        needs more memory. Server's default: 2048 (512 before LM Studio 0.4).
    :param physical_batch_size: how many of these tokens the engine computes at a time; at least 1.
        Server's default: 512.
    :param flash_attention: compute attention the fast way that needs less memory. Server's default: ``False``.
    :param context_checkpoints: how many checkpoints of the context the engine keeps for each parallel prediction;
        0 keeps none. Server's default: 32.
    :param keep_model_in_memory: keep the operating system from swapping the model out. Server's default: ``True``.
    :param try_mmap: map the model's file into memory instead of reading it, if possible.
        Server's default: ``True``.
    :param try_direct_io: read the model's file past the operating system's cache, if possible.
        Server's default: ``False``.
    :param seed: seed of the random numbers that predictions use, -1 or more; ``False``: a new one each time.
        Server's default: ``False``.
    :param num_experts: how many experts of a mixture-of-experts model are active; 0: the model's own number.
        Server's default: 0.
    :param use_fp16_for_kv_cache: keep the KV cache in 16 bits instead of 32. Server's default: ``True``.
    :param llama_k_cache_quantization_type: type of the keys in llama.cpp's KV cache, such as ``"q8_0"``;
        ``False``: not quantized. Server's default: ``False``.
    :param llama_v_cache_quantization_type: the same for the values; quantizing these needs ``flash_attention``.
        Server's default: ``False``.
    :param rope_frequency_base: base frequency of the rotary position encoding; ``False``: the model's own.
        Server's default: the model's own.
    :param rope_frequency_scale: scale of the rotary position encoding; ``False``: the model's own.
        Server's default: the model's own.
    :param prompt_template: chat template instead of the model's own:
        ``{"type": "jinja", "jinja_prompt_template": {"template": "…"}}``.
    :param reasoning_budget_message: text that llama.cpp inserts when it ends reasoning at the end of its budget.
        Server's default: nothing.
    :param speculative_draft_mtp: draft tokens with the model's own multi-token-prediction heads.
        Server's default: ``False``.
    :param speculative_draft_simple: draft tokens with ``speculative_draft_model``. Server's default: ``False``.
    :param speculative_draft_model: model key of the draft model. Server's default: none.
    :param speculative_draft_max_tokens: how many tokens are drafted at most. Server's default: 3.
    :param speculative_draft_min_tokens: minimum length of a draft; a shorter one is not verified. Server's default: 0.
    :param speculative_draft_min_continue_probability: how probable, from 0 to 1, a drafted token must be for
        drafting to go on. Server's default: 0.
    :param llama_cpp_arguments_override: changes to the arguments of llama.cpp, for experts: a dict of
        ``disabled_parameters``, ``override_parameters`` (each ``{"key": …, "value": …}``) and
        ``exclude_all_config``; ``False``: no changes. Server's default: ``False``.
    :param mlx_disk_cache: keep MLX's reusable prompt states on disk. Server's default: ``True``.
    :param mlx_kv_cache_quantization: how MLX quantizes its KV cache: a dict of ``bits`` (8, 6, 4, 3 or 2;
        default 8), ``group_size`` (32, 64 or 128; default 64) and ``quantized_start`` (the first token that is
        quantized; default 5000); ``False``: not at all. Server's default: ``False``.
    :param extra: settings that have no parameter here, by their wire key. In a config that a server reported, these
        are the settings that this version does not know; they are sent back unchanged. The parameters above take
        precedence.

    Example::

        config = LlmLoadModelConfig(context_length=8192, gpu={"ratio": 0.5})
        model = await client.llm.load_new_instance("llama-3.2-1b-instruct", config=config)
    """

    _title: ClassVar[str] = "load config of an LLM"

    gpu: GpuSetting | None = attrs.field(default=None, converter=_as_gpu)
    context_length: int | None = None
    auto_fit: bool | None = None
    max_parallel_predictions: int | None = None
    use_unified_kv_cache: bool | None = None
    gpu_strict_vram_cap: bool | None = None
    offload_kv_cache_to_gpu: bool | None = None
    eval_batch_size: int | None = None
    physical_batch_size: int | None = None
    flash_attention: bool | None = None
    context_checkpoints: int | None = None
    keep_model_in_memory: bool | None = None
    try_mmap: bool | None = None
    try_direct_io: bool | None = None
    seed: int | Off | None = None
    num_experts: int | None = None
    use_fp16_for_kv_cache: bool | None = None
    llama_k_cache_quantization_type: CacheQuantization | Off | None = None
    llama_v_cache_quantization_type: CacheQuantization | Off | None = None
    rope_frequency_base: float | Off | None = None
    rope_frequency_scale: float | Off | None = None
    prompt_template: LoadPromptTemplateDict | None = None
    reasoning_budget_message: str | None = None
    speculative_draft_mtp: bool | None = None
    speculative_draft_simple: bool | None = None
    speculative_draft_model: str | None = None
    speculative_draft_max_tokens: int | None = None
    speculative_draft_min_tokens: int | None = None
    speculative_draft_min_continue_probability: float | None = None
    llama_cpp_arguments_override: LlamaCppArgumentsOverrideDict | Off | None = None
    mlx_disk_cache: bool | None = None
    mlx_kv_cache_quantization: MlxKvCacheQuantizationDict | Off | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
